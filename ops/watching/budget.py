"""How much processor time the watch may take while processors are short: what does not fit is sampled."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["IDLE", "NICENESS", "SpareTime", "WatchBudget", "idle_share", "processors"]

_STORE_S = 0.5  # of processor time that may be used at once, after a quiet time or a start
IDLE = 0.6  # share of the processors that nobody uses, above which watching takes nothing from anybody
_FIRST_GUESS_S = 0.1  # of one window, before any was measured
_WORK_S = 5.0  # of work that can wait: the first report, say, before any was made
_LATELY_S = 120.0  # a mean over more tells nothing of now
_LOOK_S = 10.0  # processors that nobody used for less time than this may be between two requests, or in a start
_LONGEST_S = 15.0  # without any window looked at, whatever it costs
_STAT, _CGROUP = Path("/proc/stat"), Path("/sys/fs/cgroup")
NICENESS = 10  # of a watch: an engine's threads wait for each other, and one that is held up holds up all of them


class WatchBudget:
    """Processor time that flows in at a share of the machine's and is taken out by what the watch used.

    >>> now = [0.0]
    >>> budget = WatchBudget(0.02, cores=2, clock=lambda: now[0], used=lambda: now[0], idle=lambda: 0.0)
    >>> budget.windows(20)
    5
    >>> with budget.spent() as windows:
    ...     now[0] += 8.0
    ...     windows.append(5)
    >>> budget.windows(20), budget.used_share > 0.4
    (0, True)
    """

    def __init__(
        self,
        share: float,
        *,
        cores: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.thread_time,
        idle: Callable[[], float] | None = None,
    ) -> None:
        self.share, self._cores = share, cores or processors()
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
    def spent(self) -> Iterator[list[int]]:
        """Take out what the thread uses within; how many windows it was is appended there."""
        told = list[int]()
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


class SpareTime:
    """When work may be done on which nothing hangs: once processors were idle for a while, or its share has flowed in.

    At the start nothing has. Work of some seconds is then no part of what the first requests share processors with: a
    program of the lowest priority still takes memory and caches from an engine.

    >>> now = [0.0]
    >>> spare = SpareTime(0.01, cores=2, clock=lambda: now[0], idle=lambda: 0.0)
    >>> spare.is_due()
    False
    >>> now[0] = 250.0
    >>> spare.is_due()
    True
    >>> with spare.taken():
    ...     now[0] += 2.0
    >>> now[0] += 99.0
    >>> spare.is_due()
    False
    """

    def __init__(
        self,
        share: float,
        *,
        cores: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        idle: Callable[[], float] | None = None,
    ) -> None:
        self._flow, self._clock, self._idle = share * (cores or processors()), clock, idle or idle_share()
        self._from = clock() + _WORK_S / self._flow
        self._looked_at, self._was_idle = clock(), False

    def is_due(self) -> bool:
        """Whether it may begin now; asked every few seconds, so that what was idle is what was so lately."""
        now = self._clock()
        if (passed := now - self._looked_at) >= _LOOK_S:
            idle = self._idle() > IDLE
            self._was_idle, self._looked_at = idle and passed < _LATELY_S, now
        return self._was_idle or now >= self._from

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Do some within: the next has to wait for its time."""
        began = self._clock()
        try:
            yield
        finally:
            self._from = self._clock() + (self._clock() - began) / self._flow
            self._was_idle = False


def processors(cgroup: Path = _CGROUP) -> float:
    """How many processors this process may use; a container's limit need be no whole number."""
    return min(len(os.sched_getaffinity(0)), _limit(cgroup))


def idle_share(
    stat: Path = _STAT, cgroup: Path = _CGROUP, clock: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """A function that tells which share of this process's processors was idle since it was last called.

    Where nothing tells it, none was. In a container that has a limit nothing is idle beyond that.
    """
    before = [(_times(stat), _used_s(cgroup), clock())]

    def since_last() -> float:
        now, then = (_times(stat), _used_s(cgroup), clock()), before[0]
        before[0] = now
        whole = now[0][1] - then[0][1]
        free = (now[0][0] - then[0][0]) / whole if whole > 0 else 0.0
        allowed = _limit(cgroup) * (now[2] - then[2])
        return min(free, 1.0 - (now[1] - then[1]) / allowed) if allowed > 0.0 else free

    return since_last


def _times(stat: Path) -> tuple[int, int]:
    """Idle time and all time so far of the processors that this process may use, in ticks."""
    own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    try:
        words = [line.split()[:9] for line in stat.read_text(encoding="ascii").splitlines() if line.startswith("cpu")]
        rows = [[int(word) for word in numbers] for name, *numbers in words if name in own]
        return sum(row[3] + row[4] for row in rows), sum(map(sum, rows))
    except (OSError, ValueError, IndexError):
        return 0, 0


def _limit(cgroup: Path) -> float:
    """Processors that a container is allowed, by cgroup v2."""
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _used_s(cgroup: Path) -> float:
    """Processor time that the container has used so far."""
    try:
        lines = (cgroup / "cpu.stat").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1e6 for line in lines if line.startswith("usage_usec "))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0.0
