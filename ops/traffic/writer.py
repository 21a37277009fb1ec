"""Appends answered requests to the log; one writer a process."""

import fcntl
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from continual.errors import ConfigurationError
from ops.traffic.columns import span_us, to_batch
from ops.traffic.segment import LIVE, SEALED, in_place, lock, process_start, sealed_name

__all__ = ["TrafficWriter"]

logger = logging.getLogger(__name__)
_PATIENCE_S = 0.25  # a stream whose lock is held for longer is left to the compaction
_ATTEMPTS = 5


class TrafficWriter:
    """Appends batches of rows to a stream of its own. Safe to share between threads.

    A stream is rotated after `rotate_rows` rows or, with the first batch after it, `rotate_s` seconds, and when the
    embeddings' dimension changes. `writer_id` names the process for people; pid and process start are added to it.
    """

    def __init__(
        self,
        root: Path,
        writer_id: str,
        *,
        dimension: int | None = None,
        rotate_rows: int = 5_000,
        rotate_s: float = 60.0,
    ) -> None:
        if rotate_rows < 1 or rotate_s <= 0 or (dimension is not None and dimension < 1):
            raise ConfigurationError(
                f"a traffic writer rotates after {rotate_rows} rows or {rotate_s} s with embeddings of {dimension}; "
                "all must be above 0"
            )
        self._root, self._dimension = Path(root), dimension
        self._rotate_rows, self._rotate_s = rotate_rows, rotate_s
        name = re.sub(r"[^A-Za-z0-9_.]", "_", writer_id) or "writer"
        self._identity = f"{name}-{os.getpid()}-{process_start(os.getpid()) or 0}"
        self._guard = threading.Lock()
        self._descriptor: int | None = None
        self._path = self._root
        self._schema: pa.Schema | None = None
        self._size = self._rows = self._opened = 0
        self._span = (0, 0)

    def append(self, columns: Mapping[str, Any]) -> None:
        """Write one batch of rows, whole or not at all; when this returns the operating system has it.

        `columns` maps each column's name to a value a row; `embedding` is a (rows, dimension) array, None or left out.

        Raises:
            DataError: the columns don't make rows of the log.
            OSError: the disk did not take them; appending the same rows again is right.
        """
        batch = to_batch(columns, self._dimension)
        if not batch.num_rows:
            return
        with self._guard:
            for _ in range(_ATTEMPTS):
                if self._due(batch.schema):
                    self._rotate()
                if self._descriptor is None:
                    self._open(batch.schema)
                if self._write(batch):
                    return
            raise OSError(f"{self._path} could not be kept open for writing in {_ATTEMPTS} attempts")

    def close(self) -> None:
        """Seal the stream. Closing twice is harmless, and appending afterwards opens a new stream."""
        with self._guard:
            self._rotate()

    def _due(self, schema: pa.Schema) -> bool:
        return self._descriptor is not None and (
            self._rows >= self._rotate_rows
            or time.monotonic_ns() - self._opened >= 1e9 * self._rotate_s
            or schema != self._schema
        )

    def _open(self, schema: pa.Schema) -> None:
        folder = self._root / LIVE
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._identity}-{time.time_ns() // 1_000}-{secrets.token_hex(3)}.arrows"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._descriptor, self._path, self._schema = descriptor, path, schema
        self._opened, self._size, self._rows = time.monotonic_ns(), 0, 0
        if schema.field("embedding").type != pa.null():
            self._dimension = schema.field("embedding").type.list_size

    def _write(self, batch: pa.RecordBatch) -> bool:
        """Append to the open stream; False when it was sealed by another process or is kept locked."""
        assert self._descriptor is not None
        if not lock(self._descriptor, _PATIENCE_S) or not in_place(self._descriptor, self._path):
            self._let_go()
            return False
        try:
            head = b"" if self._size else batch.schema.serialize().to_pybytes()
            self._put(head + batch.serialize().to_pybytes())
        except OSError:
            self._take_back()
            raise
        first, last = span_us(batch)
        self._span = (min(self._span[0], first), max(self._span[1], last)) if self._rows else (first, last)
        self._rows += batch.num_rows
        _unlock(self._descriptor)
        return True

    def _put(self, data: bytes) -> None:
        assert self._descriptor is not None
        done = 0
        while done < len(data):
            done += os.pwrite(self._descriptor, memoryview(data)[done:], self._size + done)
        self._size += done

    def _take_back(self) -> None:
        """Cut off a half-written batch; where even that fails, leave the stream with its torn end to the compaction."""
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, self._size)
            _unlock(self._descriptor)
        except OSError:
            logger.exception("traffic.stream_torn", extra={"path": str(self._path), "size": self._size})
            self._let_go()

    def _rotate(self) -> None:
        if self._descriptor is None:
            return
        try:
            if lock(self._descriptor, _PATIENCE_S) and in_place(self._descriptor, self._path):
                if self._rows:
                    folder = self._root / SEALED
                    folder.mkdir(exist_ok=True)
                    self._path.rename(folder / sealed_name(*self._span, self._path.stem, self._path.suffix))
                else:
                    self._path.unlink()
        except OSError:
            logger.exception("traffic.not_rotated", extra={"path": str(self._path)})
        self._let_go()

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # drops the lock too
        self._descriptor = None


def _unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)
