"""A small database beside the ledger, readable by its owner alone: SQLite that routers read and never wait long for."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from perennial.continual.errors import DependencyUnreachable

__all__ = ["PrivateFile", "copied", "moment", "rehearsed", "stamp"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class PrivateFile:
    """One SQLite file with a write-ahead log. Safe to share between threads; several processes may have it open.

    Args:
        path: the file; a write makes it where it is missing.
        tables: the statements that make its tables where they are missing.
        holds: what is in it, for messages.
        wait_s: the longest that a call waits for a lock of another process.
    """

    def __init__(self, path: Path, *, tables: str, holds: str, wait_s: float = 10.0) -> None:
        self.path = path
        self._tables, self._holds, self._wait_s, self._lock = tables, holds, wait_s, threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # device and inode: the file may be taken away and come back

    def close(self) -> None:
        """Close the file, where it is open."""
        with self._lock:
            self._drop()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, which nobody else writes beside; within another one of this thread, a part of that.

        Raises:
            DependencyUnreachable: the file cannot be written.
        """
        with self.reading(create=True) as connection:
            if connection.in_transaction:
                yield connection
                return
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection

    @contextmanager
    def reading(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """The open file.

        Raises:
            DependencyUnreachable: it is missing or cannot be read.
        """
        with self._lock:
            try:
                if self._connection is None or _identity(self.path) != self._opened:
                    self._drop()
                    self._connection = self._connected(create=create)
                    self._opened = _identity(self.path)
                yield self._connection
            except (sqlite3.Error, OSError) as exc:
                raise DependencyUnreachable(
                    f"{self._holds} in {self.path} cannot be used ({exc}); see that the file is there and yours"
                ) from exc

    def state(self) -> tuple[object, int]:
        """Another value once somebody else has written the file, or another file has taken its place; cheap.

        Raises:
            DependencyUnreachable: the file is missing or cannot be read.
        """
        with self.reading() as connection:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            return self._opened, int(version)

    def wipe(self) -> None:
        """Leave nothing of deleted rows in the file and its write-ahead log: moved rows leave copies of themselves.

        Raises:
            DependencyUnreachable: a reader holds it.
        """
        with self.reading(create=True) as connection:
            connection.execute("VACUUM")
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise sqlite3.OperationalError("a reader holds the log that the erased rows are in; erase again")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, *, create: bool) -> sqlite3.Connection:
        if create:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # a close would end the locks of others here who have it open
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode=rw",
            uri=True,
            timeout=self._wait_s,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA secure_delete = ON")
        if create:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(self._tables)
        return connection


@contextmanager
def rehearsed(path: Path) -> Iterator[Path]:
    """A copy of the file as it is now, none where there is none: what a dry run does to it happens nowhere else."""
    with TemporaryDirectory(prefix="perennial-dry-run-") as folder:
        copy = Path(folder) / path.name
        if path.is_file():
            copied(path, copy)
        yield copy


def copied(path: Path, target: Path) -> None:
    """Write the file as it is now to another place, whoever has it open."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as kept, closing(sqlite3.connect(target)) as made:
        kept.backup(made)


def stamp(at: datetime) -> int:
    """A time as the file keeps it: microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def moment(kept: int) -> datetime:
    """The time that `stamp` gave."""
    return _EPOCH + kept * _MICROSECOND


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
