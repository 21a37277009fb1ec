"""Damaged files that a traffic log set aside: which of them may hold what was erased, and their end."""

from pathlib import Path

from perennial.continual.errors import PerennialError
from perennial.ops.commands.erasing.needles import Needles
from perennial.ops.commands.erasing.search import Sought, needles_for, parquet_columns, text_columns
from perennial.ops.traffic import TrafficLog
from perennial.ops.traffic.quarantine import QUARANTINE
from perennial.ops.traffic.segment import Stream

__all__ = ["damaged_files_of"]


def damaged_files_of(root: Path, sought: Sought) -> tuple[str, ...]:
    """The files in a log's quarantine that hold something of this, and those that nobody can read to the end.

    Of a damaged file it cannot be told whose rows it holds, so it counts as everybody's.
    """
    needles = needles_for(sought)
    names = [file.name for file in TrafficLog(root).quarantined()]
    return tuple(name for name in names if _may_hold(root / QUARANTINE / name, sought, needles))


def _may_hold(path: Path, sought: Sought, needles: Needles) -> bool:
    if path.is_dir():
        return any(_may_hold(inside, sought, needles) for inside in path.rglob("*") if not inside.is_dir())
    try:
        if path.suffix == ".parquet":
            return any(_one_is_sought(cells, sought) for cells in parquet_columns(path))
        if path.suffix == ".arrows":
            return _stream_may_hold(path, sought)
        content = path.read_bytes()
        content.decode()
    except (OSError, ValueError, EOFError, PerennialError, MemoryError):
        return True
    return b"\0" in content or bool(needles.found_in_bytes(content))


def _stream_may_hold(path: Path, sought: Sought) -> bool:
    stream = Stream()
    rows = stream.read(path)
    if stream.damage or stream.size < path.stat().st_size:
        return True
    return rows is not None and any(_one_is_sought(rows[name].to_pylist(), sought) for name in text_columns(rows))


def _one_is_sought(cells: list[object], sought: Sought) -> bool:
    everything = sought.keys | sought.prediction_ids | sought.texts
    return not everything.isdisjoint(cell for cell in cells if isinstance(cell, str))
