"""The database of record: opened, brought to the current schema, and ready for every part of it."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from sqlite3 import SQLITE_BUSY, SQLITE_LOCKED
from sqlite3 import Connection as SqliteConnection
from sqlite3 import OperationalError as SqliteError
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url

from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.ops.ledger.accounts import AccountStore
from perennial.ops.ledger.answers import AnswerStore
from perennial.ops.ledger.buffers import BufferStore
from perennial.ops.ledger.commands import CommandStore
from perennial.ops.ledger.cycles import CycleStore
from perennial.ops.ledger.descriptions import DescriptionStore
from perennial.ops.ledger.erasures import ErasureStore
from perennial.ops.ledger.examples import ExampleStore
from perennial.ops.ledger.feedback import FeedbackStore
from perennial.ops.ledger.jobs import JobStore
from perennial.ops.ledger.migration import migrate
from perennial.ops.ledger.place import LedgerFile
from perennial.ops.ledger.pruning import PruningStore
from perennial.ops.ledger.recount import RecountStore
from perennial.ops.ledger.store import BUSY_S, WRITE, translated, utc_now
from perennial.ops.ledger.versions import VersionStore

__all__ = ["Ledger", "engine_of"]


class Ledger(
    AnswerStore,
    VersionStore,
    FeedbackStore,
    ExampleStore,
    BufferStore,
    CycleStore,
    DescriptionStore,
    CommandStore,
    ErasureStore,
    JobStore,
    PruningStore,
    RecountStore,
    AccountStore,
):
    """The database of record. Threads and processes may share it; every call is one transaction of its own.

    What a call returned was committed: with SQLite that means fsynced (WAL, synchronous=FULL).
    """

    @classmethod
    def open(cls, url: str, *, clock: Callable[[], datetime] = utc_now) -> Self:
        """Open `sqlite:///var/ledger.db` or `postgresql://...`, creating and migrating as needed.

        Several processes may open a new database at once: one of them migrates.

        Raises:
            ConfigurationError: the URL is wrong, or a newer release wrote the database.
            DependencyUnreachable: the database cannot be reached, or psycopg is missing.
        """
        engine = engine_of(url)
        if engine.dialect.name == "sqlite":
            Path(str(engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
        ledger = cls(engine, clock=clock)
        try:
            with translated(ledger.url):
                migrate(engine, ledger.url)
            if engine.dialect.name == "sqlite":
                ledger._file = LedgerFile.of(Path(str(engine.url.database)))
        except BaseException:
            engine.dispose()
            raise
        return ledger

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, for the leader's own connection and for a person's queries."""
        return self._engine

    def close(self) -> None:
        """Give back every connection. Calling it again does nothing."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def engine_of(url: str) -> Engine:
    """The way to a ledger's database, as it lies there.

    Raises:
        ConfigurationError: the URL is wrong. DependencyUnreachable: psycopg is missing.
    """
    return _engine(_checked(url))


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        # from None: the URL may hold a password, and what SQLAlchemy raises may quote a part of it
        raise ConfigurationError(
            "the ledger url cannot be read; give sqlite:///PATH or postgresql://USER@HOST:PORT/NAME"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "postgresql" or parsed.drivername == "postgres":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigurationError(f"ledger url names {backend!r}; allowed are sqlite and postgresql")
    if parsed.database in {None, "", ":memory:"}:
        raise ConfigurationError("ledger url names an SQLite database in memory; it needs a file: sqlite:///PATH")
    return parsed


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": BUSY_S}, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5}, hide_parameters=True)
    except ModuleNotFoundError as error:
        raise DependencyUnreachable(
            f"a PostgreSQL ledger needs psycopg, which is not installed ({error}); "
            "pip install 'perennial-serving[postgresql]'"
        ) from error
    event.listen(engine, "connect", lambda connection, _: _prepare_postgresql(connection, url))
    return engine


def _prepare_postgresql(connection: Any, url: URL) -> None:
    """Have small questions answered at once: they cost less than a compiled plan or workers to share them.

    PostgreSQL guesses that a third of a large table waits for something, where an index knows that none does. What the
    URL's options name stays as they say. Nothing of this is asked for while connecting: poolers refuse that.
    """
    given = str(url.query.get("options", ""))
    with connection.cursor() as cursor:
        for name, value in (("jit", "off"), ("max_parallel_workers_per_gather", "0")):
            if name not in given:
                cursor.execute(f"SET {name} = {value}")
    connection.commit()


def _prepare_sqlite(connection: SqliteConnection, _: Any) -> None:
    """Hand transaction control to us (the driver would begin them late) and set what durability needs."""
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={int(1000 * BUSY_S)}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
    ):
        _set_patiently(connection, f"PRAGMA {pragma}")


def _set_patiently(connection: SqliteConnection, statement: str) -> None:
    """SQLite refuses to turn a file to WAL at once, whatever its busy timeout, while another opener does the same."""
    patience = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute(statement)
            return
        except SqliteError as error:
            if error.sqlite_errorcode & 0xFF not in {SQLITE_BUSY, SQLITE_LOCKED} or time.monotonic() > patience:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a read that turns into a write fails when another writer came in between."""
    writes = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
