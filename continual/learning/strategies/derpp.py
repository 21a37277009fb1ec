"""Dark experience replay (DER++): replay rows keep their labels and the answers they got before."""

from collections.abc import Iterator
from typing import Any, ClassVar

from continual.learning.strategies.port import Batch, cross_entropy

__all__ = ["DarkReplay"]


class DarkReplay:
    """Replay with two terms: match the stored logits (weight `alpha`), and be right (weight `beta`).

    Stored logits are compared only over the classes that were known when they were stored, and up to a constant a row,
    since a constant changes no probability: so the head may grow.

    Source: Buzzega et al. 2020, "Dark Experience for General Continual Learning".

    >>> DarkReplay().beta
    1.0
    """

    name: ClassVar[str] = "der++"
    wants_replay: ClassVar[bool] = True
    mixes: ClassVar[bool] = False

    def __init__(self, *, alpha: float = 0.05, beta: float = 1.0) -> None:
        self.alpha = alpha
        self.beta = beta

    def begin(self, network: Any, replay: Iterator[Batch]) -> None:
        """Needs nothing: the logits come with the batches."""
        del network, replay

    def loss(self, network: Any, fresh: Batch, replay: Batch | None, weights: Any) -> Any:
        """Cross-entropy of both batches, and the distance from the stored logits."""
        loss = cross_entropy(network, fresh, weights)[0]
        if replay is None:
            return loss
        again, logits = cross_entropy(network, replay, weights)
        return loss + self.beta * again + self.alpha * _distance(logits, replay.teacher)


def _distance(logits: Any, stored: Any) -> Any:
    """Mean squared difference over known classes, both centred there; rows without stored logits count nothing."""
    known = ~stored.isnan()  # (batch, classes)
    count = known.sum(dim=1, keepdim=True).clamp(min=1)
    difference = (logits - stored.nan_to_num()) * known
    centred = (difference - difference.sum(dim=1, keepdim=True) / count) * known
    return (centred**2).sum() / known.sum().clamp(min=1)
