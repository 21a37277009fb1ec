"""How long answers took, by version and arm, counted out of the traffic log as often as somebody asks."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from perennial.ops.traffic import TrafficLog

__all__ = ["BOUNDS_S", "AnswerTimes", "ArmTimes"]

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SETTLED = timedelta(seconds=60)  # that a row may be written after its request: a version that hangs, a full disk
_MOST = timedelta(minutes=10)  # that one look reads; what lies further back is not counted
_SILENT = timedelta(hours=1)  # after it a version that answers no more is forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTimes:
    """The answers of one version on one arm so far. `buckets` counts those up to each of `BOUNDS_S`, and the rest."""

    version: int
    arm: str
    buckets: tuple[int, ...]
    seconds: float

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.buckets)


@dataclass(slots=True)
class _Counted:
    buckets: NDArray[np.int64]
    seconds: float
    last: datetime


class AnswerTimes:
    """Counts each row of a log once, a minute after its request, from the first look on. Thread-safe.

    Nothing is counted for whoever never looks: the router does nothing for it, and a look reads what came since the
    last one.
    """

    def __init__(self, traffic: TrafficLog, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._traffic, self._now = traffic, now
        self._counted: dict[tuple[int, str], _Counted] = {}
        self._until: datetime | None = None
        self._lock = threading.Lock()

    def look(self) -> tuple[ArmTimes, ...]:
        """Return the totals, by version and arm.

        Raises:
            DependencyUnreachable: the log kept changing under the reader.
        """
        with self._lock:
            settled = self._now() - _SETTLED
            if self._until is None:
                self._until = settled
            elif settled > self._until:
                self._count(max(self._until, settled - _MOST), settled)
                self._until = settled
            return tuple(
                ArmTimes(version=version, arm=arm, buckets=tuple(map(int, kept.buckets)), seconds=kept.seconds)
                for (version, arm), kept in sorted(self._counted.items())
            )

    def _count(self, since: datetime, until: datetime) -> None:
        rows = self._traffic.read(since, until, ["version", "arm", "latency_ms"])
        seconds = rows["latency_ms"].to_numpy().astype(float) / 1_000.0
        places = np.searchsorted(BOUNDS_S, seconds)
        versions, arms = rows["version"].to_numpy(), np.asarray(rows["arm"].to_pylist(), dtype=object)
        for version in np.unique(versions):
            for arm in set(arms[versions == version]):
                mine = (versions == version) & (arms == arm)
                empty = _Counted(np.zeros(len(BOUNDS_S) + 1, dtype=np.int64), 0.0, until)
                kept = self._counted.setdefault((int(version), str(arm)), empty)
                kept.buckets += np.bincount(places[mine], minlength=len(kept.buckets))
                kept.seconds += float(seconds[mine].sum())
                kept.last = until
        self._counted = {name: kept for name, kept in self._counted.items() if until - kept.last <= _SILENT}
