"""What the rest of Perennial asks of a learner; `learners` has them by name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from perennial.continual.learning.names import LearnerName
from perennial.continual.task import AnyRow

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
    def task(self) -> str:
        """The task of the models that it makes."""
        ...

    @property
    def tunes_encoder(self) -> bool:
        """Whether a training changes the encoder; rows that went into it cannot be taken out again."""
        ...

    @property
    def embeds(self) -> bool:
        """Whether a training embeds the rows' texts, so that embeddings made earlier save it work."""
        ...

    @property
    def corrector(self) -> LearnerName:
        """The learner that takes rows out of the sums of a version that this one made."""
        ...

    def params(self, configured: Mapping[str, Any], described: Mapping[str, str]) -> Params:
        """The params of a training: those configured, with the classes described by a sentence each."""
        ...

    def correction_params(self, configured: Mapping[str, Any]) -> Params:
        """The params with which the sums of a version that it made are corrected; no new class comes in by them."""
        ...

    def first_rows(self, rows: Sequence[AnyRow]) -> tuple[AnyRow, ...]:
        """The different rows among these.

        Raises:
            DataError: they are too few for a first version.
        """
        ...

    def keys(self, rows: Iterable[AnyRow]) -> frozenset[int]:
        """The numbers by which its sums know what these rows brought; see `sums_hold`."""
        ...

    def train(self, spec: "JobSpec", context: "Context", embedder: "Embedder | None" = None) -> "ModelCard":
        """Train what the spec says, in this process, and return the finished model's card.

        Raises:
            InputError: the spec or its files are wrong.
            TrainingFailed: there is nothing to learn from.
            Cancelled: the context was told to stop.
        """
        ...

    def prove(self, spec: "JobSpec") -> None:
        """Keep beside the finished model what it answers to the held-out rows, where its reports are made of that."""
        ...
