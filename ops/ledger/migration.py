"""Bringing a database to the schema of this release, by one process at a time."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from perennial.continual.errors import ConfigurationError
from perennial.ops.ledger.schema import REVISION
from perennial.ops.ledger.store import WRITE

__all__ = ["MIGRATIONS", "migrate"]

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x50657265_6E6E6961  # "Perennia": the advisory lock under which PostgreSQL is migrated


def migrate(engine: Engine, where: str) -> None:
    """Upgrade the database if it is older than this release; the whole upgrade is one transaction.

    Raises:
        ConfigurationError: the database has a schema that this release does not know.
    """
    with engine.connect() as connection:
        if _revision(connection) == REVISION:
            return
    with engine.execution_options(**{WRITE: True}).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        revision = _revision(connection)
        if revision != REVISION:
            _upgrade(connection, revision, where)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _upgrade(connection: Connection, revision: str | None, where: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise ConfigurationError(
            f"ledger {where} has schema {revision}; this release knows up to {REVISION}: upgrade perennial, or restore "
            "the ledger from before the upgrade"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
