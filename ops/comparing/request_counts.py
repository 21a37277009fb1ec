"""What the traffic log says of a version's requests, counted as they come: failures, and answers that came late."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from perennial.continual.records import Arm
from perennial.ops.comparing.side_by_side import slow_ones
from perennial.ops.traffic import TrafficLog

__all__ = ["Episodes", "LastingFailures", "NewRows", "SlowAnswers"]

_LATEST = timedelta(seconds=60)  # that a row may be written after its request: a version that hangs, a full disk
_STRETCH = timedelta(seconds=60)
_LOOK_BACK = timedelta(hours=1)
_COLUMNS = ["prediction_id", "at", "version", "arm", "latency_ms"]
_COMPARED = 5_000  # of the champion's newest answers
_BLIP_S = 0.5
_LASTING = 3  # so many different half seconds with failures are more than a process that was killed


class NewRows:
    """The rows of the log since a moment, each once, in readings that go on where the last one ended.

    Several processes append, each when its answer is complete, so the last minute is read again each time and the rows
    that were given already are left out. A row that is written later than that is not seen.
    """

    def __init__(
        self,
        traffic: TrafficLog,
        *,
        versions: tuple[int, int],
        since: datetime,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._traffic, self._now = traffic, now
        self._from = max(since, now() - _LOOK_BACK)  # after a restart, days of a probation may lie behind
        self._versions = pa.array(versions, type=pa.int64())
        self._given: set[str] = set()

    def read(self) -> list[list[dict[str, Any]]]:
        """The two versions' rows that no earlier reading gave, by time, in stretches of a minute."""
        settled = self._now() - _LATEST
        stretches = []
        while settled - self._from > _STRETCH:
            end = self._from + _STRETCH
            stretches.append(self._fresh(self._traffic.read(self._from, end, _COLUMNS)))
            self._from = end
        newest = self._traffic.read(self._from, columns=_COLUMNS)
        stretches.append(self._fresh(newest))
        self._given = set(newest["prediction_id"].to_pylist())
        self._from = max(self._from, settled)
        return stretches

    def _fresh(self, rows: pa.Table) -> list[dict[str, Any]]:
        new = pa.array([name not in self._given for name in rows["prediction_id"].to_pylist()], type=pa.bool_())
        mine = pc.is_in(rows["version"], self._versions)
        fresh: list[dict[str, Any]] = rows.filter(pc.and_(new, mine)).to_pylist()
        return fresh


class Episodes:
    """Failures of a challenger, which is not asked for a while after each: all of one pause are one.

    What is answered in its stead meanwhile was never asked. A pause lasts `pause_s` seconds from its first failure; a
    call that hangs for longer is a failure for each of them.

    >>> failures = Episodes(pause_s=7.0)
    >>> for second in (0.0, 0.5, 6.9, 7.1):
    ...     failures.add(second)
    >>> failures.count
    2
    """

    def __init__(self, *, pause_s: float) -> None:
        self._pause_s = pause_s
        self._began: list[float] = []

    @property
    def count(self) -> int:
        """How many pauses there were."""
        return len(self._began)

    def add(self, at_s: float) -> None:
        """A request that another version answered; one that comes up late may be a little older than the last."""
        place = bisect_left(self._began, at_s)
        if not any(abs(at_s - began) <= self._pause_s for began in self._began[max(0, place - 1) : place + 1]):
            insort(self._began, at_s)


class LastingFailures:
    """Failures of a champion, which is asked each time; those that came at once, as when a process is killed, are one.

    A server that loses a process is restarted, and what it could not answer meanwhile says nothing of the version.

    >>> failures = LastingFailures()
    >>> for second in (0.1, 0.2, 0.7, 0.8):
    ...     failures.add(second)
    >>> failures.count
    1
    >>> failures.add(1.1)
    >>> failures.count
    5
    """

    def __init__(self) -> None:
        self._failed = 0
        self._moments: set[float] = set()

    @property
    def count(self) -> int:
        """All of them once they lasted, at most one before."""
        return self._failed if len(self._moments) >= _LASTING else min(1, self._failed)

    def add(self, at_s: float) -> None:
        """A request that it did not answer."""
        self._failed += 1
        if len(self._moments) < _LASTING:
            self._moments.add(at_s // _BLIP_S)


class SlowAnswers:
    """Counts a challenger's slow answers as they come, by the champion's answers of about the same time.

    A batch is one answer, because its rows share one time. What was counted stays counted, so that the count may be
    looked at for as long as one likes.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        self._champion: deque[float] = deque(maxlen=_COMPARED)
        self._uncompared: list[float] = []  # until there are enough of the champion's
        self.slow = self.timed = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows that belong together in time."""
        for arm, times in ((Arm.CHAMPION, self._champion), (Arm.CHALLENGER, self._uncompared)):
            times.extend({row["at"]: row["latency_ms"] for row in rows if row["arm"] == arm}.values())
        slow, timed = slow_ones(self._champion, self._uncompared, self.ratio)
        self.slow, self.timed = self.slow + slow, self.timed + timed
        self._uncompared = [] if timed else self._uncompared[-_COMPARED:]
