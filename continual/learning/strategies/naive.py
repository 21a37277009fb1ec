"""Fine-tuning on the fresh rows alone: the lower bound, which forgets."""

from collections.abc import Iterator
from typing import Any, ClassVar

from perennial.continual.learning.strategies.port import Batch, cross_entropy

__all__ = ["Naive"]


class Naive:
    """Cross-entropy on fresh rows.

    >>> Naive().wants_replay
    False
    """

    name: ClassVar[str] = "naive"
    wants_replay: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    def begin(self, network: Any, replay: Iterator[Batch]) -> None:
        """Needs nothing."""
        del network, replay

    def loss(self, network: Any, fresh: Batch, replay: Batch | None, weights: Any) -> Any:
        """Cross-entropy of the fresh batch."""
        del replay
        return cross_entropy(network, fresh, weights)[0]
