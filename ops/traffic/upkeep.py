"""What everything that rewrites the log shares: its lock, what a kill left behind, and damaged files."""

import fcntl
import logging
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.jobs.memory import trim_heaps
from perennial.ops.traffic.catalogue import superseded
from perennial.ops.traffic.columns import schema
from perennial.ops.traffic.parquet import ParquetRows, keep_groups
from perennial.ops.traffic.quarantine import QUARANTINE, DamagedFile, copy_aside, quarantined, set_aside
from perennial.ops.traffic.segment import Stream

__all__ = [
    "alone",
    "drop_quarantined",
    "forget_quarantined",
    "give_memory_back",
    "mended",
    "put_aside",
    "recover",
    "setting_aside",
    "whole_rows",
]

logger = logging.getLogger(__name__)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    with (root / ".maintenance.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def setting_aside(root: Path, refused: list[ConfigurationError] | None = None) -> Iterator[None]:
    """Have a damaged file, or one of a later release, cost nothing but itself. The caller holds the log's lock.

    What says that a file is of a later release is added to `refused`.
    """
    try:
        yield
    except DamagedFile as exc:
        if not mended(root, exc):
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
        if (status.st_ino, status.st_mtime_ns) == seen and not mended(root, DamagedFile(path, cause)):
            set_aside(root, path, cause)
    return True


def mended(root: Path, damaged: DamagedFile) -> bool:
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
    with alone(root):
        for name in names:
            try:
                _delete_quarantined(root, name)
            except OSError as exc:
                logger.error("traffic.quarantine_not_deleted", extra={"file": name, "reason": str(exc)})
            else:
                gone.append(name)
    return tuple(gone)


def forget_quarantined(root: Path, before_us: int) -> None:
    """Set-aside files hold texts too: they go when their rows would have gone."""
    for file in quarantined(root):
        if datetime.fromisoformat(file.at).timestamp() * 1e6 < before_us:
            _delete_quarantined(root, file.name)


def _delete_quarantined(root: Path, name: str) -> None:
    path = root / QUARANTINE / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.with_name(f"{name}.why.json").unlink(missing_ok=True)


def recover(root: Path) -> None:
    output, replaced = "", frozenset[str]()
    with setting_aside(root):
        output, replaced = superseded(root)
    if output and (root / output).exists():
        for name in sorted(replaced):
            (root / name).unlink(missing_ok=True)
    for folder in root.iterdir():
        if folder.is_dir():
            for left in folder.glob(".*.tmp"):
                left.unlink()


def whole_rows(root: Path, path: Path) -> pa.Table:
    """A file's whole rows; an empty table where it has none."""
    if path.suffix == ".parquet":
        return ParquetRows.of(path).read_all()
    stream = Stream()
    rows = stream.read(path)
    if stream.damage:
        copy_aside(root, path, stream.damage)
    return schema().empty_table() if rows is None else rows


def give_memory_back() -> None:
    """What a pass needed for some tables at once, allocators would keep: 100 MB and more for a few minutes of work."""
    pa.default_memory_pool().release_unused()
    trim_heaps()
