"""A fresh, migrated database for each test; migrated once, copied after that."""

import atexit
import functools
import itertools
import shutil
import tempfile
from pathlib import Path

from ops.ledger import Ledger
from tests.component.databases.postgres import PostgresServer

__all__ = ["BACKENDS", "fresh_url"]

BACKENDS = ("sqlite", "postgresql")
_numbers = itertools.count()


def fresh_url(backend: str, folder: Path) -> str:
    """Return the URL of a new database at the current schema."""
    if backend == "sqlite":
        path = folder / "ledger.db"
        shutil.copyfile(_sqlite_template(), path)
        return f"sqlite:///{path}"
    server = _server()
    return server.create(f"ledger_{next(_numbers)}", template="ledger_template")


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
    Ledger.open(server.create("ledger_template")).close()
    return server
