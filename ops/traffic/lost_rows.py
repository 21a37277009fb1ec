"""How many answered rows never reached the log: known also after a process was killed that held some in its memory.

Each writing process has a small file of its own. It has its full size from the first moment on, so that a full disk
takes every later count. A process that takes over the file of a killed one counts as lost what that one held.

A file is a living process's while that keeps it locked. Process ids would say nothing: containers that share the
folder have the same ones. Its name tells the host, so that each takes over its own files alone.
"""

import fcntl
import os
import platform
import re
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from perennial.ops.traffic.segment import process_start

__all__ = ["LostRows", "LostRowsCount", "lost_rows"]

_FOLDER = "lost"
_RECORD = struct.Struct("<5q")
_PAUSES_S = (0.005, 0.02, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRows:
    """Rows that were answered and are not in the log, of all processes so far; `last` is when some were lost last."""

    rows: int = 0
    last: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """`pid` and `ticks` name the process to people. Rows that it holds are lost once it is killed."""

    pid: int = 0
    ticks: int = 0
    held: int = 0
    lost: int = 0
    last_us: int = 0


class LostRowsCount:
    """One process's count. Not safe to share between threads.

    Args:
        root: the log's folder.
        name: what the process is, the same after a restart.

    Raises:
        OSError: the disk does not take the file.
    """

    def __init__(self, root: Path, name: str) -> None:
        folder = Path(root) / _FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        name, host = (re.sub(r"[^A-Za-z0-9_]", "_", part) for part in (name, platform.node()))
        descriptors = (_taken(folder / f"{name}.{host}.{number}") for number in count())
        self._descriptor = next(descriptor for descriptor in descriptors if descriptor is not None)
        before = _read(self._descriptor)
        self.found = before.held  # rows that were lost with the process before this one
        last_us = time.time_ns() // 1000 if self.found else before.last_us
        self._kept = _Record(
            pid=os.getpid(),
            ticks=int(process_start(os.getpid()) or 0),
            lost=before.lost + before.held,
            last_us=last_us,
        )
        _write(self._descriptor, self._kept)

    def note(self, *, held: int, newly_lost: int) -> None:
        """Keep how many rows are held in memory now, and that more of them were lost.

        Raises:
            OSError: the disk did not take it.
        """
        last_us = time.time_ns() // 1000 if newly_lost else self._kept.last_us
        kept = replace(self._kept, held=held, lost=self._kept.lost + newly_lost, last_us=last_us)
        _write(self._descriptor, kept)
        self._kept = kept


def lost_rows(root: Path) -> LostRows:
    """What all processes lost so far. A file that cannot be read counts nothing."""
    rows, last_us = 0, 0
    for path in (Path(root) / _FOLDER).glob("*"):
        with suppress(OSError), path.open("rb") as file:
            record = _read(file.fileno())
            held = 0 if _is_written(file.fileno(), path, record) else record.held
            rows += record.lost + held
            last_us = max(last_us, record.last_us, path.stat().st_mtime_ns // 1000 if held else 0)
    return LostRows(rows=rows, last=datetime.fromtimestamp(last_us / 1e6, UTC) if last_us else None)


def _is_written(descriptor: int, path: Path, record: _Record) -> bool:
    """Whether the file's process lives."""
    if path.name.count(".") < 2:  # of an earlier release, which let go of the lock and went by the process id
        return record.pid > 0 and process_start(record.pid) == str(record.ticks)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _taken(path: Path) -> int | None:
    """The open file, locked for as long as it is open; none where it is a living process's."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    for pause_s in _PAUSES_S:  # somebody who only looks holds it for an instant
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause_s)
        else:
            return descriptor
    os.close(descriptor)
    return None


def _read(descriptor: int) -> _Record:
    data = os.pread(descriptor, _RECORD.size, 0)
    if len(data) < _RECORD.size:
        return _Record()
    pid, ticks, held, lost, last_us = _RECORD.unpack(data)
    return _Record(pid=pid, ticks=ticks, held=held, lost=lost, last_us=last_us)


def _write(descriptor: int, record: _Record) -> None:
    data = _RECORD.pack(record.pid, record.ticks, record.held, record.lost, record.last_us)
    if os.pwrite(descriptor, data, 0) != len(data):
        raise OSError("the count of lost rows was written in part")
