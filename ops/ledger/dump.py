"""A ledger's rows of one moment as files, and such files as the rows of an empty database of either kind."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, DateTime, Engine, MetaData, Table, func, inspect, select, text

from perennial.continual.errors import DataError, Refused
from perennial.ops.ledger.ledger import engine_of
from perennial.ops.ledger.migration import known_revisions, move_to, revision_of
from perennial.ops.ledger.schema import metadata
from perennial.ops.ledger.store import WRITE, translated

__all__ = ["LedgerDump", "check_empty", "dump_ledger", "file_of", "is_loaded", "load_ledger", "schema_of"]

_ROWS = 1_000  # at once
_OURS = frozenset({"alembic_version", *metadata.tables})  # others may lie beside them in the database
_TOLD_BY = ("model", "version", "example")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerDump:
    """What was written: the schema of the rows, how many each table has, and up to where each has given out numbers."""

    schema: str
    database: str
    rows: Mapping[str, int]
    numbered: Mapping[str, int]


def schema_of(url: str) -> str | None:
    """The schema of a ledger, as it lies there; None where there is none. Nothing is migrated."""
    with _engine(url) as engine:
        if _missing(engine):
            return None
        with engine.connect() as connection:
            return revision_of(connection)


def file_of(url: str) -> Path | None:
    """The file of a ledger on SQLite; None on PostgreSQL."""
    with _engine(url) as engine:
        return Path(str(engine.url.database)).resolve() if engine.dialect.name == "sqlite" else None


def dump_ledger(url: str, folder: Path) -> LedgerDump:
    """Write each table as `<table>.jsonl`, all as of one moment; other processes go on writing meanwhile.

    Raises:
        DataError: there is no ledger at this address.
    """
    if (schema := schema_of(url)) is None:
        raise DataError("there is no ledger where the settings say; run the command in the workspace's folder")
    with _engine(url) as engine, _moment(engine) as connection:
        tables = _tables(connection)
        counts = {table.name: _write(connection, table, folder / f"{table.name}.jsonl") for table in tables}
        numbered = _numbered(connection, tables)
        return LedgerDump(schema=schema, database=engine.dialect.name, rows=counts, numbered=numbered)


def check_empty(url: str) -> None:
    """Return where the database holds no ledger, or one in which nothing stands.

    Raises:
        Refused: it holds rows, or tables of these names that are no ledger's.
    """
    with _engine(url) as engine:
        if _missing(engine):
            return
        _check_empty(engine)


def _check_empty(engine: Engine) -> None:
    with engine.connect() as connection:
        there = sorted(_OURS & set(inspect(connection).get_table_names()))
        if there and revision_of(connection) not in known_revisions():
            raise Refused(
                f"{_shown(engine)} has tables that are no ledger's of this release ({', '.join(there[:5])}); restore "
                f"into another database"
            )
        if there and connection.scalar(text("SELECT count(*) FROM model")):
            raise Refused(f"the ledger {_shown(engine)} holds models already; restore into an empty database")


def is_loaded(url: str, dump: LedgerDump) -> bool:
    """Whether the rows of a dump are there already: a load brings all of them at once."""
    with _engine(url) as engine:
        if _missing(engine) or not dump.rows.get("model"):
            return False
        with engine.connect() as connection:
            tables = {table.name: table for table in _tables(connection)}
            return all(
                name in tables
                and connection.scalar(select(func.count()).select_from(tables[name])) == dump.rows.get(name)
                for name in _TOLD_BY
            )


def load_ledger(url: str, folder: Path, dump: LedgerDump) -> None:
    """Make the database's ledger of such files, in one transaction. It has the schema that the rows were written by.

    Raises:
        Refused: the database holds a ledger with rows. DataError: the files are of a later release, or too short.
    """
    if dump.schema not in known_revisions():
        raise DataError(f"the backup has schema {dump.schema}, which this release does not know; install a later one")
    check_empty(url)
    with _engine(url) as engine, _written(engine) as connection:
        left = MetaData()
        left.reflect(connection, only=lambda name, _: name in _OURS)
        left.drop_all(connection)  # an empty ledger, of whatever schema
        move_to(connection, dump.schema)
        tables = _tables(connection)
        for table in reversed(tables):
            connection.execute(table.delete())  # what the migrations put in
        for table in tables:
            if (rows := _read(connection, table, folder / f"{table.name}.jsonl")) != dump.rows[table.name]:
                raise DataError(f"{table.name} has {rows} rows, and the backup tells of {dump.rows[table.name]}")
        _number_on(connection, tables, dump.numbered)


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    engine = engine_of(url)
    try:
        with translated(_shown(engine)):
            yield engine
    finally:
        engine.dispose()


def _missing(engine: Engine) -> bool:
    """Whether a file is not there, which a mere look would make."""
    return engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).is_file()


@contextmanager
def _written(engine: Engine) -> Iterator[Connection]:
    if engine.dialect.name == "sqlite":
        Path(str(engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
    with engine.execution_options(**{WRITE: True}).begin() as connection:
        yield connection


def _shown(engine: Engine) -> str:
    return engine.url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def _moment(engine: Engine) -> Iterator[Connection]:
    """A connection that sees the database as it is now, whatever is written later."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with engine.connect() as connection, connection.begin():
        yield connection


def _tables(connection: Connection) -> list[Table]:
    """The ledger's tables, each after those that it refers to."""
    seen = MetaData()
    seen.reflect(connection, only=lambda name, _: name in metadata.tables)
    return list(seen.sorted_tables)


def _write(connection: Connection, table: Table, path: Path) -> int:
    count = 0
    rows = connection.execution_options(yield_per=_ROWS).execute(select(table).order_by(*table.primary_key))
    with path.open("w", encoding="utf-8") as file:
        for row in rows.mappings():
            file.write(json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False) + "\n")
            count += 1
    return count


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)).isoformat()
    return value


def _read(connection: Connection, table: Table, path: Path) -> int:
    times = [column.name for column in table.columns if isinstance(column.type, DateTime)]
    aware, count = connection.dialect.name == "postgresql", 0
    with path.open(encoding="utf-8") as file:
        part: list[dict[str, Any]] = []
        for line in file:
            row = json.loads(line)
            for name in times:
                if row[name] is not None:
                    at = datetime.fromisoformat(row[name])
                    row[name] = at if aware else at.replace(tzinfo=None)
            part.append(row)
            if len(part) == _ROWS:
                connection.execute(table.insert(), part)
                count, part = count + len(part), []
        if part:
            connection.execute(table.insert(), part)
    return count + len(part)


def _numbered(connection: Connection, tables: list[Table]) -> dict[str, int]:
    """The last number that each table has given out: rows that are gone keep theirs."""
    if connection.dialect.name == "sqlite":
        given = connection.execute(text("SELECT name, seq FROM sqlite_sequence"))
        return {str(name): int(last) for name, last in given}
    told = {}
    for table in tables:
        if (sequence := _sequence(connection, table)) is not None:
            last, called = connection.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()
            told[table.name] = int(last) if called else 0
    return told


def _number_on(connection: Connection, tables: list[Table], numbered: Mapping[str, int]) -> None:
    for table in tables:
        if "id" not in table.columns:
            continue
        last = max(numbered.get(table.name, 0), connection.scalar(select(func.max(table.c.id))) or 0)
        if connection.dialect.name == "sqlite":
            if last and table.name in numbered:
                connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
                facts = {"name": table.name, "last": last}
                connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), facts)
        elif last and (sequence := _sequence(connection, table)) is not None:
            connection.execute(text("SELECT setval(:sequence, :last)"), {"sequence": sequence, "last": last})


def _sequence(connection: Connection, table: Table) -> str | None:
    if "id" not in table.columns:
        return None
    found = connection.scalar(text("SELECT pg_get_serial_sequence(:name, 'id')"), {"name": f'"{table.name}"'})
    return None if found is None else str(found)
