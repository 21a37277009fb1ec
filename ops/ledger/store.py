"""What every part of the ledger stands on: the engine, its transactions, their fences and the translation of errors."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Connection, Engine, RowMapping, Table, exc, select
from sqlalchemy.dialects import postgresql, sqlite

from perennial.continual.errors import DataError, DependencyUnreachable, LeaseLost, NotFound
from perennial.continual.task import AnyTask
from perennial.continual.tasks import DEFAULT_TASK, task_named
from perennial.ops.ledger import schema
from perennial.ops.ledger.place import LedgerFile
from perennial.ops.ledger.rows import Conflict, Fence

__all__ = ["BUSY_S", "CHUNK", "WRITE", "Store", "chunks", "translated", "utc_now"]

CHUNK = 500  # values in one IN list; SQLite's oldest limit for variables is 999
BUSY_S = 15.0  # for another writer
WRITE = "perennial_write"  # execution option: SQLite takes the write lock at BEGIN, not in the middle

_T = TypeVar("_T")
_QUOTING = frozenset({"22"})  # classes of PostgreSQL whose main message quotes a value
_RETRIED = frozenset({"40001", "40P01"})  # PostgreSQL: serialization failure, deadlock

_open: ContextVar[tuple[Engine, Connection] | None] = ContextVar("perennial_ledger_transaction", default=None)
_fences: ContextVar[tuple[Fence, ...]] = ContextVar("perennial_ledger_fences", default=())


def utc_now() -> datetime:
    """Return the present, aware."""
    return datetime.now(UTC)


def chunks(values: Sequence[_T], size: int = CHUNK) -> Iterator[Sequence[_T]]:
    """Cut values into runs that fit one statement."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn what the driver raises into this product's errors, which quote nothing that was to be stored.

    The driver's own error is left out of the chain: PostgreSQL writes whole rows into it.

    Raises:
        Conflict: another writer was first, or held us up while we held it up.
        DataError: the database cannot hold a value.
        DependencyUnreachable: the database cannot be reached, is locked too long, is full or is no database.
    """
    try:
        yield
    except exc.IntegrityError as error:
        raise Conflict(
            f"ledger {where}: another writer was first ({_driver_message(error)}); read again and retry"
        ) from None
    except exc.TimeoutError as error:
        raise DependencyUnreachable(
            f"ledger {where}: every connection of the pool is busy ({error}); retry, or run fewer writers"
        ) from error
    except exc.DataError as error:
        raise DataError(
            f"ledger {where} cannot hold a value ({_driver_message(error)}); look for NUL characters and for numbers "
            f"or times out of range"
        ) from None
    except OverflowError:  # SQLite's driver refuses such values before the database is asked
        raise DataError(
            f"ledger {where} cannot hold a number or time out of range; the largest number is {2**63 - 1:,}"
        ) from None
    except UnicodeEncodeError:
        raise DataError(f"ledger {where} cannot hold half of a surrogate pair; take it out of the text") from None
    except exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in _RETRIED:
            raise Conflict(
                f"ledger {where}: two writers held each other up ({_driver_message(error)}); retry"
            ) from None
        raise DependencyUnreachable(
            f"ledger {where} failed: {_driver_message(error)}; check that the database runs, is writable and has free "
            "space"
        ) from None


def _driver_message(error: exc.DBAPIError) -> str:
    """The driver's message without what PostgreSQL adds of the row: only what kind of error it was, if that is all."""
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return str(error.orig).splitlines()[0] if str(error.orig) else type(error.orig).__name__
    if state[:2] in _QUOTING:
        return f"{type(error.orig).__name__}, SQLSTATE {state}"
    message = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    return f"{message or type(error.orig).__name__}, SQLSTATE {state}"


class Store:
    """Base of the ledger's parts. Threads may share one; each transaction takes a connection of its own."""

    def __init__(self, engine: Engine, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{WRITE: True})
        self._clock = clock
        self._turn = threading.Lock()
        self._file: LedgerFile | None = None  # an SQLite ledger's, once it is open

    @property
    def url(self) -> str:
        """The database, without its password, wherever in the URL that stands."""
        return self._engine.url.set(query={}).render_as_string(hide_password=True)

    def check_place(self, *, open_here: bool = False) -> None:
        """Return when an SQLite ledger's file is the one that was opened; on PostgreSQL at once.

        Raises:
            DependencyUnreachable: it was deleted, emptied or replaced.
        """
        if self._file is not None:
            self._file.check(open_here=open_here)

    def ping(self) -> None:
        """Return when the database answers; on PostgreSQL this may take the 5 s of its connection timeout.

        Raises:
            DependencyUnreachable: it does not, or an SQLite file is gone.
        """
        with self._read() as connection:
            connection.execute(select(schema.lease.c.epoch).limit(1)).first()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the calls inside one transaction: all of them are kept, or none.

        A transaction inside another joins it. It belongs to this thread; keep it short, because on SQLite it holds the
        only write lock.
        """
        with self._write():
            yield

    @contextmanager
    def fenced(self, fence: Fence) -> Iterator[None]:
        """Let no write inside happen unless `fence` still is the newest epoch of its lease.

        The check is part of each write's transaction, so that a leader that was replaced between the check and the
        write cannot slip through. It holds for this thread.

        Raises:
            LeaseLost: from the first write after another leader took over; that write did not happen.
        """
        token = _fences.set((*_fences.get(), fence))
        try:
            yield
        finally:
            _fences.reset(token)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        joined = _open.get()
        if joined is not None and joined[0] is self._engine:
            with translated(self.url):
                yield joined[1]
            return
        self.check_place()
        with translated(self.url), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        joined = _open.get()
        if joined is not None and joined[0] is self._engine:
            with translated(self.url):
                self._check_fences(joined[1])
                yield joined[1]
            return
        self.check_place()
        with translated(self.url), self._in_turn(), self._writer.begin() as connection:
            self.check_place(open_here=True)
            self._check_fences(connection)
            token = _open.set((self._engine, connection))
            try:
                yield connection
            finally:
                _open.reset(token)
        self.check_place()  # nobody is told that a deleted file keeps something

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Let this process's writers into SQLite one by one; SQLite's own waiting sleeps up to 0.1 s too long."""
        if self._engine.dialect.name != "sqlite":
            yield
            return
        if not self._turn.acquire(timeout=BUSY_S):
            raise DependencyUnreachable(
                f"ledger {self.url}: another thread kept it locked for {BUSY_S:g} s; see what it is doing, then retry"
            )
        try:
            yield
        finally:
            self._turn.release()

    def _check_fences(self, connection: Connection) -> None:
        for fence in _fences.get():
            held = select(schema.lease.c.epoch, schema.lease.c.holder).where(schema.lease.c.name == fence.name)
            row = connection.execute(held.with_for_update(read=True)).first()
            if row is None or row.epoch != fence.epoch:
                now = "nobody" if row is None else f"{row.holder} at epoch {row.epoch}"
                raise LeaseLost(f"lease {fence.name} is held by {now}, not at epoch {fence.epoch}; nothing was written")

    def _lock_model(self, connection: Connection, model: str) -> RowMapping:
        """Let one writer at a time into a model's rows, and make sure that the model exists."""
        statement = select(schema.model).where(schema.model.c.name == model).with_for_update(key_share=True)
        row = connection.execute(statement).mappings().first()
        if row is None:
            raise NotFound(f"model {model!r} is not in the ledger {self.url}; register it first")
        return row

    def _task(self, connection: Connection, model: str) -> AnyTask:
        """The task that reads a model's rows, out of the settings that the model was registered with."""
        settings = connection.scalar(select(schema.model.c.settings).where(schema.model.c.name == model)) or {}
        return task_named(settings.get("task", DEFAULT_TASK))

    def _insert(self, table: Table) -> "sqlite.Insert | postgresql.Insert":
        """Return an insert that knows ON CONFLICT, which both databases spell the same."""
        return postgresql.insert(table) if self._engine.dialect.name == "postgresql" else sqlite.insert(table)
