"""An empty, migrated database for each test; migrated once, copied or emptied after that."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import NullPool, create_engine, delete, text, update

from perennial.ops.ledger import Ledger
from perennial.ops.ledger.audit import GENESIS
from perennial.ops.ledger.schema import audit_head, metadata
from tests.component.databases.postgres import PostgresServer

__all__ = ["BACKENDS", "empty_url", "fresh_url"]

BACKENDS = ("sqlite", "postgresql")


def fresh_url(backend: str, folder: Path) -> str:
    """Return the URL of an empty database at the current schema; on PostgreSQL the one before is emptied."""
    if backend == "sqlite":
        path = folder / "ledger.db"
        shutil.copyfile(_sqlite_template(), path)
        return f"sqlite:///{path}"
    return _emptied(_server().url())


@contextmanager
def empty_url(backend: str, folder: Path) -> Iterator[str]:
    """The URL of a database without any schema, until the block ends."""
    if backend == "sqlite":
        yield f"sqlite:///{folder}/ledger.db"
        return
    server = _server().url()
    engine = create_engine(server.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.connect() as connection:
        outside = connection.execution_options(isolation_level="AUTOCOMMIT")
        outside.execute(text("CREATE DATABASE empty TEMPLATE template0"))
        yield server.rpartition("/")[0] + "/empty"
        outside.execute(text("DROP DATABASE empty WITH (FORCE)"))


@functools.cache
def _sqlite_template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="perennial-sqlite-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "template.db"
    Ledger.open(f"sqlite:///{path}").close()
    return path


@functools.cache
def _server() -> PostgresServer:
    server = PostgresServer.start()
    atexit.register(server.stop)
    return server


def _emptied(url: str) -> str:
    with Ledger.open(url) as ledger, ledger.engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            if table is not audit_head:
                connection.execute(delete(table))
        connection.execute(update(audit_head).values(seq=0, hash=GENESIS))
    return url
