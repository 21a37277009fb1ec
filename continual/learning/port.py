"""What the rest of Perennial asks of a learner; `learners` has them by name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from perennial.continual.learning.names import LearnerName

if TYPE_CHECKING:
    from perennial.continual.learning.card import ModelCard
    from perennial.continual.learning.context import Context
    from perennial.continual.learning.encoder import Embedder
    from perennial.continual.learning.spec import JobSpec

__all__ = ["Learner", "Params"]

Params = dict[str, Any]  # of a training, as settings and job specs hold them


class Learner(Protocol):
    """One way to make a model out of rows. It keeps no state: a training starts from files and ends with files."""

    @property
    def name(self) -> LearnerName:
        """What settings, cards and the ledger call it."""
        ...

    @property
    def tunes_encoder(self) -> bool:
        """Whether a training changes the encoder; rows that went into it cannot be taken out again."""
        ...

    def params(self, configured: Mapping[str, Any], described: Mapping[str, str]) -> Params:
        """The params of a training: those configured, with the classes described by a sentence each."""
        ...

    def correction_params(self, configured: Mapping[str, Any]) -> Params:
        """The params with which the sums of a version that it made are corrected; no new class comes in by them."""
        ...

    def train(self, spec: "JobSpec", context: "Context", embedder: "Embedder | None" = None) -> "ModelCard":
        """Train what the spec says, in this process, and return the finished model's card.

        Raises:
            InputError: the spec or its files are wrong.
            TrainingFailed: there is nothing to learn from.
            Cancelled: the context was told to stop.
        """
        ...
