"""What the ledger promises of described classes, on SQLite and on PostgreSQL alike."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine

from perennial.continual.errors import ConfigurationError, NotFound
from perennial.ops.ledger import Ledger
from perennial.ops.ledger.migration import MIGRATIONS
from tests.component.databases import BACKENDS, fresh_url

pytestmark = pytest.mark.component


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path)) as opened:
        opened.register_model("intent", {})
        opened.register_model("other", {})
        yield opened


def test_a_sentence_is_kept_once_and_a_later_one_replaces_it(ledger: Ledger) -> None:
    assert ledger.describe_classes("intent", {"trip": "A journey.", "fees": "A charge."}, "ann") == ("fees", "trip")
    assert ledger.describe_classes("intent", {"trip": "A journey."}, "bob") == ()
    assert ledger.describe_classes("intent", {"trip": "Someone travels."}, "bob") == ("trip",)
    kept = [(row.label, row.text, row.actor) for row in ledger.descriptions("intent")]
    assert kept == [("fees", "A charge.", "ann"), ("trip", "Someone travels.", "bob")]
    assert ledger.descriptions("other") == ()
    changes = [(entry.action, entry.actor, entry.detail["label"]) for entry in ledger.audit_entries("intent")]
    assert changes == [
        ("class.described", who, label) for who, label in (("ann", "fees"), ("ann", "trip"), ("bob", "trip"))
    ]
    assert ledger.verify_audit().intact


def test_a_dropped_sentence_is_gone_and_a_missing_one_is_named(ledger: Ledger) -> None:
    ledger.describe_classes("intent", {"trip": "A journey.", "fees": "A charge."}, "ann")
    ledger.forget_description("intent", "trip", "bob")
    assert [row.label for row in ledger.descriptions("intent")] == ["fees"]
    with pytest.raises(NotFound, match="'trip' of intent has no description; described are fees"):
        ledger.forget_description("intent", "trip", "bob")
    assert ledger.audit_entries("intent")[-1].action == "class.description_dropped"


def test_one_wrong_sentence_keeps_all_out(ledger: Ledger) -> None:
    with pytest.raises(ConfigurationError, match="give a name and a sentence"):
        ledger.describe_classes("intent", {"trip": "A journey.", "fees": " "}, "ann")
    assert ledger.descriptions("intent") == ()
    with pytest.raises(NotFound, match="'ghost'"):
        ledger.describe_classes("ghost", {"trip": "A journey."}, "ann")


def test_a_ledger_of_the_first_schema_is_brought_up_with_its_rows(tmp_path: Path) -> None:
    """What release 0.1 left behind."""
    url = fresh_url("sqlite", tmp_path)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with create_engine(url, poolclass=NullPool).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO model (name, settings, created_at) VALUES ('intent', '{}', '2026-01-01')"
        )
    with Ledger.open(url) as ledger:
        assert [row.name for row in ledger.models()] == ["intent"]
        assert ledger.describe_classes("intent", {"trip": "A journey."}, "ann") == ("trip",)
