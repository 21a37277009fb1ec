"""Two loaded versions asked the same in turns: what live traffic cannot show when only one of them answers it."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from perennial.continual.errors import PerennialError

__all__ = ["SideBySide", "slow_ones"]

logger = logging.getLogger(__name__)
_FEWEST_TIMED = 20  # answers that make a 95th percentile


class SideBySide:
    """A comparison that goes on: where the newer version fails or is slow and the older one is not.

    Args:
        ask: asks a version for the answer to one input, and raises a `PerennialError` when there is none.
        old: the version that the other one is measured by.
        new: the version on trial.
        seed: of the order in which they are asked.
    """

    def __init__(self, ask: Callable[[int, Any], object], *, old: int, new: int, seed: int) -> None:
        self._ask, self.old, self.new = ask, old, new
        self._rng = np.random.default_rng(seed)
        self._times: dict[int, list[float]] = {old: [], new: []}
        self._warm = False
        self.answered = 0  # by the newer one, of what the older one answered too

    def look(self, inputs: Sequence[Any]) -> list[datetime]:
        """Ask both versions for each input; when the newer one failed.

        What the older one cannot answer either says nothing of the newer one.
        """
        failed_at = []
        for task_input in inputs:
            seconds: dict[int, float | None] = {}
            for version in self._rng.permutation([self.old, self.new]):
                seconds[int(version)] = self._seconds(int(version), task_input)
            old, new = seconds[self.old], seconds[self.new]
            if old is None:
                continue
            if new is None:
                failed_at.append(datetime.now(UTC))
                continue
            self.answered += 1
            if self._warm:
                self._times[self.old].append(old)
                self._times[self.new].append(new)
            self._warm = True  # an engine's first answer is slower than any other
        return failed_at

    def slow(self, ratio: float) -> tuple[int, int]:
        """How many of the newer version's answers were slow, and how many were timed; see `slow_ones`."""
        return slow_ones(self._times[self.old], self._times[self.new], ratio)

    def _seconds(self, version: int, task_input: Any) -> float | None:
        started = time.perf_counter()
        try:
            self._ask(version, task_input)
        except PerennialError as exc:
            logger.warning("probation.no_answer", extra={"version": version, "reason": str(exc)})
            return None
        return time.perf_counter() - started


def slow_ones(old: Sequence[float], new: Sequence[float], ratio: float) -> tuple[int, int]:
    """How many of the `new` times lie beyond `ratio` times the 95th percentile of the `old` ones, and of how many.

    None of none while there are fewer than 20 old ones, which make no percentile.

    >>> slow_ones([1.0] * 20, [1.0, 2.0, 1.4], 1.5)
    (1, 3)
    """
    if len(old) < _FEWEST_TIMED:
        return 0, 0
    limit = ratio * float(np.quantile(old, 0.95))
    return sum(value > limit for value in new), len(new)
