"""A database at an earlier schema, read and written without any of today's tables."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, NullPool, create_engine, select, text

from perennial.ops.ledger.migration import MIGRATIONS

__all__ = ["OldLedger"]

_LINKED_FIRST = ("model", "version", "cycle", "buffer", "job", "example")  # rows that others point to


class OldLedger:
    """Moves between schemas; knows tables and columns by what the database tells of them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)

    def move(self, revision: str, *, back: bool = False) -> None:
        """Upgrade or downgrade to a schema."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._engine.begin() as connection:
            config.attributes["connection"] = connection
            (command.downgrade if back else command.upgrade)(config, revision)

    def put(self, rows: dict[str, Sequence[dict[str, Any]]]) -> None:
        """Add rows, by table, in place of what stands there under the same primary key."""
        with self._engine.begin() as connection:
            tables = MetaData()
            tables.reflect(connection)
            order = {name: place for place, name in enumerate(_LINKED_FIRST)}
            for name in sorted(rows, key=lambda name: order.get(name, len(order))):
                if name != "alembic_version" and rows[name]:
                    if name == "audit_head":
                        connection.execute(tables.tables[name].delete())
                    connection.execute(tables.tables[name].insert(), [_aware(row) for row in rows[name]])
            if self._engine.dialect.name == "postgresql":
                self._count_on(connection, tables)

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """Every row of every table."""
        with self._engine.connect() as connection:
            tables = MetaData()
            tables.reflect(connection)
            return {
                name: sorted((dict(row) for row in connection.execute(select(table)).mappings()), key=repr)
                for name, table in tables.tables.items()
            }

    def _count_on(self, connection: Any, tables: MetaData) -> None:
        """Have each sequence go on behind the rows that were put with ids of their own."""
        for name, table in tables.tables.items():
            sequence = "id" in table.c and connection.scalar(text(f"SELECT pg_get_serial_sequence('{name}', 'id')"))
            if sequence:
                last = connection.scalar(text(f"SELECT max(id) FROM {name}"))
                if last is not None:
                    connection.execute(text("SELECT setval(:name, :last)"), {"name": sequence, "last": last})


def _aware(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its times in UTC, which SQLite does not say of them."""
    return {
        name: value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
        for name, value in row.items()
    }
