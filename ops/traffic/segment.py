"""One Arrow stream of the log: its name, its rows up to the last whole batch, and how it is sealed.

A writer holds an exclusive `flock` on its live file only while it appends, and looks under that lock whether the file
is still in its place. So any process may seal any live stream at any time: the writer notices and opens another.
"""

import fcntl
import logging
import os
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from perennial.ops.traffic.columns import columns_of, span_us
from perennial.ops.traffic.formats import FileFormat
from perennial.ops.traffic.quarantine import DamagedFile, copy_aside, examined, set_aside

__all__ = [
    "LIVE",
    "PARQUET",
    "SEALED",
    "Stream",
    "in_place",
    "lock",
    "process_start",
    "seal",
    "sealed_name",
    "writer_gone",
]

logger = logging.getLogger(__name__)
LIVE, SEALED, PARQUET = "live", "sealed", "parquet"
_CONTINUATION = 0xFFFFFFFF
_LONGEST_METADATA = 1 << 20
_CHUNKS = 64  # batches kept apart before they are joined


def sealed_name(first_us: int, last_us: int, stem: str, suffix: str) -> str:
    """A file's name carries the times it covers, so that a reader can leave it unopened."""
    return f"{first_us:018d}-{last_us:018d}-{stem}{suffix}"


def process_start(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; with the pid it names one process. None when it is gone.

    One that was killed and whose parent has not looked yet is gone.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None


def writer_gone(stem: str) -> bool:
    """Whether the process named in a live stream's file name no longer runs."""
    parts = stem.rsplit("-", 4)
    return len(parts) != 5 or not parts[1].isdigit() or process_start(int(parts[1])) != parts[2]


def lock(descriptor: int, timeout_s: float) -> bool:
    """Take the stream's lock; False when somebody kept it for longer than `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.001)


def in_place(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


@dataclass(slots=True)
class Stream:
    """A stream's rows, read on from where the last reading stopped. Safe to share between threads."""

    inode: int = -1
    changed_ns: int = -1
    size: int = 0  # bytes up to the end of the last whole batch
    schema: pa.Schema | None = None
    batches: list[pa.RecordBatch] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)
    damage: str = ""  # why it ends at `size`; empty while it is whole, or torn by a writer's death
    counted: int = 0  # of its bytes, in the sum of whoever keeps several

    def read(self, path: Path) -> pa.Table | None:
        """All whole batches in the file; None when there is none yet.

        Raises:
            FileNotFoundError: the file was moved or removed; DamagedFile: it holds rows of another kind.
        """
        with examined(path), self.guard, path.open("rb") as file:
            return self.take(file.fileno())

    def take(self, descriptor: int) -> pa.Table | None:
        """`read` for an open file."""
        status = os.fstat(descriptor)
        rewritten = status.st_size == self.size and status.st_mtime_ns != self.changed_ns
        if status.st_ino != self.inode or status.st_size < self.size or rewritten:
            self.inode, self.size, self.schema, self.batches = status.st_ino, 0, None, []
            self.damage = ""
        self.changed_ns = status.st_mtime_ns
        if status.st_size > self.size:
            self._parse(os.pread(descriptor, status.st_size - self.size, self.size))
        if self.schema is None or not self.batches:
            return None
        return FileFormat.of(self.schema.metadata).updated(pa.Table.from_batches(self.batches))

    def _parse(self, data: bytes) -> None:
        """Take the whole messages at the head of `data`, all at once where none of them is damaged."""
        ends = list(_message_ends(data))
        self.damage = _damage(data[ends[-1] if ends else 0 :])
        if not ends:
            return
        try:
            self._take_together(data[: ends[-1]])
            self.size += ends[-1]
        except (pa.ArrowException, OSError, ValueError, LookupError):
            self._take_singly(data, ends)
        if len(self.batches) > _CHUNKS:
            self.batches = pa.Table.from_batches(self.batches).combine_chunks().to_batches()

    def _take_together(self, data: bytes) -> None:
        head = b"" if self.schema is None else self.schema.serialize().to_pybytes()
        with pa.ipc.open_stream(pa.BufferReader(head + data)) as stream:
            rows = stream.read_all()
        rows.validate(full=True)
        _check_columns(rows.schema)
        self.schema = rows.schema
        # copied where there are several: a slice would keep all of `data` in memory
        self.batches += (rows.combine_chunks() if rows.column(0).num_chunks > 1 else rows).to_batches()

    def _take_singly(self, data: bytes, ends: Sequence[int]) -> None:
        """One by one, up to the damaged one."""
        buffer, start = pa.py_buffer(data), 0
        for end in ends:
            try:
                self._take_message(pa.ipc.read_message(buffer.slice(start, end - start)))
            except (pa.ArrowException, OSError, ValueError, LookupError) as exc:
                self.damage = f"at byte {self.size + start}: {exc}"
                logger.warning("traffic.stream_damaged", extra={"at_byte": self.size + start, "reason": str(exc)})
                break
            start = end
        self.size += start

    def _take_message(self, message: pa.ipc.Message) -> None:
        if message.type == "schema":
            schema = pa.ipc.read_schema(message)
            _check_columns(schema)
            self.schema = schema
        elif self.schema is not None:
            batch = pa.ipc.read_record_batch(message, self.schema)
            batch.validate(full=True)
            self.batches.append(batch)


def _check_columns(schema: pa.Schema) -> None:
    """Return when a stream of this schema holds rows of the log.

    Raises:
        ValueError: it does not.
        ConfigurationError: a later release wrote it.
    """
    form = FileFormat.of(schema.metadata)
    for name, kind in columns_of(form.task).items():
        stored = form.stored_name(name)
        if not form.lacks(name, schema.names) and (stored not in schema.names or schema.field(stored).type != kind):
            raise ValueError(f"column {stored} is missing or not {kind}")
    embedding = schema.field("embedding").type  # KeyError where there is none
    if not (pa.types.is_null(embedding) or pa.types.is_fixed_size_list(embedding)):
        raise ValueError(f"column embedding is {embedding}")


def _damage(rest: bytes) -> str:
    """Why what follows the last whole message is more than a batch that its writer's death tore; else empty."""
    if len(rest) < 8 or not any(rest):  # zeros: the disk had no time to take more
        return ""
    mark, metadata = struct.unpack_from("<II", rest)
    if mark == _CONTINUATION and metadata == 0 and len(rest) == 8:
        return ""  # Arrow's own end of a stream
    if mark != _CONTINUATION or not 0 < metadata <= _LONGEST_METADATA:
        return f"{len(rest)} bytes that begin no message"
    place = rest.find(b"\xff\xff\xff\xff", 8)
    while place != -1:
        if (end := _message_end(rest, place)) is not None and _is_message(rest[place:end]):
            return f"{len(rest)} bytes with whole messages behind a damaged one"
        place = rest.find(b"\xff\xff\xff\xff", place + 1)
    return ""


def _is_message(data: bytes) -> bool:
    try:
        return bool(pa.ipc.read_message(data).type)
    except (pa.ArrowException, OSError, ValueError):
        return False


def _message_ends(data: bytes) -> Iterator[int]:
    """Where each whole message ends, from the start of `data` up to a torn one."""
    start = 0
    while (end := _message_end(data, start)) is not None:
        yield end
        start = end


def _message_end(data: bytes, start: int) -> int | None:
    """Where the message at `start` ends; None when it is torn. Its body's length stands in its metadata."""
    if len(data) < start + 8:
        return None
    mark, metadata = struct.unpack_from("<II", data, start)
    if mark != _CONTINUATION or metadata == 0 or len(data) < start + 8 + metadata:
        return None
    try:
        body = _body_length(data, start + 8)
    except struct.error:
        return None
    end = start + 8 + metadata + body
    return end if body >= 0 and len(data) >= end else None


def _body_length(data: bytes, table_at: int) -> int:
    """`Message.bodyLength`, the fourth field of the flatbuffer's root table."""
    root = table_at + struct.unpack_from("<I", data, table_at)[0]
    vtable = root - struct.unpack_from("<i", data, root)[0]
    if struct.unpack_from("<H", data, vtable)[0] < 12:
        return 0
    offset = struct.unpack_from("<H", data, vtable + 10)[0]
    return int(struct.unpack_from("<q", data, root + offset)[0]) if offset else 0


def seal(path: Path, timeout_s: float) -> bool:
    """Move a live stream to the sealed ones, without its torn end; one without rows is removed.

    Returns:
        Whether the stream is out of `live/` now, by this call or another's; False when its writer kept the lock.
    """
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return True
    with file:
        if not lock(file.fileno(), timeout_s):
            return False
        if not in_place(file.fileno(), path):
            return True
        stream, root = Stream(), path.parent.parent
        try:
            with examined(path):
                rows = stream.take(file.fileno())
        except DamagedFile as exc:
            set_aside(root, path, exc.cause)
            return True
        if stream.damage and rows is None:
            set_aside(root, path, stream.damage)
            return True
        if stream.damage:
            copy_aside(root, path, stream.damage)
        if rows is None:
            path.unlink()
            return True
        os.ftruncate(file.fileno(), stream.size)
        folder = root / SEALED
        folder.mkdir(exist_ok=True)
        path.rename(folder / sealed_name(*span_us(rows), path.stem, path.suffix))
    return True
