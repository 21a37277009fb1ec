"""What rewrites the log: compaction, erasure, retention. One process at a time, under a lock; readers need none.

A compaction states in the journal what its output replaces, moves the output into place, and deletes what it
replaced. Killed anywhere in between, the log reads the same, and the next call finishes the deletions before all else.
"""

import ctypes
import fcntl
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from perennial.continual.atomic_file import write_atomically, written_whole
from perennial.continual.errors import ConfigurationError, DataError, DependencyUnreachable
from perennial.ops.traffic.catalogue import Catalogue, LogFile, journal_path, strangers, superseded
from perennial.ops.traffic.columns import FIXED_COLUMNS, columns_of, conform, in_order, schema, span_us
from perennial.ops.traffic.erased import ErasedKeys
from perennial.ops.traffic.formats import FileFormat
from perennial.ops.traffic.parquet import ParquetRows, keep_groups, rewrite_parquet, write_parquet
from perennial.ops.traffic.quarantine import QUARANTINE, DamagedFile, copy_aside, quarantined, set_aside
from perennial.ops.traffic.segment import LIVE, PARQUET, Stream, in_place, lock, seal, sealed_name, writer_gone

__all__ = ["barred", "compact", "discard_before", "discard_key", "drop_quarantined", "put_aside"]

logger = logging.getLogger(__name__)
_MOST_ROWS = 50_000  # of one compaction's output
_SMALL_ROWS = 12_000  # a file below this is joined with others
_SMALL_FILES = 8
_LARGE_ROWS, _LARGE_BYTES = 1_000_000, 2**30  # what files are joined to, piece by piece: the disk needs it once more
_JOIN_S = 20.0  # after so long the next compaction goes on: years of small files would keep erasures waiting
_IDLE_S = 600.0  # a live stream nobody wrote to for so long is sealed, whoever holds it
_SEAL_PATIENCE_S = 5.0


def compact(root: Path, *, min_age_s: float) -> int:
    """Move sealed rows into Parquet; see `TrafficLog.compact`."""
    if not root.is_dir():
        return 0
    with _alone(root):
        _recover(root)
        for path in strangers(root):
            set_aside(root, path, "its name is none of the log's")
        _seal_abandoned(root)
        ripe = [file for file in Catalogue.of(root).sealed if _age_s(file.path) >= min_age_s]
        moved = sum(_replace(root, taken) for taken in _portions(root, ripe))
        _join_small(root)
    if moved:
        _give_memory_back()
        logger.info("traffic.compacted", extra={"root": str(root), "rows": moved})
    return moved


@contextmanager
def barred(root: Path, key: str, at: datetime) -> Iterator[None]:
    """Let no row of the key from before `at` be written any more; inside, every writer knows, and nothing is compacted.

    Raises:
        DependencyUnreachable: a live stream stayed locked; the note is written all the same.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _alone(root):
        ErasedKeys(root).add(key, at)
        for path in sorted((root / LIVE).glob("*.arrows")):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # rotated meanwhile: its writer opens another, and looks at the note
            try:
                if not lock(descriptor, _SEAL_PATIENCE_S) and in_place(descriptor, path):
                    raise DependencyUnreachable(_locked(path))
            finally:
                os.close(descriptor)  # drops the lock too
        yield


def discard_key(root: Path, key: str) -> int:
    """Remove the rows that carry a key, also from live streams; returns how many.

    Of a compacted file the keys are read, and the rest of it where it holds the key.

    Raises:
        DependencyUnreachable: a live stream stayed locked.
        ConfigurationError: a file is of a later release; the others were searched.
    """

    def unwanted(rows: pa.Table) -> pa.ChunkedArray:
        return pc.equal(rows["key"], key)

    def holds(file: ParquetRows) -> bool:
        return bool(file.find_key(key, ["key"]).num_rows)

    return _discard(root, unwanted, holds)


def discard_before(root: Path, before_us: int) -> int:
    """Remove the rows logged before a moment, also from live streams; returns how many.

    Files whose rows are all older go as they are, unread; those whose rows are all later stay untouched.

    Raises:
        DependencyUnreachable: a live stream stayed locked.
    """
    moment = pa.scalar(before_us, FIXED_COLUMNS["at"])

    def unwanted(rows: pa.Table) -> pa.ChunkedArray:
        return pc.less(rows["at"], moment)

    return _discard(root, unwanted, lambda file: file.first_us < before_us, before_us=before_us)


def _discard(
    root: Path,
    unwanted: Callable[[pa.Table], pa.ChunkedArray],
    holds: Callable[[ParquetRows], bool],
    *,
    before_us: int | None = None,
) -> int:
    """Remove the rows that `unwanted` marks. Files keep their names: their times only bound the rows."""
    if not root.is_dir():
        return 0
    with _alone(root):
        _recover(root)
        refused = list[ConfigurationError]()
        _seal_holding(root, unwanted, refused)
        catalogue = Catalogue.of(root)
        removed = 0
        for file in (*catalogue.sealed, *catalogue.parquet):
            if before_us is None or file.first_us < before_us:
                with _setting_aside(root, refused):
                    is_old = before_us is not None and file.last_us < before_us
                    removed += _dropped(file) if is_old else _without_damage(root, file, unwanted, holds)
        if before_us is not None:
            _forget_quarantined(root, before_us)
    if removed:
        _give_memory_back()
        logger.info("traffic.discarded", extra={"root": str(root), "rows": removed})
    if refused and before_us is None:  # what may hold the rows was not searched
        raise refused[0]
    return removed


def _dropped(file: LogFile) -> int:
    """Remove a whole file; returns how many rows it had, as far as this release can tell."""
    rows = 0
    try:
        if file.folder == PARQUET:
            rows = ParquetRows.of(file.path).rows
        else:
            table = Stream().read(file.path)
            rows = 0 if table is None else int(table.num_rows)
    except (ConfigurationError, DamagedFile) as exc:
        logger.warning("traffic.dropped_unread", extra={"path": str(file.path), "reason": str(exc)})
    file.path.unlink()
    return rows


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    with (root / ".maintenance.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _setting_aside(root: Path, refused: list[ConfigurationError] | None = None) -> Iterator[None]:
    """Have a damaged file, or one of a later release, cost nothing but itself. The caller holds the log's lock.

    What says that a file is of a later release is added to `refused`.
    """
    try:
        yield
    except DamagedFile as exc:
        if not _mended(root, exc):
            set_aside(root, exc.path, exc.cause)
    except ConfigurationError as exc:  # its own release goes on with it
        logger.warning("traffic.later_format", extra={"root": str(root), "reason": str(exc)})
        if refused is not None:
            refused.append(exc)


def put_aside(root: Path, path: Path, cause: str, seen: tuple[int, int]) -> bool:
    """Set a file aside that a reader found damaged; False while somebody else rewrites the log.

    `seen` is the file's inode and time of change when it was read: one that was replaced since is left alone.
    """
    with (root / ".maintenance.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            status = path.stat()
        except FileNotFoundError:
            return True
        if (status.st_ino, status.st_mtime_ns) == seen and not _mended(root, DamagedFile(path, cause)):
            set_aside(root, path, cause)
    return True


def _mended(root: Path, damaged: DamagedFile) -> bool:
    """Keep in the log those row groups of a compacted file that can be read, and the file itself in the quarantine.

    False where that is none of them, where none of them is what is damaged, and where a full disk takes no copy.
    """
    path = damaged.path
    if path.suffix != ".parquet":
        return False
    try:
        file = ParquetRows.of(path)
        whole = file.readable_groups()
        if not 0 < len(whole) < file.footer.num_row_groups:
            return False
        copy_aside(root, path, damaged.cause)
        rows = keep_groups(file, whole)
    except (OSError, DataError):
        return False
    logger.warning("traffic.mended", extra={"path": str(path), "rows": rows, "rows_lost": file.rows - rows})
    return True


def drop_quarantined(root: Path, names: Collection[str]) -> tuple[str, ...]:
    """Delete files from the quarantine; returns those that are gone now. What the disk keeps is told in the log."""
    if not names:
        return ()
    gone = []
    with _alone(root):
        for name in names:
            try:
                _delete_quarantined(root, name)
            except OSError as exc:
                logger.error("traffic.quarantine_not_deleted", extra={"file": name, "reason": str(exc)})
            else:
                gone.append(name)
    return tuple(gone)


def _forget_quarantined(root: Path, before_us: int) -> None:
    """Set-aside files hold texts too: they go when their rows would have gone."""
    for file in quarantined(root):
        if datetime.fromisoformat(file.at).timestamp() * 1e6 < before_us:
            _delete_quarantined(root, file.name)


def _delete_quarantined(root: Path, name: str) -> None:
    path = root / QUARANTINE / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.with_name(f"{name}.why.json").unlink(missing_ok=True)


def _recover(root: Path) -> None:
    output, replaced = "", frozenset[str]()
    with _setting_aside(root):
        output, replaced = superseded(root)
    if output and (root / output).exists():
        for name in sorted(replaced):
            (root / name).unlink(missing_ok=True)
    for folder in root.iterdir():
        if folder.is_dir():
            for left in folder.glob(".*.tmp"):
                left.unlink()


def _seal_abandoned(root: Path) -> None:
    for file in Catalogue.of(root).live:
        try:
            abandoned = writer_gone(file.stem) or _age_s(file.path) > _IDLE_S
        except FileNotFoundError:
            continue  # rotated meanwhile
        with _setting_aside(root):
            if abandoned and not seal(file.path, 0.0):
                logger.warning("traffic.stream_locked", extra={"path": str(file.path)})


def _seal_holding(
    root: Path, unwanted: Callable[[pa.Table], pa.ChunkedArray], refused: list[ConfigurationError]
) -> None:
    for path in sorted((root / LIVE).glob("*.arrows")):
        rows = None
        try:
            with _setting_aside(root, refused):
                rows = Stream().read(path)
        except FileNotFoundError:
            continue  # rotated meanwhile: it is among the sealed ones
        if rows is not None and pc.any(unwanted(rows)).as_py() and not seal(path, _SEAL_PATIENCE_S):
            raise DependencyUnreachable(_locked(path))


def _locked(path: Path) -> str:
    return (
        f"{path} was kept locked for {_SEAL_PATIENCE_S:g} s by its writer, so nothing was removed; "
        "see whether that process hangs, then try again"
    )


def _portions(root: Path, files: Sequence[LogFile]) -> Iterator[list[tuple[LogFile, pa.Table]]]:
    """Files that make one output each: one task and width of embeddings, neighbours in time, not too many rows."""
    erased = ErasedKeys(root)
    kinds = dict[Path, tuple[str, int]]()
    for file in files:
        with _setting_aside(root):
            kinds[file.path] = _kind(file.path)
    portion: list[tuple[LogFile, pa.Table]] = []
    for file in sorted((file for file in files if file.path in kinds), key=lambda file: kinds[file.path]):
        full = sum(table.num_rows for _, table in portion) >= _MOST_ROWS
        if full or (portion and kinds[portion[0][0].path] != kinds[file.path]):
            yield portion
            portion = []
        with _setting_aside(root):
            portion.append((file, erased.without(_rows(root, file.path))))
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
        with _setting_aside(root):
            sizes[file.path] = _known_rows(file.path)
    small = [file for file in catalogue if sizes.get(file.path, _SMALL_ROWS) < _SMALL_ROWS]
    if len(small) >= _SMALL_FILES:
        for taken in _portions(root, small):
            if len(taken) > 1:
                _replace(root, taken)
    middling = [file for file in catalogue if sizes.get(file.path, 0) >= _SMALL_ROWS]
    began = time.monotonic()
    for some in _neighbours(middling, sizes):
        with _setting_aside(root):
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
    _give_memory_back()


def _note_replacement(root: Path, output: Path, taken: Sequence[LogFile]) -> None:
    journal = {
        "output": output.relative_to(root).as_posix(),
        "replaces": sorted(file.path.relative_to(root).as_posix() for file in taken),
    }
    write_atomically(journal_path(root), json.dumps(journal))


def _without_damage(
    root: Path,
    file: LogFile,
    unwanted: Callable[[pa.Table], pa.ChunkedArray],
    holds: Callable[[ParquetRows], bool],
) -> int:
    """As `_without`; what can be read of a damaged file is searched as well."""
    try:
        return _without(root, file, unwanted, holds)
    except DamagedFile as exc:
        if not _mended(root, exc):
            raise
        return _without(root, file, unwanted, holds)


def _without(
    root: Path,
    file: LogFile,
    unwanted: Callable[[pa.Table], pa.ChunkedArray],
    holds: Callable[[ParquetRows], bool],
) -> int:
    """Rewrite a file in its place without some of its rows; returns how many those were."""
    if file.folder == PARQUET:
        parquet = ParquetRows.of(file.path)
        if not holds(parquet):
            return 0
        return parquet.rows - rewrite_parquet(
            [parquet], file.path, kept=lambda table: _kept(table, unwanted), joined=False
        )
    rows = _rows(root, file.path)
    kept = _kept(rows, unwanted)
    if kept.num_rows == rows.num_rows:
        return 0
    if not kept.num_rows:
        file.path.unlink()
    else:
        with (
            written_whole(file.path) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_stream(sink, kept.schema) as stream,
        ):
            stream.write_table(kept)
    return int(rows.num_rows - kept.num_rows)


def _kept(rows: pa.Table, unwanted: Callable[[pa.Table], pa.ChunkedArray]) -> pa.Table:
    return rows.filter(pc.invert(pc.fill_null(unwanted(rows), False)))


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


def _rows(root: Path, path: Path) -> pa.Table:
    """A file's whole rows; an empty table where it has none."""
    if path.suffix == ".parquet":
        return ParquetRows.of(path).read_all()
    stream = Stream()
    rows = stream.read(path)
    if stream.damage:
        copy_aside(root, path, stream.damage)
    return schema().empty_table() if rows is None else rows


def _task(rows: pa.Table) -> str:
    """The task of rows that a file of the log gave."""
    return FileFormat.of(rows.schema.metadata).task


def _give_memory_back() -> None:
    """What a pass needed for some tables at once, allocators would keep: 100 MB and more for a few minutes of work."""
    pa.default_memory_pool().release_unused()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:  # glibc's own
        trim(0)


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime
