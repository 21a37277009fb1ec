"""Dark experience replay (DER++): replay rows keep their labels and the answers they got before."""

from collections.abc import Iterator
from typing import Any, ClassVar

from perennial.continual.learning.strategies.port import Batch, cross_entropy

__all__ = ["DarkReplay", "logit_distance"]


class DarkReplay:
    """Replay with two terms: match the stored logits (weight `alpha`), and be right (weight `beta`).

    The head may grow: a class that was not known when a row's logits were stored counts as no likelier for that row
    than the least likely class then. Without that floor nothing keeps new classes from drawing old rows to them, and
    the term is worth little. Logits are compared up to a constant a row, since a constant changes no probability.

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
        return loss + self.beta * again + self.alpha * logit_distance(logits, replay.teacher)


def logit_distance(logits: Any, stored: Any) -> Any:
    """Mean squared difference of logits (rows, C) from stored ones, both centred; rows with none stored don't count.

    Stored logits are NaN for classes that were not known then; these take the row's lowest stored logit.
    """
    unknown = stored.isnan()
    kept = ~unknown.all(dim=1)
    if not bool(kept.any()):
        return logits.sum() * 0.0
    floor = stored.nan_to_num(nan=float("inf")).amin(dim=1, keepdim=True)
    target = stored.where(~unknown, floor)[kept]  # (rows with stored logits, C)
    difference = logits[kept] - target
    centred = difference - difference.mean(dim=1, keepdim=True)
    return (centred**2).mean()
