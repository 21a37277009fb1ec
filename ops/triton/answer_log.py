"""Answers on their way into the traffic log, before anybody sees them."""

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from continual.errors import PerennialError
from continual.preparation import deidentify
from continual.records import Arm

__all__ = ["AnswerLog", "answer_columns"]

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float32]
_UNWRITTEN_ROWS = 50_000  # kept in memory for a disk that does not take them


class _Log(Protocol):
    def append(self, columns: Mapping[str, Any]) -> None: ...


class AnswerLog:
    """Appends rows; a disk that refuses fails no answer, and gets the rows again before the next ones, up to a bound.

    Rows that the log itself refuses are dropped: no retry can mend them, and those behind them must not wait. Safe to
    share between threads.
    """

    def __init__(self, log: _Log) -> None:
        self._log, self._lock = log, threading.Lock()
        self._unwritten: deque[Mapping[str, Any]] = deque()
        self.write_failures = 0

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append one batch of rows, and first what an earlier failure left over."""
        with self._lock:
            self._unwritten.append(columns)
            self._drain()
            while sum(len(batch["text"]) for batch in self._unwritten) > _UNWRITTEN_ROWS:
                self._lose(self._unwritten.popleft())

    def close(self) -> None:
        """Try once more to write what waits; what the disk still refuses is told as lost."""
        with self._lock:
            self._drain()
            while self._unwritten:
                self._lose(self._unwritten.popleft())

    def _drain(self) -> None:
        try:
            while self._unwritten:
                self._append(self._unwritten[0])
                self._unwritten.popleft()
        except OSError as exc:
            self.write_failures += 1
            waiting = len(self._unwritten)
            logger.error("traffic.not_written", extra={"reason": str(exc), "batches_waiting": waiting})

    @staticmethod
    def _lose(columns: Mapping[str, Any]) -> None:
        logger.error("traffic.lost", extra={"rows": len(columns["text"])})

    def _append(self, columns: Mapping[str, Any]) -> None:
        try:
            self._log.append(columns)
        except PerennialError as exc:
            self.write_failures += 1
            logger.error("traffic.refused", extra={"reason": str(exc), "rows": len(columns["text"])})


def answer_columns(rows: Sequence[Any], *, at_us: int, latency_ms: float) -> dict[str, Any]:
    """The log's columns for answered rows (`ops.triton.router.Answered`), texts de-identified.

    `latency_ms` is what the whole answer took; it is told of rows that had to wait for another version first, the
    others have their own version's time.
    """
    texts = [deidentify(row.placed.text) for row in rows]
    return {
        "prediction_id": [row.placed.prediction_id for row in rows],
        "at": [datetime.fromtimestamp(at_us / 1e6, UTC)] * len(rows),
        "text": texts,
        "key": [row.placed.key or None for row in rows],
        "label": [row.label for row in rows],
        "confidence": [row.confidence for row in rows],
        "margin": [_margin(row.scores) for row in rows],
        "entropy": [_entropy(row.scores) for row in rows],
        "version": [row.version for row in rows],
        "arm": [row.arm.value for row in rows],
        "tokens": [row.tokens for row in rows],
        "latency_ms": [latency_ms if row.arm is Arm.FALLBACK else row.took_ms for row in rows],
        "redacted": [kept != row.placed.text for kept, row in zip(texts, rows, strict=True)],
        "embedding": _stacked([row.embedding for row in rows]),
    }


def _margin(scores: Floats) -> float:
    if len(scores) < 2:
        return 1.0
    second, first = np.partition(scores, -2)[-2:]
    return float(first - second)


def _entropy(scores: Floats) -> float:
    """In nats."""
    return float(-(scores * np.log(np.maximum(scores, 1e-12))).sum())


def _stacked(embeddings: Sequence[Floats]) -> Floats | None:
    """One array where the batch's versions share a dimension, else none: a file has one dimension."""
    return np.stack(embeddings) if len({row.shape for row in embeddings}) == 1 else None
