"""Bringing a database to the schema of this release, by one process at a time."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from perennial.continual.errors import ConfigurationError
from perennial.ops.ledger.schema import REVISION
from perennial.ops.ledger.store import WRITE

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["MIGRATIONS", "known_revisions", "migrate", "move_to", "revision_of"]

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x50657265_6E6E6961  # "Perennia": the advisory lock under which PostgreSQL is migrated


def migrate(engine: Engine, where: str) -> None:
    """Upgrade the database if it is older than this release; the whole upgrade is one transaction.

    Raises:
        ConfigurationError: the database has a schema that this release does not know.
    """
    with engine.connect() as connection:
        if revision_of(connection) == REVISION:
            return
    with engine.execution_options(**{WRITE: True}).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        revision = revision_of(connection)
        if revision == REVISION:
            return
        if revision is not None and revision not in known_revisions():
            raise ConfigurationError(
                f"ledger {where} has schema {revision}; this release knows up to {REVISION}: upgrade perennial, or "
                "restore the ledger from before the upgrade"
            )
        move_to(connection, "head")


def revision_of(connection: Connection) -> str | None:
    """The schema of the database; None where it has none of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def known_revisions() -> dict[str, str]:
    """The schemas that this release knows, the newest first, each with what it brought."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return {script.revision: str(script.doc) for script in scripts}


def move_to(connection: Connection, revision: str) -> None:
    """Bring a database of an earlier schema to this one, within the connection's transaction."""
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
