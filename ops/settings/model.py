"""One served model, and what may be wrong with its section."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.names import AUTO_ENCODER, LEARNERS_OF, LearnerName, default_learner
from perennial.continual.preparation import admit_name
from perennial.continual.tasks import DEFAULT_TASK, TASKS, learns_labels, reads_words, task_named
from perennial.ops.safety.secrecy import shown_problems
from perennial.ops.settings.cycle import CycleSettings
from perennial.ops.settings.drift import DriftWatchSettings
from perennial.ops.settings.fairness import FairnessSettings
from perennial.ops.settings.federation import FederationSettings
from perennial.ops.settings.generation import GenerationSettings
from perennial.ops.settings.headlines import EventWatchSettings, FeedSettings
from perennial.ops.settings.learning import EngineSettings, LearningSettings
from perennial.ops.settings.privacy import PrivacySettings
from perennial.ops.settings.reference import meant
from perennial.ops.settings.robustness import RobustnessSettings
from perennial.ops.settings.section import Section

__all__ = ["ModelSettings", "RefusedModel", "name_problem", "refused_models"]


_WITH_NOISE = ("text_classification", "opinion", "image_classification")  # tasks of labels, and of nothing beside them
_RANGED = ("auto", "int8", "fp8")  # precisions that are, or may be, scaled by what rows give
_STREAM = "_stream"  # behind a model's name: what sends its answers piece by piece


class ModelSettings(Section):
    """One served model with its own cycle, policy and buffer."""

    task: str = Field(DEFAULT_TASK, description="what the model is asked and how an answer is scored")
    learning: LearningSettings = Field(default_factory=LearningSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    drift: DriftWatchSettings = Field(default_factory=DriftWatchSettings)
    cycle: CycleSettings = Field(default_factory=CycleSettings)
    fairness: FairnessSettings = Field(default_factory=FairnessSettings)
    robustness: RobustnessSettings = Field(default_factory=RobustnessSettings)
    federation: FederationSettings = Field(default_factory=FederationSettings)
    privacy: PrivacySettings = Field(default_factory=PrivacySettings)
    generation: GenerationSettings = Field(default_factory=GenerationSettings)
    events: EventWatchSettings = Field(default_factory=EventWatchSettings)
    feeds: dict[str, FeedSettings] = Field(default_factory=dict, description="by a name of your own; of task opinion")
    policy: dict[str, Any] = Field(
        default_factory=lambda: {
            "kind": "any",
            "policies": [{"kind": "drift"}, {"kind": "gain"}, {"kind": "feedback_count", "at_least": 1_000}],
            "limits": {"cooldown_s": 600.0, "min_feedback": 100, "budget_per_day": 24},
        },
        description="trigger policy; see perennial.continual.policy",
    )

    @field_validator("task")
    @classmethod
    def _task_is_known(cls, task: str) -> str:
        try:
            return task_named(task).name
        except ConfigurationError as exc:
            raise ValueError(str(exc)) from exc

    @field_validator("policy")
    @classmethod
    def _policy_can_decide(cls, policy: dict[str, Any]) -> dict[str, Any]:
        """Refuse here what the loop could not begin with."""
        from perennial.continual.policy import parse_policy

        try:
            parse_policy(policy)
        except ConfigurationError as exc:
            raise ValueError(str(exc)) from exc
        return policy

    @model_validator(mode="after")
    def _learner_is_of_the_task(self) -> Self:
        """Take the task's own learner where none is named, and refuse one that makes other models."""
        if "learner" not in self.learning.model_fields_set:
            learning = self.learning.model_copy(update={"learner": default_learner(self.task)})
            object.__setattr__(self, "learning", learning)  # the section is frozen once it is made
        known = LEARNERS_OF[self.task]
        for learner in (self.learning.learner, self.learning.of_first_version().learner):
            if learner not in known:
                raise ValueError(
                    f"learner {learner.value!r} makes no models of task {self.task!r}; use one of {', '.join(known)}"
                )
        return self

    @model_validator(mode="after")
    def _attributes_are_of_labelled_rows(self) -> Self:
        """Refuse attributes that no row would keep."""
        if self.fairness.attributes and not learns_labels(self.task):
            raise ValueError(
                f"fairness.attributes declares {', '.join(self.fairness.attributes)}, and rows of task {self.task!r} "
                "keep none: only labelled rows do; take it out"
            )
        return self

    @model_validator(mode="after")
    def _noise_hides_all_that_is_learnt(self) -> Self:
        """Refuse a promise of privacy beside what rows would choose or teach without noise."""
        privacy, learning = self.privacy, self.learning
        if privacy.epsilon is None:
            return self
        if privacy.version_epsilon is not None and privacy.version_epsilon > privacy.epsilon:
            raise ValueError(
                f"privacy.version_epsilon {privacy.version_epsilon:g} is above privacy.epsilon {privacy.epsilon:g}, "
                "the budget of all versions; set it to that or less"
            )
        if self.task not in _WITH_NOISE:
            raise ValueError(
                f"privacy.epsilon is for models of task {' or '.join(_WITH_NOISE)}, and this one is of {self.task!r}"
            )
        if (learning.learner, learning.first_learner or learning.learner) != (LearnerName.KERNEL_LDA,) * 2:
            raise ValueError(
                f'privacy.epsilon needs learning.learner = "kernel_lda"; {learning.learner.value!r} has no noise'
            )
        if learning.encoder == AUTO_ENCODER:
            raise ValueError(
                "privacy.epsilon needs an encoder that is named: rows choose an automatic one without noise; set "
                "learning.encoder, e.g. packaged:minilm"
            )
        if self.engine.precision in _RANGED:
            raise ValueError(
                f"privacy.epsilon needs an engine whose ranges are not taken from rows, and engine.precision "
                f"{self.engine.precision!r} may be one that is; set fp32 or bf16"
            )
        return self

    @model_validator(mode="after")
    def _limits_on_texts_are_of_the_task(self) -> Self:
        """Refuse limits that nothing would hold: no text can be changed where rows are no labelled texts."""
        limits = {
            "robustness.most_lost_points": self.robustness.most_lost_points or None,
            "fairness.most_changed_by_names": self.fairness.most_changed_by_names,
            "fairness.most_changed_by_wording": self.fairness.most_changed_by_wording,
        }
        set_here = [name for name, limit in limits.items() if limit is not None]
        if set_here and not reads_words(self.task):
            raise ValueError(
                f"{', '.join(set_here)} limit what changed texts do, and a model of task {self.task!r} is asked about "
                "none; take them out"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedModel:
    """A model whose section cannot be used, with the reason. It goes on being served, by its task."""

    problem: str
    task: str


def refused_models(sections: Mapping[str, Any]) -> dict[str, RefusedModel]:
    """The sections that cannot be used, by the model's name."""
    found = {name: _section_problem(name, section, sections) for name, section in sections.items()}
    return {
        name: RefusedModel(problem=problem, task=_task_named_by(sections[name]))
        for name, problem in found.items()
        if problem
    }


def name_problem(name: str, names: Iterable[str]) -> str:
    """Why a model cannot be called so; empty where it can."""
    try:
        admit_name(name)
    except DataError as exc:
        return str(exc)
    if name.endswith("_engine"):
        return f"model name {name!r} must not end in '_engine', which names the versions' own model"
    if name.endswith(_STREAM) and name.removesuffix(_STREAM) in names:
        return f"model name {name!r} is that of the streams of {name.removesuffix(_STREAM)!r}; choose another"
    first = next(other for other in names if other.lower() == name.lower())
    return "" if first == name else f"model name {name!r} differs from {first!r} by its case alone; choose another"


def _section_problem(name: str, section: Any, names: Iterable[str]) -> str:
    """Why a model's section cannot be used; empty where it can."""
    if problem := name_problem(name, names):
        return f"models: {problem}"
    try:
        ModelSettings.model_validate(section)
    except ValidationError as exc:
        problems = shown_problems(exc, lambda place: meant(ModelSettings, place))
        return "; ".join(f"models.{name}.{problem}" for problem in problems)
    return ""


def _task_named_by(section: Any) -> str:
    """The task of a section that cannot be used: the one that it names, where that much of it is right."""
    task = section.get("task") if isinstance(section, dict) else None
    return task if isinstance(task, str) and task in TASKS else DEFAULT_TASK
