"""How much processor time the watch may take while processors are short: what does not fit is sampled."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["IDLE", "WatchBudget", "idle_share", "lower_this_thread"]

_STORE_S = 1.5  # of processor time that may be used at once, after a quiet time or a start
IDLE = 0.6  # share of the processors that nobody uses, above which watching takes nothing from anybody
_FIRST_GUESS_S = 0.3  # of one window, before any was measured
_LONGEST_S = 15.0  # without any window looked at, whatever it costs
_STAT = Path("/proc/stat")
_NICENESS = 10


class WatchBudget:
    """Processor time that flows in at a share of the machine's and is taken out by what the watch used.

    >>> now = [0.0]
    >>> budget = WatchBudget(0.02, cores=2, clock=lambda: now[0], used=lambda: now[0], idle=lambda: 0.0)
    >>> budget.windows(20)
    5
    >>> with budget.spent(5):
    ...     now[0] += 8.0
    >>> budget.windows(20), budget.used_share > 0.4
    (0, True)
    """

    def __init__(
        self,
        share: float,
        *,
        cores: int = 0,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.thread_time,
        idle: Callable[[], float] | None = None,
    ) -> None:
        self.share, self._cores = share, cores or len(os.sched_getaffinity(0))
        self._clock, self._used, self._idle = clock, used, idle or idle_share()
        self._credit, self._of_one = _STORE_S, _FIRST_GUESS_S
        self._filled_at = self._looked_at = clock()
        self.used_share = 0.0

    def windows(self, most: int, *, least: int = 0) -> int:
        """How many windows may be looked at now, at most `most`; all of them while processors are idle."""
        now = self._clock()
        self._credit = min(_STORE_S, self._credit + (now - self._filled_at) * self.share * self._cores)
        self._filled_at = now
        if self._idle() > IDLE:
            return most
        silent = now - self._looked_at > _LONGEST_S
        return min(most, max(least, int(silent), int(max(0.0, self._credit) / self._of_one)))

    @contextmanager
    def spent(self, windows: int | None = None) -> Iterator[list[int]]:
        """Take out what the thread uses within; whoever learns only there how many windows it was appends it."""
        told: list[int] = [] if windows is None else [windows]
        before, began = self._used(), self._clock()
        try:
            yield told
        finally:
            taken, looked_at = self._used() - before, sum(told)
            self._credit = max(-_STORE_S, self._credit - taken)
            if looked_at:
                self._of_one += 0.5 * (taken / looked_at - self._of_one)
                passed = max(self._clock() - self._looked_at, self._clock() - began, 1e-3)
                self.used_share = min(1.0, taken / passed / self._cores)
                self._looked_at = self._clock()


def lower_this_thread() -> None:
    """Let this thread have little of a processor that others want; for good, so call it in one that does nothing else.

    An engine's threads wait for each other: one that is held up holds up all of them.
    """
    thread = threading.get_native_id()
    with suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, thread) < _NICENESS:
            os.setpriority(os.PRIO_PROCESS, thread, _NICENESS)


def idle_share() -> Callable[[], float]:
    """A function that tells which share of the machine's processors was idle since it was last called.

    Where nothing tells it, none was.
    """
    before = [_times()]

    def since_last() -> float:
        now, then = _times(), before[0]
        before[0] = now
        whole = now[1] - then[1]
        return (now[0] - then[0]) / whole if whole > 0 else 0.0

    return since_last


def _times() -> tuple[int, int]:
    """Idle time and all time so far, in ticks."""
    try:
        numbers = [int(word) for word in _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    return numbers[3] + numbers[4], sum(numbers)
