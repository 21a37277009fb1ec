"""What removes rows from the log: erasure of a key, and retention. One process at a time, under a lock."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.ops.traffic.catalogue import Catalogue, LogFile
from perennial.ops.traffic.columns import FIXED_COLUMNS
from perennial.ops.traffic.erased import ErasedKeys
from perennial.ops.traffic.parquet import ParquetRows, rewrite_parquet
from perennial.ops.traffic.quarantine import DamagedFile
from perennial.ops.traffic.segment import LIVE, PARQUET, Stream, in_place, lock, seal
from perennial.ops.traffic.upkeep import (
    alone,
    forget_quarantined,
    give_memory_back,
    mended,
    recover,
    setting_aside,
    whole_rows,
)

__all__ = ["barred", "discard_before", "discard_key"]

logger = logging.getLogger(__name__)
_SEAL_PATIENCE_S = 5.0


@contextmanager
def barred(root: Path, key: str, at: datetime) -> Iterator[None]:
    """Let no row of the key from before `at` be written any more; inside, every writer knows, and nothing is compacted.

    Raises:
        DependencyUnreachable: a live stream stayed locked; the note is written all the same.
    """
    root.mkdir(parents=True, exist_ok=True)
    with alone(root):
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
    with alone(root):
        recover(root)
        refused = list[ConfigurationError]()
        _seal_holding(root, unwanted, refused)
        catalogue = Catalogue.of(root)
        removed = 0
        for file in (*catalogue.sealed, *catalogue.parquet):
            if before_us is None or file.first_us < before_us:
                with setting_aside(root, refused):
                    is_old = before_us is not None and file.last_us < before_us
                    removed += _dropped(file) if is_old else _without_damage(root, file, unwanted, holds)
        if before_us is not None:
            forget_quarantined(root, before_us)
    if removed:
        give_memory_back()
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


def _seal_holding(
    root: Path, unwanted: Callable[[pa.Table], pa.ChunkedArray], refused: list[ConfigurationError]
) -> None:
    for path in sorted((root / LIVE).glob("*.arrows")):
        rows = None
        try:
            with setting_aside(root, refused):
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
        if not mended(root, exc):
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
    rows = whole_rows(root, file.path)
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
