"""Answers on their way into the traffic log, before anybody sees them."""

import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from perennial.continual.records import Arm
from perennial.exporters.signature import Array
from perennial.ops.serving.port import ServingSide

__all__ = ["AnswerLog", "LogFigures", "answer_columns"]

logger = logging.getLogger(__name__)
_WAIT_S = 0.25  # the longest that an answer waits for its rows to be written
_RETRY_S = 1.0  # between two tries at a disk that refused, while nobody brings new rows
_CLOSE_S = 5.0  # for the last try
_LOG_EVERY_S = 5.0  # between two lines about lost rows
_ROW_BYTES = 1_000
_MAX_ROWS, _MAX_BYTES = 50_000, 64 * 2**20  # kept in memory for a disk that does not take them


class _Log(Protocol):
    def append(self, columns: Mapping[str, Any]) -> None: ...


class _Count(Protocol):
    @property
    def found(self) -> int: ...
    def note(self, *, held: int, newly_lost: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFigures:
    """What became of the rows since the start. `write_failures` counts batches whose write failed at first."""

    write_failures: int
    rows_lost: int
    rows_waiting: int
    bytes_waiting: int


class _Unwritten:
    """A batch of rows on its way; `tried` is set once it was written, refused or lost."""

    __slots__ = ("bytes", "columns", "rows", "tried")

    def __init__(self, columns: Mapping[str, Any], long: Sequence[str]) -> None:
        self.columns, self.rows, self.tried = columns, len(columns["prediction_id"]), threading.Event()
        embedding = columns.get("embedding")
        held = 0 if embedding is None else int(embedding.nbytes)
        self.bytes = held + sum(sum(map(sys.getsizeof, columns[name])) for name in long) + _ROW_BYTES * self.rows


class AnswerLog:
    """Appends rows in a thread of its own. No failure of it fails an answer, and none delays one beyond a bound.

    While all is well the rows are written before `write` returns. It waits `_WAIT_S` for them at most, and not at all
    behind rows that the disk did not take in time. Those are kept in bounded memory and tried again, in order. What
    exceeds the bound is dropped, the oldest first, counted and told. Rows that the log itself refuses are dropped too:
    no retry can mend them, and those behind them must not wait. Safe to share between threads.

    `long` names the columns whose strings may be long; a row's other values count as 1,000 bytes.

    `count` survives a kill: it is told of the rows that are answered and wait, a moment later, and of the lost ones.
    """

    def __init__(
        self,
        log: _Log,
        *,
        count: _Count | None = None,
        long: Sequence[str] = (),
        wait_s: float = _WAIT_S,
        max_rows: int = _MAX_ROWS,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        self._long = long
        self._log, self._wait_s, self._max_rows, self._max_bytes = log, wait_s, max_rows, max_bytes
        self._lock, self._noting, self._wake = threading.Lock(), threading.Lock(), threading.Event()
        self._waiting: deque[_Unwritten] = deque()
        self._writing: _Unwritten | None = None
        self._thread: threading.Thread | None = None
        self._rows = self._bytes = self._failures = 0
        self._count, self._lost = count, 0 if count is None else count.found
        self._noted = (0, self._lost)  # rows that wait, and lost ones
        self._behind = False  # the disk did not take rows in time, and some of them wait still
        self._logged_at, self._logged_lost = -math.inf, 0

    @property
    def figures(self) -> LogFigures:
        """The counters now."""
        with self._lock:
            return LogFigures(
                write_failures=self._failures,
                rows_lost=self._lost,
                rows_waiting=self._rows,
                bytes_waiting=self._bytes,
            )

    def write(self, columns: Mapping[str, Any]) -> None:
        """Hand over one batch of rows, and wait for it as far as the bound allows."""
        batch = _Unwritten(columns, self._long)
        with self._lock:
            self._waiting.append(batch)
            self._rows, self._bytes = self._rows + batch.rows, self._bytes + batch.bytes
            while self._waiting and (self._rows > self._max_rows or self._bytes > self._max_bytes):
                self._lose(self._waiting.popleft())
            patient = not self._behind
            self._start()
        self._wake.set()
        if patient and not batch.tried.wait(self._wait_s):
            with self._lock:
                self._behind = not batch.tried.is_set() or self._behind

    def close(self) -> None:
        """Try once more to write what waits; what the disk still refuses is told as lost."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else self._writing
            if last is not None:
                last.tried.clear()
                self._start()
        self._wake.set()
        if last is not None:
            last.tried.wait(_CLOSE_S)
        with self._lock:
            while self._waiting:
                self._lose(self._waiting.popleft())
        self._note()
        self._log_lost(at_once=True)

    def _start(self) -> None:
        if self._thread is None:  # it outlives whatever goes wrong in it
            thread = threading.Thread(target=self._work, name="answer-log", daemon=True)
            thread.start()
            self._thread = thread  # one that could not be started is tried again with the next rows

    def _work(self) -> None:
        while True:
            self._wake.wait(_RETRY_S if self._rows else None)
            self._wake.clear()
            try:
                self._drain()
                self._note()
                self._log_lost()
            except Exception:  # whatever it is, the thread goes on
                logger.exception("traffic.writer_failed")
                time.sleep(_RETRY_S)

    def _drain(self) -> None:
        while (batch := self._next()) is not None:
            reason = self._append(batch)
            with self._lock:
                self._writing = None
                if reason is not None:
                    self._failures += 1
                    self._waiting.appendleft(batch)
                    self._behind = True
                    for waiting in self._waiting:
                        waiting.tried.set()
                    batches = len(self._waiting)
                else:
                    self._leave(batch)
                    self._behind = self._behind and bool(self._waiting)
            if reason is not None:
                logger.error("traffic.not_written", extra={"reason": reason, "batches_waiting": batches})
                return
            self._note()

    def _note(self) -> None:
        """Have it known after a kill what is in memory alone; rows whose answers wait for the disk are not."""
        if self._count is None:
            return
        with self._noting:
            with self._lock:
                now = (self._rows if self._behind else 0, self._lost)
            if now != self._noted:
                try:
                    self._count.note(held=now[0], newly_lost=now[1] - self._noted[1])
                    self._noted = now
                except OSError as exc:
                    logger.error("traffic.not_counted", extra={"reason": str(exc), "waiting": now[0], "lost": now[1]})

    def _next(self) -> _Unwritten | None:
        with self._lock:
            self._writing = self._waiting.popleft() if self._waiting else None
            return self._writing

    def _append(self, batch: _Unwritten) -> str | None:
        """Why the rows are to be tried again; none where they are written, or no retry could mend them."""
        try:
            self._log.append(batch.columns)
        except OSError as exc:
            return str(exc)
        except Exception as exc:
            with self._lock:
                self._failures += 1
                self._lost += batch.rows
            logger.error("traffic.refused", extra={"reason": str(exc), "rows": batch.rows})
        return None

    def _lose(self, batch: _Unwritten) -> None:
        self._lost += batch.rows
        self._leave(batch)

    def _leave(self, batch: _Unwritten) -> None:
        self._rows, self._bytes = self._rows - batch.rows, self._bytes - batch.bytes
        batch.tried.set()

    def _log_lost(self, *, at_once: bool = False) -> None:
        with self._noting:  # who closes the log waits for a line that the thread is writing
            with self._lock:
                now, lost = time.monotonic(), self._lost - self._logged_lost
                if not lost or (not at_once and now - self._logged_at < _LOG_EVERY_S):
                    return
                self._logged_at, self._logged_lost, in_all = now, self._lost, self._lost
            logger.error("traffic.lost", extra={"rows": lost, "in_all": in_all})


def answer_columns(side: ServingSide, rows: Sequence[Any], *, at_us: int, latency_ms: float) -> dict[str, Any]:
    """The log's columns for answered rows (`perennial.ops.serving.router.router.Answered`), without personal data.

    `latency_ms` is what the whole answer took; it is told of rows that had to wait for another version first, the
    others have their own version's time.
    """
    answers = [row.answer for row in rows]
    return {
        "prediction_id": [row.placed.prediction_id for row in rows],
        "at": [datetime.fromtimestamp(at_us / 1e6, UTC)] * len(rows),
        "key": [row.placed.key or None for row in rows],
        "version": [row.version for row in rows],
        "arm": [row.arm.value for row in rows],
        "latency_ms": [latency_ms if row.arm is Arm.FALLBACK else row.took_ms for row in rows],
        **side.columns([row.placed.input for row in rows], answers),
        "embedding": _stacked([answer.embedding for answer in answers]),
    }


def _stacked(embeddings: Sequence[Array | None]) -> Array | None:
    """One array where all rows have one of the same dimension, else none: a file has one dimension."""
    held = [row for row in embeddings if row is not None]
    return np.array(held) if len(held) == len(embeddings) and len({row.shape for row in held}) == 1 else None
