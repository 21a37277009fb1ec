"""How long the present step of a cycle has waited, by a clock that nobody can set."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["StepWait", "Waited", "utc_now"]

_SETTLES_S = 60.0  # a wall clock that was wrong at the start of the process may be put right meanwhile


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """Seconds since the step began, and how many of them this process has watched itself."""

    waited_s: float = 0.0
    watched_s: float = 0.0

    def outlasts(self, deadline_s: float) -> bool:
        """Whether a deadline has passed, and not by the word of the wall clock at the start of the process alone."""
        return self.waited_s > deadline_s and self.watched_s >= min(_SETTLES_S, deadline_s)


class StepWait:
    """Measures one step at a time. What came before the first look is taken from the wall clock, if it is plausible."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = utc_now,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._now, self._steady = now, steady
        self._step: tuple[int, datetime] | None = None
        self._first, self._before = 0.0, 0.0

    def look(self, cycle: int, entered: datetime) -> Waited:
        """How long the step has waited that the cycle entered then."""
        steady, step = self._steady(), (cycle, entered)
        if step != self._step:
            self._step, self._first, self._before = step, steady, float("inf")
        watched_s = steady - self._first
        if watched_s <= _SETTLES_S:
            by_wall = (self._now() - entered).total_seconds() - watched_s
            self._before = min(self._before, max(0.0, by_wall))
        return Waited(waited_s=self._before + watched_s, watched_s=watched_s)

    def dated_anew(self, cycle: int, entered: datetime) -> None:
        """The step's time was put right; what it has waited stays."""
        self._step = (cycle, entered)
