"""Real databases for the tests: SQLite files and a PostgreSQL server of our own."""

from tests.component.databases.fresh import BACKENDS, fresh_url
from tests.component.databases.postgres import PostgresServer

__all__ = ["BACKENDS", "PostgresServer", "fresh_url"]
