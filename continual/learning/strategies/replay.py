"""Experience replay: each step sees as many remembered rows as fresh ones."""

from collections.abc import Iterator
from typing import Any, ClassVar

from perennial.continual.learning.strategies.port import Batch, cross_entropy

__all__ = ["Replay"]


class Replay:
    """Cross-entropy on fresh rows plus `weight` times cross-entropy on replay rows.

    Source: Chaudhry et al. 2019, "On Tiny Episodic Memories in Continual Learning".

    >>> Replay(weight=0.5).weight
    0.5
    """

    name: ClassVar[str] = "replay"
    wants_replay: ClassVar[bool] = True
    mixes: ClassVar[bool] = False

    def __init__(self, *, weight: float = 1.0) -> None:
        self.weight = weight

    def begin(self, network: Any, replay: Iterator[Batch]) -> None:
        """Needs nothing."""
        del network, replay

    def loss(self, network: Any, fresh: Batch, replay: Batch | None, weights: Any) -> Any:
        """Both batches' cross-entropies."""
        loss = cross_entropy(network, fresh, weights)[0]
        return loss if replay is None else loss + self.weight * cross_entropy(network, replay, weights)[0]
