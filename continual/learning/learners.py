"""The learners by name, and what can be told of a version whichever of them made it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.port import Learner, Params
from perennial.continual.learning.trained import STATISTICS_FILE

if TYPE_CHECKING:
    from perennial.continual.learning.card import ModelCard
    from perennial.continual.learning.context import Context
    from perennial.continual.learning.encoder import Embedder
    from perennial.continual.learning.spec import JobSpec

__all__ = ["CORRECTOR", "LEARNERS", "chosen_learner", "learner_named", "sums_hold", "train_model"]

_DESCRIPTIONS = "descriptions"  # classes and their sentences, among a head's params


@dataclass(frozen=True, slots=True)
class _ClosedForm:
    """A head in closed form on an encoder that stays as it is: its sums are corrected exactly."""

    name: LearnerName
    tunes_encoder: ClassVar[bool] = False

    def params(self, configured: Mapping[str, Any], described: Mapping[str, str]) -> Params:
        return _with_descriptions(configured, described)

    def correction_params(self, configured: Mapping[str, Any]) -> Params:
        return {name: value for name, value in configured.items() if name != _DESCRIPTIONS}

    def train(self, spec: "JobSpec", context: "Context", embedder: "Embedder | None" = None) -> "ModelCard":
        from perennial.continual.learning.fast import train_fast

        return train_fast(spec, context, embedder)


@dataclass(frozen=True, slots=True)
class _FineTuning:
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

        return train_slow(spec, context)


_CLOSED_FORMS: tuple[Learner, ...] = tuple(
    _ClosedForm(name) for name in (LearnerName.KERNEL_LDA, LearnerName.RIDGE, LearnerName.AUTO)
)
LEARNERS: Mapping[LearnerName, Learner] = {learner.name: learner for learner in (*_CLOSED_FORMS, _FineTuning())}
CORRECTOR = LEARNERS[LearnerName.KERNEL_LDA]
"""Takes rows out of the sums of a version, whichever closed form they are of and whoever tuned the encoder below."""


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
    """Train by the learner that the spec names, on texts cut where the encoder ends; see `Learner.train`."""
    from perennial.continual.learning.encoder import resolve_encoder, usable_length

    spec = replace(spec, max_length=usable_length(resolve_encoder(spec.encoder), spec.max_length))
    return LEARNERS[spec.learner].train(spec, context, embedder)


def sums_hold(bundle: Path, rows: Collection[int]) -> bool:
    """Whether the sums that a bundle holds were made with any of these rows, named by their hashes.

    Raises:
        DataError: the sums cannot be read.
    """
    from perennial.continual.learning.sums import load_keys

    statistics = bundle / STATISTICS_FILE
    return statistics.is_file() and not load_keys(statistics).isdisjoint(rows)


def _with_descriptions(configured: Mapping[str, Any], described: Mapping[str, str]) -> Params:
    """A sentence that was given later wins over the configured one."""
    return {**configured, _DESCRIPTIONS: {**configured.get(_DESCRIPTIONS, {}), **described}}
