"""Real databases for the tests: SQLite files and a PostgreSQL server of our own."""

from tests.component.databases.fresh import BACKENDS, empty_url, fresh_url
from tests.component.databases.old_ledger import OldLedger
from tests.component.databases.postgres import PostgresServer

__all__ = ["BACKENDS", "OldLedger", "PostgresServer", "empty_url", "fresh_url"]
