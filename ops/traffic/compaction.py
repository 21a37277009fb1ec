"""What makes few large files of many small ones. One process at a time, under a lock; readers need none.

A compaction states in the journal what its output replaces, moves the output into place, and deletes what it
replaced. Killed anywhere in between, the log reads the same, and the next call finishes the deletions before all else.
"""

import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from perennial.continual.atomic_file import write_atomically
from perennial.ops.traffic.catalogue import Catalogue, LogFile, journal_path, strangers
from perennial.ops.traffic.columns import columns_of, conform, in_order, span_us
from perennial.ops.traffic.erased import ErasedKeys
from perennial.ops.traffic.formats import FileFormat
from perennial.ops.traffic.parquet import ParquetRows, rewrite_parquet, write_parquet
from perennial.ops.traffic.quarantine import DamagedFile, set_aside
from perennial.ops.traffic.segment import PARQUET, Stream, seal, sealed_name, writer_gone
from perennial.ops.traffic.upkeep import alone, give_memory_back, recover, setting_aside, whole_rows

__all__ = ["compact"]

logger = logging.getLogger(__name__)
_MOST_ROWS = 50_000  # of one compaction's output
_SMALL_ROWS = 12_000  # a file below this is joined with others
_SMALL_FILES = 8
_LARGE_ROWS, _LARGE_BYTES = 1_000_000, 2**30  # what files are joined to, piece by piece: the disk needs it once more
_JOIN_S = 20.0  # after so long the next compaction goes on: years of small files would keep erasures waiting
_IDLE_S = 600.0  # a live stream nobody wrote to for so long is sealed, whoever holds it


def compact(root: Path, *, min_age_s: float) -> int:
    """Move sealed rows into Parquet; see `TrafficLog.compact`."""
    if not root.is_dir():
        return 0
    with alone(root):
        recover(root)
        for path in strangers(root):
            set_aside(root, path, "its name is none of the log's")
        _seal_abandoned(root)
        ripe = [file for file in Catalogue.of(root).sealed if _age_s(file.path) >= min_age_s]
        moved = sum(_replace(root, taken) for taken in _portions(root, ripe))
        _join_small(root)
    if moved:
        give_memory_back()
        logger.info("traffic.compacted", extra={"root": str(root), "rows": moved})
    return moved


def _seal_abandoned(root: Path) -> None:
    for file in Catalogue.of(root).live:
        try:
            abandoned = writer_gone(file.stem) or _age_s(file.path) > _IDLE_S
        except FileNotFoundError:
            continue  # rotated meanwhile
        with setting_aside(root):
            if abandoned and not seal(file.path, 0.0):
                logger.warning("traffic.stream_locked", extra={"path": str(file.path)})


def _portions(root: Path, files: Sequence[LogFile]) -> Iterator[list[tuple[LogFile, pa.Table]]]:
    """Files that make one output each: one task and width of embeddings, neighbours in time, not too many rows."""
    erased = ErasedKeys(root)
    kinds = dict[Path, tuple[str, int]]()
    for file in files:
        with setting_aside(root):
            kinds[file.path] = _kind(file.path)
    portion: list[tuple[LogFile, pa.Table]] = []
    for file in sorted((file for file in files if file.path in kinds), key=lambda file: kinds[file.path]):
        full = sum(table.num_rows for _, table in portion) >= _MOST_ROWS
        if full or (portion and kinds[portion[0][0].path] != kinds[file.path]):
            yield portion
            portion = []
        with setting_aside(root):
            portion.append((file, erased.without(whole_rows(root, file.path))))
    if portion:
        yield portion


def _replace(root: Path, taken: Sequence[tuple[LogFile, pa.Table]]) -> int:
    """Write one Parquet file in place of others, in the order that survives a kill; returns its rows."""
    task = _task(taken[0][1])
    table = in_order(conform([rows for _, rows in taken], [*columns_of(task), "embedding"], task))
    if table.num_rows:
        output = root / PARQUET / sealed_name(*span_us(table), secrets.token_hex(6), ".parquet")
        _note_replacement(root, output, [file for file, _ in taken])
        write_parquet(table, output, task=task)
    for file, _ in taken:
        file.path.unlink()
    return int(table.num_rows)


def _join_small(root: Path) -> None:
    """Join neighbouring files, so that their number grows with the rows and not with the compactions.

    Small ones become middling ones at once; middling ones become large ones piece by piece, in little memory.
    """
    sizes = dict[Path, int]()
    catalogue = Catalogue.of(root).parquet
    for file in catalogue:
        with setting_aside(root):
            sizes[file.path] = _known_rows(file.path)
    small = [file for file in catalogue if sizes.get(file.path, _SMALL_ROWS) < _SMALL_ROWS]
    if len(small) >= _SMALL_FILES:
        for taken in _portions(root, small):
            if len(taken) > 1:
                _replace(root, taken)
    middling = [file for file in catalogue if sizes.get(file.path, 0) >= _SMALL_ROWS]
    began = time.monotonic()
    for some in _neighbours(middling, sizes):
        with setting_aside(root):
            _join(root, some)
        if time.monotonic() - began > _JOIN_S:
            break


@lru_cache(maxsize=65_536)
def _rows_in(path: Path, inode: int, changed_ns: int) -> int:
    """How many rows a compacted file has; each footer is read once."""
    return ParquetRows.of(path).rows


def _known_rows(path: Path) -> int:
    status = path.stat()
    return _rows_in(path, status.st_ino, status.st_mtime_ns)


def _neighbours(files: Sequence[LogFile], sizes: Mapping[Path, int]) -> Iterator[list[LogFile]]:
    """Runs of files in the order of time that make one large file each; what makes none yet is left."""
    some, filled = list[LogFile](), 0.0
    for file in files:
        share = max(sizes[file.path] / _LARGE_ROWS, file.path.stat().st_size / _LARGE_BYTES)
        if share >= 0.5:
            continue  # it would be written again for a few rows more
        if some and filled + share > 1:
            yield some
            some, filled = [], 0.0
        some.append(file)
        filled += share


def _join(root: Path, files: Sequence[LogFile]) -> None:
    """Write one file in place of several, in the order that survives a kill."""
    erased, by_kind = ErasedKeys(root), dict[tuple[str, int], list[LogFile]]()
    for file in files:
        by_kind.setdefault(_kind(file.path), []).append(file)
    for taken in by_kind.values():
        if len(taken) < 2:
            continue
        times = min(file.first_us for file in taken), max(file.last_us for file in taken)
        output = root / PARQUET / sealed_name(*times, secrets.token_hex(6), ".parquet")
        _note_replacement(root, output, taken)
        parts = [ParquetRows.of(file.path) for file in taken]
        rewrite_parquet(parts, output, kept=erased.without, joined=True)
        for file in taken:
            file.path.unlink()
    give_memory_back()


def _note_replacement(root: Path, output: Path, taken: Sequence[LogFile]) -> None:
    journal = {
        "output": output.relative_to(root).as_posix(),
        "replaces": sorted(file.path.relative_to(root).as_posix() for file in taken),
    }
    write_atomically(journal_path(root), json.dumps(journal))


def _kind(path: Path) -> tuple[str, int]:
    """A file's task and the dimension of its embeddings, from its head or footer alone; 0 where it has none."""
    if path.suffix == ".parquet":
        file = ParquetRows.of(path)
        return file.format.task, file.dimension or 0
    try:
        with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as whole:
            return _kind_of(whole.schema)
    except (pa.ArrowException, OSError, ValueError, LookupError):
        pass  # what is readable of it decides
    stream = Stream()
    stream.read(path)
    if stream.schema is None:
        if stream.damage:
            raise DamagedFile(path, stream.damage)
        return "", 0  # torn before its first row
    return _kind_of(stream.schema)


def _kind_of(schema_read: pa.Schema) -> tuple[str, int]:
    kind = schema_read.field("embedding").type
    return FileFormat.of(schema_read.metadata).task, 0 if pa.types.is_null(kind) else int(kind.list_size)


def _task(rows: pa.Table) -> str:
    """The task of rows that a file of the log gave."""
    return FileFormat.of(rows.schema.metadata).task


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime
