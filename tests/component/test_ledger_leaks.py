"""No text that was to be stored is told by an error of the database, in its message, its chain or the log."""

import io
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, text

from perennial.continual.errors import PerennialError
from perennial.ops.app.logs import JsonFormatter
from perennial.ops.ledger import Ledger, schema
from tests.component.databases import BACKENDS, fresh_url

pytestmark = [pytest.mark.component, pytest.mark.paired]
MARKER = "card 4111-of-somebody"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _twice(connection: Connection) -> None:
    row = insert(schema.model).values(name=MARKER, settings={"text": MARKER}, created_at=_NOW)
    connection.execute(row)
    connection.execute(row)


def _not_null(connection: Connection) -> None:
    connection.execute(insert(schema.model).values(name=MARKER, settings=None, created_at=None))


def _foreign(connection: Connection) -> None:
    connection.execute(text("INSERT INTO cycle (model) VALUES (:text)"), {"text": MARKER})


def _no_table(connection: Connection) -> None:
    connection.execute(text("INSERT INTO nowhere VALUES (:text)"), {"text": MARKER})


def _wrong_number(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT CAST(:text AS integer)"), {"text": MARKER})
    else:
        connection.execute(text("SELECT json(:text)"), {"text": MARKER})


def _nul(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(select(schema.model).where(schema.model.c.name == f"{MARKER}\0"))
    else:
        connection.execute(text("SELECT abs(:least), :text"), {"least": -(2**63), "text": MARKER})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("statement", [_twice, _not_null, _foreign, _no_table, _wrong_number, _nul])
def test_an_error_of_the_database_quotes_no_row(
    tmp_path: Path, backend: str, statement: Callable[[Connection], None]
) -> None:
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("test.leaks")
    logger.addHandler(handler)
    ledger = Ledger.open(fresh_url(backend, tmp_path))
    with pytest.raises(PerennialError) as raised, ledger._write() as connection:
        statement(connection)
    ledger.close()
    logger.error("ledger.failed", exc_info=raised.value)
    everything = "".join(traceback.format_exception(raised.value)) + str(raised.value) + log.getvalue()
    logger.removeHandler(handler)
    assert "ledger" in everything
    assert MARKER not in everything


@pytest.mark.parametrize("backend", BACKENDS)
def test_sqlalchemys_own_errors_hide_what_was_bound(tmp_path: Path, backend: str) -> None:
    ledger = Ledger.open(fresh_url(backend, tmp_path))
    with pytest.raises(Exception, match="nowhere") as raised, ledger.engine.connect() as connection:
        _no_table(connection)
    ledger.close()
    assert "hidden due to hide_parameters" in str(raised.value)
    assert MARKER not in "".join(traceback.format_exception(raised.value))
