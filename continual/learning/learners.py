"""The learners by name, and what can be told of a version whichever of them made it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.card import COMPRESSED, ENCODER_INSIDE, PRIVACY
from perennial.continual.learning.names import LearnerName, default_learner
from perennial.continual.learning.port import Learner, Params
from perennial.continual.learning.trained import STATISTICS_FILE
from perennial.continual.task import AnyRow

if TYPE_CHECKING:
    from perennial.continual.learning.card import ModelCard
    from perennial.continual.learning.context import Context
    from perennial.continual.learning.encoder import Embedder
    from perennial.continual.learning.spec import JobSpec

__all__ = [
    "LEARNERS",
    "chosen_learner",
    "learner_named",
    "learner_of_task",
    "outgrown",
    "sums_hold",
    "train_model",
]

_DESCRIPTIONS = "descriptions"  # classes and their sentences, among a head's params
_LEAST_ROWS = 20  # of a first version
_NO_WORDS = 8  # columns, as few as there can be; they weigh nothing


class _OfTexts:
    """What learners of labelled texts have in common."""

    __slots__ = ()

    task: ClassVar[str] = "text_classification"
    embeds: ClassVar[bool] = True
    corrector: ClassVar[LearnerName] = LearnerName.KERNEL_LDA
    """Takes rows out of sums, whichever closed form they are of and whoever tuned the encoder below."""

    def first_rows(self, rows: Sequence[AnyRow]) -> tuple[AnyRow, ...]:
        from perennial.continual.preparation import deduplicate

        texts: Sequence[Any] = rows
        different = deduplicate(texts).examples
        classes = len({row.target for row in different})
        if len(different) < _LEAST_ROWS or classes < 2:
            raise DataError(
                f"{len(different)} different rows with {classes} labels are too few for a first version "
                f"(at least {_LEAST_ROWS} rows and 2 labels); add labelled rows to the file"
            )
        return different

    def keys(self, rows: Iterable[AnyRow]) -> frozenset[int]:
        from perennial.continual.preparation import row_hash

        return frozenset(row_hash(row.input) for row in rows)

    def prove(self, spec: "JobSpec") -> None:
        from perennial.continual.learning.proof_answers import answer_holdout

        answer_holdout(spec)


@dataclass(frozen=True, slots=True)
class _ClosedForm(_OfTexts):
    """A head in closed form on an encoder that stays as it is: its sums are corrected exactly."""

    name: LearnerName
    tunes_encoder: ClassVar[bool] = False

    def params(self, configured: Mapping[str, Any], described: Mapping[str, str]) -> Params:
        return _with_descriptions(configured, described)

    def correction_params(self, configured: Mapping[str, Any]) -> Params:
        return {name: value for name, value in configured.items() if name != _DESCRIPTIONS}

    def train(self, spec: "JobSpec", context: "Context", embedder: "Embedder | None" = None) -> "ModelCard":
        from perennial.continual.learning.fast import train_fast
        from perennial.continual.learning.replies.training import train_matcher

        within = _without_words(_within_encoder(spec))
        if within.privacy is not None:
            from perennial.continual.learning.private import train_private

            return train_private(within, context, embedder)
        train_matcher(within, context, embedder)  # first: the card, which is written last, vouches for it too
        return train_fast(within, context, embedder)


@dataclass(frozen=True, slots=True)
class _FineTuning(_OfTexts):
    """Layers of the encoder learn too; the kernel head on it is rebuilt afterwards."""

    name: ClassVar[LearnerName] = LearnerName.FINETUNE
    tunes_encoder: ClassVar[bool] = True

    def params(self, configured: Mapping[str, Any], described: Mapping[str, str]) -> Params:
        if not described:
            return dict(configured)
        head = _with_descriptions(configured.get("head_settings", {}), described)
        return {**configured, "head_settings": head}

    def correction_params(self, configured: Mapping[str, Any]) -> Params:
        return {}  # those configured are for the fine-tuning, and its head keeps its own

    def train(self, spec: "JobSpec", context: "Context", embedder: "Embedder | None" = None) -> "ModelCard":
        from perennial.continual.learning.finetune import train_slow
        from perennial.continual.learning.replies.training import train_matcher

        within = _within_encoder(spec)
        card = train_slow(within, context)
        train_matcher(replace(within, encoder=str(spec.out / ENCODER_INSIDE)), context)
        return card


@dataclass(frozen=True, slots=True)
class _ItemGram:
    """Sums over what users did with items: a user's events are taken back exactly."""

    name: ClassVar[LearnerName] = LearnerName.ITEM_GRAM
    task: ClassVar[str] = "ranking"
    tunes_encoder: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    corrector: ClassVar[LearnerName] = LearnerName.ITEM_GRAM

    def params(self, configured: Mapping[str, Any], described: Mapping[str, str]) -> Params:
        return dict(configured)

    def correction_params(self, configured: Mapping[str, Any]) -> Params:
        return dict(configured)

    def first_rows(self, rows: Sequence[AnyRow]) -> tuple[AnyRow, ...]:
        items = {item for row in rows for item in row.target}
        if len(rows) < _LEAST_ROWS or len(items) < 2:
            raise DataError(
                f"{len(rows)} rows about {len(items)} items are too few for a first version "
                f"(at least {_LEAST_ROWS} rows and 2 items); add events to the file"
            )
        return tuple(rows)

    def keys(self, rows: Iterable[AnyRow]) -> frozenset[int]:
        from perennial.continual.learning.ranking import user_key

        return frozenset(user_key(row.input.user) for row in rows)

    def train(self, spec: "JobSpec", context: "Context", embedder: "Embedder | None" = None) -> "ModelCard":
        from perennial.continual.learning.ranking.training import train_ranking

        return train_ranking(spec, context)

    def prove(self, spec: "JobSpec") -> None:
        """The card has the figures; what was answered would tell whose rows they are."""


@dataclass(frozen=True, slots=True)
class _Rewriter:
    """An adapter beside a decoder's weights; what a row brought cannot be taken out again."""

    name: ClassVar[LearnerName] = LearnerName.REWRITER
    task: ClassVar[str] = "generation"
    tunes_encoder: ClassVar[bool] = True
    embeds: ClassVar[bool] = False
    corrector: ClassVar[LearnerName] = LearnerName.REWRITER

    def params(self, configured: Mapping[str, Any], described: Mapping[str, str]) -> Params:
        return dict(configured)

    def correction_params(self, configured: Mapping[str, Any]) -> Params:
        return dict(configured)

    def first_rows(self, rows: Sequence[AnyRow]) -> tuple[AnyRow, ...]:
        if not rows:
            raise DataError(
                "no approved reply is given; give a file with `approved`, and `accepted` where it was told otherwise"
            )
        return tuple(rows)

    def keys(self, rows: Iterable[AnyRow]) -> frozenset[int]:
        from perennial.continual.identity import number_of
        from perennial.continual.tasks.generation import Generation

        return frozenset(number_of(Generation().identity(row.input)) for row in rows)

    def train(self, spec: "JobSpec", context: "Context", embedder: "Embedder | None" = None) -> "ModelCard":
        from perennial.continual.learning.generation.training import train_rewriter

        return train_rewriter(spec, context)

    def prove(self, spec: "JobSpec") -> None:
        """The gate asks both versions itself."""


_CLOSED_FORMS: tuple[Learner, ...] = tuple(
    _ClosedForm(name) for name in (LearnerName.KERNEL_LDA, LearnerName.RIDGE, LearnerName.AUTO)
)
_ALL: tuple[Learner, ...] = (*_CLOSED_FORMS, _FineTuning(), _ItemGram(), _Rewriter())
LEARNERS: Mapping[LearnerName, Learner] = {learner.name: learner for learner in _ALL}


def learner_named(name: str) -> Learner:
    """The learner that settings, a card or the ledger name.

    Raises:
        ConfigurationError: there is none of that name.
    """
    try:
        return LEARNERS[LearnerName(name)]
    except ValueError:
        known = ", ".join(sorted(LEARNERS))
        raise ConfigurationError(f"learner {name!r} is unknown; use one of {known}") from None


def learner_of_task(task: str) -> Learner:
    """The learner that stands for all of a task's where any of them will do, such as for the keys of rows.

    Raises:
        ConfigurationError: the task has none.
    """
    return LEARNERS[default_learner(task)]


def chosen_learner(choice: str, params: Mapping[str, Any]) -> tuple[Learner, Params]:
    """The learner and its params for a name of the command line: a closed form, or a strategy of fine-tuning.

    Raises:
        ConfigurationError: there is neither a learner nor a strategy of that name.
    """
    for closed_form in _CLOSED_FORMS:
        if choice == closed_form.name:
            return closed_form, dict(params)
    from perennial.continual.learning.strategies import make_strategy

    make_strategy(choice)  # says which names there are
    return LEARNERS[LearnerName.FINETUNE], {"strategy": choice, **params}


def train_model(spec: "JobSpec", context: "Context", embedder: "Embedder | None" = None) -> "ModelCard":
    """Train by the learner that the spec names; see `Learner.train`."""
    return LEARNERS[spec.learner].train(spec, context, embedder)


def outgrown(
    card: "ModelCard", learner: str, params: Mapping[str, Any], *, rows: Callable[[], int], private: str | None = None
) -> bool:
    """Whether a closed form's sums should be made anew, from all of the rows that are stored.

    They hold what one closed form needs, and not what the other does. That is so where the settings name the other one.
    Where they leave the choice, a kernel LDA was the better one of few rows: once twice as many are there as when its
    settings were last chosen, both are tried again. A ridge is not left: what it lacks against the other vanishes with
    more rows. A model that was made smaller has no sums. `rows` counts them, and is asked only where that decides.

    Sums that were told with noise go on with noise alone, and others without. `private` is what carries the noise now,
    None where nothing does; gradients need every row each time.
    """
    if private == "gradients" or (private is None) != (PRIVACY not in card.settings):
        return True
    if card.settings.get(COMPRESSED):
        return learner in {LearnerName.AUTO, LearnerName.KERNEL_LDA, LearnerName.RIDGE}
    if card.head not in {LearnerName.KERNEL_LDA, LearnerName.RIDGE} or card.learner == LearnerName.FINETUNE:
        return False
    if learner != LearnerName.AUTO:
        return learner in {LearnerName.KERNEL_LDA, LearnerName.RIDGE} and learner != card.head
    from perennial.continual.learning.closed_form import GROWN

    chosen_at = int(card.settings.get("chosen_at", 0))  # 0: it was told, or is of a release that had no other form
    told = params.get("shrinkage") is not None
    return card.head == LearnerName.KERNEL_LDA and not told and chosen_at > 0 and GROWN * chosen_at <= rows()


def sums_hold(bundle: Path, rows: Collection[int]) -> bool:
    """Whether a bundle has learnt any of these rows, named by their hashes: in its sums, or its head after the proof.

    Raises:
        DataError: the sums, or the proof, cannot be read.
    """
    from perennial.continual.learning.sums import load_keys
    from perennial.continual.learning.trained import proof_keys

    statistics = bundle / STATISTICS_FILE
    held = load_keys(statistics) if statistics.is_file() else frozenset()
    return not (held | proof_keys(bundle)).isdisjoint(rows)


def _within_encoder(spec: "JobSpec") -> "JobSpec":
    """The job on texts cut where the encoder ends."""
    from perennial.continual.learning.encoder import resolve_encoder, usable_length

    return replace(spec, max_length=usable_length(resolve_encoder(spec.encoder), spec.max_length))


def _without_words(spec: "JobSpec") -> "JobSpec":
    """The job, of pictures without any weight of their names, which are no words."""
    if spec.images is None:
        return spec
    return replace(spec, params={**spec.params, "lexical": _NO_WORDS, "words": 0.0})


def _with_descriptions(configured: Mapping[str, Any], described: Mapping[str, str]) -> Params:
    """A sentence that was given later wins over the configured one."""
    return {**configured, _DESCRIPTIONS: {**configured.get(_DESCRIPTIONS, {}), **described}}
