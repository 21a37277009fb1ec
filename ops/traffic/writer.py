"""Appends answered requests to the log; one writer a process."""

import fcntl
import logging
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from perennial.continual.errors import ConfigurationError
from perennial.continual.tasks import DEFAULT_TASK
from perennial.ops.traffic.columns import span_of, span_us, to_batch, width_of
from perennial.ops.traffic.erased import ErasedKeys
from perennial.ops.traffic.segment import LIVE, SEALED, in_place, lock, process_start, sealed_name

__all__ = ["TrafficWriter"]

logger = logging.getLogger(__name__)
_PATIENCE_S = 0.25  # a stream whose lock is held for longer is left to the compaction
_ATTEMPTS = 5
_WIDTHS = 3  # streams that a writer keeps open


class TrafficWriter:
    """Appends batches of rows to streams of its own, one a width of embeddings. Safe to share between threads.

    A stream is rotated after `rotate_rows` rows or, with the first batch after it, `rotate_s` seconds. Of the widths
    seen last so many stay open that two sides of a canary, or a fallback, may answer by turns; rows without embeddings
    join the last one. `writer_id` names the process for people; pid and process start are added to it.
    """

    def __init__(
        self,
        root: Path,
        writer_id: str,
        *,
        task: str = DEFAULT_TASK,
        dimension: int | None = None,
        rotate_rows: int = 5_000,
        rotate_s: float = 60.0,
    ) -> None:
        if rotate_rows < 1 or rotate_s <= 0 or (dimension is not None and dimension < 1):
            raise ConfigurationError(
                f"a traffic writer rotates after {rotate_rows} rows or {rotate_s} s with embeddings of {dimension}; "
                "all must be above 0"
            )
        self._root, self._dimension, self._task = Path(root), dimension, task
        self._rotate_rows, self._rotate_s = rotate_rows, rotate_s
        name = re.sub(r"[^A-Za-z0-9_.]", "_", writer_id) or "writer"
        self._identity = f"{name}-{os.getpid()}-{process_start(os.getpid()) or 0}"
        self._guard = threading.Lock()
        self._erased = ErasedKeys(self._root)
        self._streams: OrderedDict[int, _OpenStream] = OrderedDict()  # by their embeddings' width, 0 without any

    def append(self, columns: Mapping[str, Any]) -> None:
        """Write one batch of rows, whole or not at all; when this returns the operating system has it.

        `columns` maps each column's name to a value a row; `embedding` is a (rows, dimension) array, None or left out.

        Raises:
            DataError: the columns don't make rows of the log.
            OSError: the disk did not take them; appending the same rows again is right.
        """
        batch = to_batch(columns, self._dimension, self._task)
        if not batch.num_rows:
            return
        with self._guard:
            for _ in range(_ATTEMPTS):
                for width in [width for width, stream in self._streams.items() if self._due(stream)]:
                    self._streams.pop(width).rotate()
                if self._write(batch, span_of(columns)):
                    return
            raise OSError(f"a stream in {self._root} could not be kept open for writing in {_ATTEMPTS} attempts")

    def close(self) -> None:
        """Seal the streams. Closing twice is harmless, and appending afterwards opens a new stream."""
        with self._guard:
            while self._streams:
                self._streams.popitem()[1].rotate()

    def _due(self, stream: "_OpenStream") -> bool:
        return stream.rows >= self._rotate_rows or time.monotonic_ns() - stream.opened_ns >= 1e9 * self._rotate_s

    def _write(self, batch: pa.RecordBatch, span: tuple[int, int]) -> bool:
        """Append to the stream of the batch's width; False when another process sealed it or keeps it locked."""
        width = width_of(batch.schema) or 0
        stream = self._streams.pop(width, None) or self._open()
        self._dimension = width or self._dimension
        try:
            return stream.write(batch, span)
        finally:
            if stream.held:
                self._streams[width] = stream

    def _open(self) -> "_OpenStream":
        while len(self._streams) >= _WIDTHS:
            self._streams.popitem(last=False)[1].rotate()
        folder = self._root / LIVE
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{self._identity}-{time.time_ns() // 1_000}-{secrets.token_hex(3)}.arrows"
        return _OpenStream(folder / name, self._erased)


class _OpenStream:
    """A live stream while its writer appends to it, one thread at a time."""

    def __init__(self, path: Path, erased: ErasedKeys) -> None:
        self._path, self._erased = path, erased
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self.held = True  # until it was let go, after which it takes no rows
        self.opened_ns = time.monotonic_ns()
        self.rows = self._size = 0
        self._span = (0, 0)

    def write(self, batch: pa.RecordBatch, span: tuple[int, int]) -> bool:
        """Append what was not erased; False, and let go, when it was sealed by another process or is kept locked.

        Raises:
            OSError: the disk did not take the rows; none of them is in the stream.
        """
        if not lock(self._descriptor, _PATIENCE_S) or not in_place(self._descriptor, self._path):
            self._let_go()
            return False
        try:
            kept = self._erased.without(batch)  # under the lock, which an erasure takes after its note
            if kept.num_rows:
                head = b"" if self._size else kept.schema.serialize().to_pybytes()
                self._put(head + kept.serialize().to_pybytes())
        except OSError:
            self._take_back()
            raise
        if not kept.num_rows:
            _unlock(self._descriptor)
            return True
        first, last = span if kept is batch else span_us(kept)
        self._span = (min(self._span[0], first), max(self._span[1], last)) if self.rows else (first, last)
        self.rows += kept.num_rows
        _unlock(self._descriptor)
        return True

    def rotate(self) -> None:
        """Move it to the sealed ones, or away when it is empty, and let go."""
        try:
            if lock(self._descriptor, _PATIENCE_S) and in_place(self._descriptor, self._path):
                if self.rows:
                    folder = self._path.parent.parent / SEALED
                    folder.mkdir(exist_ok=True)
                    self._path.rename(folder / sealed_name(*self._span, self._path.stem, self._path.suffix))
                else:
                    self._path.unlink()
        except OSError:
            logger.exception("traffic.not_rotated", extra={"path": str(self._path)})
        self._let_go()

    def _put(self, data: bytes) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._descriptor, memoryview(data)[done:], self._size + done)
        self._size += done

    def _take_back(self) -> None:
        """Cut off a half-written batch; where even that fails, leave the stream with its torn end to the compaction."""
        try:
            os.ftruncate(self._descriptor, self._size)
            _unlock(self._descriptor)
        except OSError:
            logger.exception("traffic.stream_torn", extra={"path": str(self._path), "size": self._size})
            self._let_go()

    def _let_go(self) -> None:
        os.close(self._descriptor)  # drops the lock too
        self.held = False


def _unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)
