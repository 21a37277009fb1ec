"""Learning without forgetting: on fresh rows, go on answering the old question as before."""

from collections.abc import Iterator
from typing import Any, ClassVar

from perennial.continual.learning.strategies.port import Batch, cross_entropy

__all__ = ["WithoutForgetting"]


class WithoutForgetting:
    """Cross-entropy plus `weight` times the distance of the answers among the old classes from the previous model's.

    Stores no rows. The distance is T^2 KL(previous || now) at temperature T.

    Source: Li and Hoiem 2016, "Learning without Forgetting".

    >>> WithoutForgetting().temperature
    2.0
    """

    name: ClassVar[str] = "lwf"
    wants_replay: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    def __init__(self, *, weight: float = 1.0, temperature: float = 2.0) -> None:
        self.weight = weight
        self.temperature = temperature

    def begin(self, network: Any, replay: Iterator[Batch]) -> None:
        """Needs nothing: the previous model's logits come with the batches."""
        del network, replay

    def loss(self, network: Any, fresh: Batch, replay: Batch | None, weights: Any) -> Any:
        """Cross-entropy of the fresh batch, and the distance from the previous answers on it."""
        from torch.nn import functional

        del replay
        loss, logits = cross_entropy(network, fresh, weights)
        known = ~fresh.teacher.isnan().any(dim=0)  # (classes,)
        if known.sum() < 2:
            return loss
        now = functional.log_softmax(logits[:, known] / self.temperature, dim=1)
        before = functional.log_softmax(fresh.teacher[:, known] / self.temperature, dim=1)
        distance = functional.kl_div(now, before, log_target=True, reduction="batchmean")
        return loss + self.weight * self.temperature**2 * distance
