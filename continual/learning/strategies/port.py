"""What the trainer needs from a strategy."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

__all__ = ["Batch", "Strategy", "cross_entropy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch of tokenised rows, as torch tensors.

    >>> Batch(ids=None, mask=None, truth=None, teacher=None).teacher is None
    True
    """

    ids: Any  # int64 (batch, tokens)
    mask: Any  # int64 (batch, tokens)
    truth: Any  # int64 (batch,)
    teacher: Any  # float32 (batch, classes): logits of the model before this training, NaN for classes it did not know
    meant: Any = None  # float32 (batch, d): the teacher's embeddings, where the student's are to be like them


class Strategy(Protocol):
    """One training's loss. An instance serves one training; the trainer calls `begin` once, then `loss` every step.

    `begin` runs on the network as it was before the first step, also when a training is resumed, so a strategy holds
    no state that a checkpoint would have to carry.
    """

    name: ClassVar[str]
    wants_replay: ClassVar[bool]  # each step also gets a batch of replay rows
    mixes: ClassVar[bool]  # replay rows are shuffled among the fresh ones instead

    def begin(self, network: Any, replay: Iterator[Batch]) -> None:
        """Looks at the network and the replay rows before the first step."""
        ...

    def loss(self, network: Any, fresh: Batch, replay: Batch | None, weights: Any) -> Any:
        """A scalar to be made smaller; `weights` are per class, float32 (classes,)."""
        ...


def cross_entropy(network: Any, batch: Batch, weights: Any) -> tuple[Any, Any]:
    """The weighted mean cross-entropy of a batch, and the logits (batch, classes)."""
    from torch.nn import functional

    logits = network(batch.ids, batch.mask).float()
    return functional.cross_entropy(logits, batch.truth, weight=weights), logits
