"""How fast work is done, measured while there is always more of it."""

import math

__all__ = ["Pace"]

_MEMORY_S = 10.0  # of busy time, after which a measurement counts for a third


class Pace:
    """Cost per second, learnt from answers; what came in a quiet time says nothing and is left out.

    >>> pace = Pace()
    >>> pace.start(0.0)
    >>> pace.add(100, 2.0, crowded=True)
    >>> pace.seconds(50)
    1.0
    """

    def __init__(self) -> None:
        self._cost = self._seconds = 0.0
        self._mark = 0.0

    @property
    def since(self) -> float:
        """When something was answered last, or work began after a pause."""
        return self._mark

    def start(self, now: float) -> None:
        """Work begins after a pause."""
        self._mark = max(self._mark, now)

    def add(self, cost: int, now: float, *, crowded: bool) -> None:
        """Something was answered; `crowded` tells that more waits."""
        passed, self._mark = max(0.0, now - self._mark), now
        if not crowded and self._seconds:
            return
        kept = math.exp(-passed / _MEMORY_S)
        self._cost, self._seconds = self._cost * kept + cost, self._seconds * kept + passed

    def seconds(self, cost: int) -> float:
        """How long so much takes; 0 as long as nothing is known."""
        return cost * self._seconds / self._cost if self._cost else 0.0
