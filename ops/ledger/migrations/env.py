"""Run by alembic: upgrades on the connection that `ops.ledger.migration` hands over, inside its transaction."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import create_engine, types

from perennial.ops.ledger.schema import UtcTime, metadata


def render_item(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Write our time type into migrations as the plain type that it is stored as."""
    if kind == "type" and isinstance(item, UtcTime):
        return "sa.DateTime(timezone=True)"
    return False


def compare_type(_: Any, __: Any, inspected: Any, declared: Any, ___: Any) -> bool | None:
    """Take a time column for the same type, whichever class stands for it."""
    if isinstance(declared, UtcTime):
        return not isinstance(inspected, types.DateTime)
    return None


def run(connection: Any) -> None:
    """Carry out the migrations on an open connection."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_item=render_item,
        compare_type=compare_type,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


connection = context.config.attributes.get("connection")
if connection is not None:
    run(connection)
else:  # `alembic -x` by a developer who writes a migration
    url = context.config.get_main_option("sqlalchemy.url") or "sqlite://"
    with create_engine(url, hide_parameters=True).begin() as opened:
        run(opened)
