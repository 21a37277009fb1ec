"""A ledger of an earlier release: every row is there afterwards, also when its migration was killed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from perennial.continual.records import Example, Split
from perennial.continual.replay import BufferKind
from perennial.ops.ledger import FeedbackRow, Ledger
from tests.component.databases import BACKENDS, OldLedger, empty_url

pytestmark = pytest.mark.component

AT = datetime(2026, 1, 1, tzinfo=UTC)
RENAMED = {
    "example": {"text": "input", "text_hash": "input_hash", "label": "target"},
    "buffer_row": {"text": "input", "label": "target"},
    "feedback": {"label": "target"},
    "feedback_history": {"label": "target"},
}
VERSIONS = [(1, ["fee", "loan"], "sha256:0"), (2, ["fee", "loan", "ü"], None), (3, [], None)]


def example(number: int, text: str, label: str, **facts: Any) -> dict[str, Any]:
    return {
        "model": "intent", "text": text, "text_hash": f"h{number}", "label": label, "at": AT, "origin": "feedback",
        "key": f"caller-{number}", "prediction_id": f"p{number}", "split": "train", "added_at": AT, **facts,
    }  # fmt: skip


def labelled(number: int, label: str, **facts: Any) -> dict[str, Any]:
    return {
        "model": "intent", "prediction_id": f"p{number}", "label": label, "at": AT, "received_at": AT,
        "origin": "feedback", **facts,
    }  # fmt: skip


@pytest.fixture(params=BACKENDS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OldLedger]:
    """At schema 0002, with rows of every kind that later schemas changed."""
    with empty_url(request.param, tmp_path) as url:
        ledger = OldLedger(url)
        ledger.move("0002")
        version = {"model": "intent", "state": "published", "metrics": {"a": 1}, "lineage": {}, "created_at": AT}
        ledger.put(
            {
                "model": [{"name": "intent", "settings": {}, "last_version": 3, "created_at": AT}],
                "version": [
                    version | {"version": number, "labels": labels, "encoder_fingerprint": encoder, "state_at": AT}
                    for number, labels, encoder in VERSIONS
                ],
                "example": [
                    example(0, "write to [email]", "fee", superseded_at=None),
                    example(1, "[EXTERNAL] mail, \u00fc \U0001f600 'q' \"d\" \\n", "loan", superseded_at=None),
                    example(2, "100% [phone_", "fee", superseded_at=AT),
                    example(2, "100% [phone_", "ü", superseded_at=None),
                ],
                "learnt": [{"example_id": number, "version": 1} for number in (1, 2, 3)],
                "feedback": [labelled(n, "fee", key=f"caller-{n}", revision=1, joined_revision=n) for n in range(2)],
                "feedback_history": [labelled(0, "loan", superseded_at=AT), labelled(0, "fee", superseded_at=None)],
                "buffer": [
                    {
                        "model": "intent", "kind": "reservoir", "capacity": 9, "byte_budget": None, "seen": 2,
                        "counters": {}, "rng": {"kind": "keyed", "seed": 1}, "saved_at": AT,
                    }
                ],
                "buffer_row": [
                    {
                        "model": "intent", "position": 0, "digest": "d", "text": "a [card]", "label": "fee", "at": AT,
                        "origin": "seed", "key": "caller-7", "extra": None,
                    }
                ],
            }
        )  # fmt: skip
        yield ledger


def test_every_row_is_there_after_the_migration_and_after_the_way_back(old: OldLedger) -> None:
    old.move("0003")
    before = old.everything()
    old.move("0004")
    after = old.everything()
    for name, rows in before.items():
        if name == "version":
            cards = [row.pop("card") for row in after[name]]
            cards_before = [(row.pop("labels"), row.pop("encoder_fingerprint")) for row in rows]
            assert [(card["labels"], card.get("encoder_fingerprint")) for card in cards] == cards_before
        if name != "alembic_version":
            names = RENAMED.get(name, {})
            assert after[name] == [{names.get(column, column): v for column, v in row.items()} for row in rows], name
    old.move("0003", back=True)
    again = old.everything()
    for row, (labels, encoder) in zip(before["version"], cards_before, strict=True):
        row |= {"labels": labels, "encoder_fingerprint": encoder}
    assert again.pop("version") == before.pop("version")
    assert again == before


def test_rows_are_as_they_were_after_they_were_counted_and_after_the_way_back(old: OldLedger) -> None:
    old.move("0004")
    before = old.everything()
    old.move("0005")
    counted = {(row["name"], row["part"]): row["rows"] for row in old.everything()["tally"]}
    assert counted == {
        ("feedback", ""): 2,
        ("waiting", ""): 1,
        ("superseded", ""): 1,
        ("train", "fee"): 1,
        ("train", "loan"): 1,
        ("train", "ü"): 1,
        ("learnt", "1"): 2,
    }
    old.move("0004", back=True)
    assert old.everything() == before


def test_the_way_back_keeps_what_a_version_had_learnt_with_the_one_before_it(old: OldLedger) -> None:
    old.move("0005")
    bases = [{"model": "intent", "version": number, "base": number - 1} for number in (3, 2)]
    old.put({"learnt_base": bases, "learnt": [{"example_id": 4, "version": 2}, {"example_id": 2, "version": 2}]})
    old.move("0004", back=True)
    learnt = {(row["version"], row["example_id"]) for row in old.everything()["learnt"]}
    assert learnt == {(1, number) for number in (1, 2, 3)} | {(2 + more, n) for more in (0, 1) for n in (1, 2, 3, 4)}


def test_a_ledger_of_the_release_before_last_goes_on(old: OldLedger) -> None:
    with Ledger.open(old.url) as ledger:
        assert [
            (row.version, list(row.labels), row.encoder_fingerprint) for row in ledger.versions("intent")
        ] == VERSIONS
        kept = [row.example for row in ledger.examples("intent")]
        assert [(row.text, row.label, row.redacted) for row in kept] == [
            ("write to [email]", "fee", True),
            ("[EXTERNAL] mail, \u00fc \U0001f600 'q' \"d\" \\n", "loan", False),
            ("100% [phone_", "ü", False),
        ]
        assert ledger.labels("intent") == ("fee", "loan", "ü")
        assert ledger.contradiction_count("intent") == 1
        assert ledger.label_counts("intent") == {"fee": 1, "loan": 1, "ü": 1}
        assert (ledger.feedback_count("intent"), ledger.waiting_count("intent")) == (2, 1)
        assert [ledger.unlearnt_count("intent", by=version) for version in (1, 2)] == [1, 3]
        buffer = ledger.load_buffer("intent")
        assert buffer is not None
        assert (buffer.kind, [(row.text, row.redacted) for row in buffer.rows]) == (
            BufferKind.RESERVOIR,
            [("a [card]", True)],
        )
        assert [row.label for row in ledger.pending_feedback("intent")] == ["fee"]
        assert ledger.feedback_labels("intent", ["p0", "p1"]) == {"p0": "fee", "p1": "fee"}
        given = ledger.given_labels("intent", ["p0"])
        assert [row.label for row in given] == ["fee", "loan"]

        later = AT + timedelta(hours=1)
        assert ledger.add_feedback("intent", [FeedbackRow(prediction_id="p0", label="loan", at=later)]).corrected == 1
        fresh = [Example(text="brand new", label="fee", at=later, key="caller-0")]
        assert ledger.add_examples("intent", fresh, lambda _: Split.TRAIN).added == 1
        assert ledger.save_buffer("intent", buffer) == 1, "written once more, under the names of today"
        assert ledger.save_buffer("intent", buffer) == 0
        receipt = ledger.erase_key("intent", "caller-0", actor="test")
        assert (receipt.examples, receipt.feedback) == (2, 1)
        assert "write to [email]" not in {row.example.text for row in ledger.examples("intent")}


KILLED = """
import os, signal, sys
from sqlalchemy import Engine, event
from perennial.ops.ledger import Ledger

@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    if sys.argv[2] in statement:
        os.kill(os.getpid(), signal.SIGKILL)

Ledger.open(sys.argv[1])
"""


@pytest.mark.parametrize("at", ["ADD COLUMN card", "UPDATE alembic_version SET version_num='0004'"])
def test_a_killed_migration_changes_nothing_and_the_next_start_makes_it(old: OldLedger, at: str) -> None:
    old.move("0003")
    before = old.everything()
    command = [sys.executable, "-c", KILLED, old.url, at]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode == -signal.SIGKILL
    assert old.everything() == before
    with Ledger.open(old.url) as ledger, ledger.engine.connect() as connection:
        assert len(ledger.examples("intent")) == 3
        assert len(str(connection.scalar(text("SELECT salt FROM tombstone_salt")))) == 64
