"""How much a model is asked now and how fast it answers, out of the newest rows of its traffic log."""

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog

__all__ = ["TrafficFigures", "TrafficViews"]

_LAST = 5_000  # rows that are looked at, however many came
_MINUTES = 30
_NOW = timedelta(minutes=5)
_STANDS_S = 2.0  # a look is good enough for so long, whoever asks


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficFigures:
    """The newest traffic. `per_minute` is of the last five minutes; `counts` of each of the last thirty, oldest first.

    Latencies are of the newest rows, at most 5,000; None where there are none in the last thirty minutes. `whole` is
    False where more came than were looked at: then the first minutes of `counts` are too low.
    """

    newest: datetime | None
    per_minute: float
    p50_ms: float | None
    p95_ms: float | None
    counts: tuple[int, ...]
    whole: bool


class TrafficViews:
    """The traffic of each model; its logs stay open, so that a look reads only what is new. Thread-safe."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._lock = workspace, threading.Lock()
        self._logs: dict[str, TrafficLog] = {}
        self._seen: dict[str, tuple[float, TrafficFigures]] = {}

    def log(self, model: str) -> TrafficLog:
        """Return the model's log."""
        with self._lock:
            if model not in self._logs:
                self._logs[model] = traffic_of(self._workspace, model)
            return self._logs[model]

    def of(self, model: str) -> TrafficFigures:
        """Return the model's traffic, at most two seconds old."""
        kept = self._seen.get(model)
        if kept is not None and time.monotonic() - kept[0] < _STANDS_S:
            return kept[1]
        figures = _figures(self.log(model), datetime.now(UTC))
        self._seen[model] = (time.monotonic(), figures)
        return figures


def _figures(log: TrafficLog, now: datetime) -> TrafficFigures:
    table = log.read(columns=["at", "latency_ms"], last=_LAST, since=now - timedelta(minutes=_MINUTES))
    if not table.num_rows:
        before = log.read(columns=["at"], last=1)
        newest = before["at"][0].as_py() if before.num_rows else None
        return TrafficFigures(
            newest=newest, per_minute=0.0, p50_ms=None, p95_ms=None, counts=(0,) * _MINUTES, whole=True
        )
    at = table["at"].to_numpy().astype("datetime64[us]").astype(np.int64)
    age_s = (int(now.timestamp() * 1e6) - at) / 1e6
    looked_s = max(1.0, float(age_s.max()))
    whole = table.num_rows < _LAST
    span_s = _NOW.total_seconds() if whole else min(_NOW.total_seconds(), looked_s)
    p50, p95 = np.quantile(table["latency_ms"].to_numpy(), (0.5, 0.95))
    minutes = np.clip(age_s // 60, 0, _MINUTES - 1).astype(int)
    counts = np.bincount(minutes, minlength=_MINUTES)[::-1]
    return TrafficFigures(
        newest=table["at"][table.num_rows - 1].as_py(),
        per_minute=float((age_s <= span_s).sum() * 60.0 / span_s),
        p50_ms=float(p50),
        p95_ms=float(p95),
        counts=tuple(int(count) for count in counts),
        whole=whole,
    )
