"""The counters beside the large tables tell what a count of their rows would."""

import pytest
from sqlalchemy import text

from perennial.continual.records import Example, Origin, Split
from perennial.ops.ledger import FeedbackRow, JoinOutcome, Ledger, VersionRow, VersionState
from tests.contract.clock import Clock, at

pytestmark = pytest.mark.component


def number(ledger: Ledger, statement: str) -> int:
    with ledger.engine.connect() as connection:
        return int(connection.scalar(text(statement)) or 0)


def check(ledger: Ledger) -> None:
    """Every counter by the rows themselves."""
    of = "FROM feedback WHERE model = 'intent'"
    assert ledger.feedback_count("intent") == number(ledger, f"SELECT count(*) {of}")
    assert ledger.waiting_count("intent") == number(ledger, f"SELECT count(*) {of} AND joined_revision < revision")
    rows = "FROM example WHERE model = 'intent' AND superseded_at IS"
    assert ledger.contradiction_count("intent") == number(ledger, f"SELECT count(*) {rows} NOT NULL")
    for split in Split:
        assert ledger.example_count("intent", split) == number(
            ledger, f"SELECT count(*) {rows} NULL AND split='{split}'"
        )
    counts = ledger.label_counts("intent")
    assert counts == {label: number(ledger, f"SELECT count(*) {rows} NULL AND target = '{label}'") for label in counts}
    assert sum(counts.values()) == number(ledger, f"SELECT count(*) {rows} NULL")
    for version in (1, 2, 3):
        unlearnt = ledger.examples("intent", split=Split.TRAIN, not_learnt_by=version)
        assert ledger.unlearnt_count("intent", by=version) == len(unlearnt), version


def row(number: int, label: str, hours: float, *, key: str | None = None) -> Example:
    return Example(text=f"text {number}", label=label, at=at(hours), origin=Origin.FEEDBACK, key=key)


def split(asked: object) -> Split:
    return Split.HOLDOUT if str(asked).endswith("0") else Split.TRAIN


def test_counters_follow_labels(ledger: Ledger, clock: Clock) -> None:
    given = [FeedbackRow(prediction_id=f"p{n}", label="a", at=at(0), key=f"k{n % 3}") for n in range(9)]
    ledger.add_feedback("intent", given)
    ledger.add_feedback("intent", given)
    ledger.add_feedback("other", given[:2])
    check(ledger)
    waiting = ledger.pending_feedback("intent")
    ledger.mark_joined("intent", waiting[:4])
    ledger.mark_joined("intent", waiting[:5], outcome=JoinOutcome.UNMATCHED)
    check(ledger)
    assert ledger.waiting_count("intent") == 4
    clock.now = at(2)
    again = [FeedbackRow(prediction_id=f"p{n}", label="b", at=at(1)) for n in (0, 1, 8)]
    ledger.add_feedback("intent", [*again, *again])
    check(ledger)
    assert ledger.waiting_count("intent") == 6, "two that were joined wait again"
    assert (ledger.labels_in("intent"), ledger.labels_in("other"), ledger.labels_in("none")) == (6, 2, 0)
    ledger.mark_joined("intent", ledger.pending_feedback("intent")[:2])
    ledger.add_examples("intent", [row(1, "a", 1), row(10, "b", 1)], split)
    assert ledger.labels_in("intent") == 6, "a label that was joined is in use"
    ledger.erase_key("intent", "k0", actor="test")
    check(ledger)
    clock.now = at(99)
    ledger.mark_joined("intent", ledger.pending_feedback("intent"))
    assert ledger.forget_feedback("intent", at(1)) == 4
    check(ledger)
    assert ledger.forget_feedback("intent", at(50)) == ledger.feedback_count("other"), "those that changed later"
    assert (ledger.feedback_count("intent"), ledger.feedback_count("other")) == (0, 2)


def test_counters_that_something_else_spoilt_are_made_anew(ledger: Ledger) -> None:
    for version in (1, 2):
        ledger.add_version(VersionRow(model="intent", version=version, state=VersionState.PUBLISHED))
    ledger.add_feedback("intent", [FeedbackRow(prediction_id=f"p{n}", label="a", at=at(0)) for n in range(5)])
    ledger.add_examples("intent", [row(n, "ab"[n % 2], 0) for n in range(20)], split)
    ids = [each.id for each in ledger.examples("intent", split=Split.TRAIN)]
    ledger.mark_learnt("intent", ids[:6], 1)
    ledger.mark_learnt("intent", ids[6:9], 2, base=1)
    assert ledger.recount("intent") == {}
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE tally SET rows = rows + 2 WHERE name IN ('feedback', 'learnt')"))
        connection.execute(text("DELETE FROM tally WHERE name = 'waiting'"))
        connection.execute(text("DELETE FROM example WHERE input = 'text 19'"))
    wrong = {"feedback": (7, 5), "waiting": (0, 5), "learnt 1": (8, 6), "learnt 2": (11, 9), "train b": (10, 9)}
    assert ledger.recount("intent", dry_run=True) == wrong
    assert ledger.recount("intent") == wrong
    check(ledger)
    assert ledger.recount("intent") == ledger.recount("other") == {}


def test_counters_follow_examples_and_what_was_learnt(ledger: Ledger, clock: Clock) -> None:
    for version in (1, 2, 3):
        ledger.add_version(VersionRow(model="intent", version=version, state=VersionState.PUBLISHED))
    clock.now = at(1)
    ledger.add_examples("intent", [row(n, "ab"[n % 2], 0, key=f"k{n % 4}") for n in range(20)], split)
    ledger.add_examples("other", [row(n, "a", 0) for n in range(3)], split)
    check(ledger)
    first = [stored.id for stored in ledger.examples("intent", split=Split.TRAIN)][:12]
    for _ in range(2):
        ledger.mark_learnt("intent", first, 1)
        check(ledger)
    ledger.add_examples("intent", [row(n, "c", 0.5) for n in (1, 2, 10, 19)], split)  # four are overruled
    check(ledger)
    more = [stored.id for stored in ledger.examples("intent", split=Split.TRAIN, not_learnt_by=1)]
    for _ in range(2):
        ledger.mark_learnt("intent", more[:3], 2, base=1)
        check(ledger)
    ledger.mark_learnt("intent", [*first[:2], *more], 3)
    check(ledger)
    ledger.mark_learnt("intent", (), 3, base=2)
    check(ledger)
    assert ledger.unlearnt_count("intent", by=3) == 0
    assert number(ledger, "SELECT count(*) FROM learnt WHERE version = 2") == 3, "the others are the first one's"
    ledger.add_examples("intent", [row(3, "d", 0.9), row(3, "e", 0.95), row(3, "f", 0.1)], split)
    check(ledger)
    assert ledger.erase_key("intent", "k1", actor="test").versions == (1, 2, 3)
    check(ledger)


def test_a_command_that_waits_is_told_however_many_came_after_it(ledger: Ledger) -> None:
    first = ledger.request_command("intent", "abort", {}, "ann")
    later = [ledger.request_command("intent", "pause", {}, "ann") for _ in range(25)]
    ledger.request_command("other", "abort", {}, "ann")
    ledger.finish_command(later[0], "done")
    assert [row.id for row in ledger.waiting_commands("intent")] == [first, *later[1:]]
    assert len(ledger.take_commands("intent")) == 25
    assert ledger.waiting_commands("intent") == ()
