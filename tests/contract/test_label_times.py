"""The newest label wins, in whatever order labels come; a wrong clock can be corrected. On both databases."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest
from sqlalchemy import update

from perennial.continual.drift.accuracy import resolve_labels
from perennial.continual.records import Example, Origin, Split
from perennial.ops.ledger import ExamplesReceipt, FeedbackReceipt, FeedbackRow, Ledger
from perennial.ops.ledger.schema import example as example_table
from perennial.ops.ledger.schema import feedback as feedback_table
from perennial.ops.ledger.schema import feedback_history as history_table
from tests.component.databases import BACKENDS, fresh_url

pytestmark = pytest.mark.component

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path), clock=lambda: NOW) as opened:
        opened.register_model("intent", {"task": "text_classification"})
        yield opened


def given(label: str, hours: float, prediction: str = "p") -> FeedbackRow:
    return FeedbackRow(prediction_id=prediction, label=label, at=NOW + timedelta(hours=hours))


def labelled(label: str, hours: float, text: str = "my card") -> Example:
    return Example(text=text, label=label, at=NOW + timedelta(hours=hours), origin=Origin.FEEDBACK)


def train(_: str) -> Split:
    return Split.TRAIN


def test_any_order_of_arrival_ends_at_the_label_that_was_given_last(ledger: Ledger) -> None:
    rows = (("a", -9), ("b", -8), ("a", -7), ("c", -7.5))
    for number, order in enumerate(permutations(rows)):
        for label, hours in order:
            ledger.add_feedback("intent", [given(label, hours, f"p{number}")])
            ledger.add_examples("intent", [labelled(label, hours, f"text {number}")], train)
    names = [f"p{number}" for number in range(24)]
    assert ledger.feedback_labels("intent", names) == dict.fromkeys(names, "a")
    assert {row.at for row in ledger.pending_feedback("intent")} == {NOW - timedelta(hours=7)}
    stored = [row.example for row in ledger.examples("intent")]
    assert {(row.label, row.at) for row in stored} == {("a", NOW - timedelta(hours=7))}
    assert resolve_labels(ledger.given_labels("intent", names)).labels == dict.fromkeys(names, "a")


def test_the_receipt_tells_what_became_of_each_label(ledger: Ledger) -> None:
    rows = [given("a", -5), given("a", -5), given("a", -4), given("b", -3), given("c", -9), given("b", -9)]
    want = FeedbackReceipt(new=1, unchanged=2, confirmed=1, corrected=1, stale=1)
    assert ledger.add_feedback("intent", rows) == want
    assert sum(asdict(want).values()) == len(rows)
    texts = [
        labelled("a", -5),
        labelled("a", -5),
        labelled("a", -4),
        labelled("b", -3),
        labelled("c", -9),
        labelled("b", -9),
    ]
    kept = ExamplesReceipt(added=1, unchanged=2, confirmed=1, relabelled=1, stale=1, contradictions=2)
    assert ledger.add_examples("intent", texts, train) == kept


def test_the_later_row_wins_where_two_times_are_equal(ledger: Ledger) -> None:
    assert ledger.add_feedback("intent", [given("a", -5), given("b", -5)]).corrected == 1
    assert ledger.add_examples("intent", [labelled("a", -5), labelled("b", -5)], train).relabelled == 1
    assert ledger.feedback_labels("intent", ["p"]) == {"p": "b"}
    assert ledger.label_counts("intent") == {"b": 1}


def test_a_confirmation_is_joined_again_but_counts_as_no_new_label(ledger: Ledger) -> None:
    ledger.add_feedback("intent", [given("a", -5)])
    ledger.mark_joined("intent", ledger.pending_feedback("intent"))
    before = ledger.newest_feedback("intent", 1)[0].received_at
    ledger.add_feedback("intent", [given("a", -4)])
    (waiting,) = ledger.pending_feedback("intent")
    assert (waiting.at, waiting.received_at) == (NOW - timedelta(hours=4), before)


def test_a_confirmed_example_keeps_its_id_so_that_it_is_not_learnt_twice(ledger: Ledger) -> None:
    ledger.add_examples("intent", [labelled("a", -5)], train)
    (before,) = ledger.examples("intent")
    ledger.add_examples("intent", [labelled("a", -4)], train)
    (after,) = ledger.examples("intent")
    assert (after.id, after.example.at) == (before.id, NOW - timedelta(hours=4))


@pytest.mark.parametrize("ahead", [timedelta(seconds=30), timedelta(days=3), timedelta(days=365 * 70)])
def test_a_label_dated_in_the_future_can_be_corrected_at_once(ledger: Ledger, ahead: timedelta) -> None:
    hours = ahead.total_seconds() / 3600
    ledger.add_feedback("intent", [given("wrong", hours)])
    ledger.add_examples("intent", [labelled("wrong", hours)], train)
    assert ledger.pending_feedback("intent")[0].at == NOW
    assert ledger.add_feedback("intent", [given("right", 0)]).corrected == 1
    assert ledger.add_examples("intent", [labelled("right", 0)], train).relabelled == 1


def test_rows_that_were_kept_with_a_future_time_heal(ledger: Ledger) -> None:
    ledger.add_feedback("intent", [given("wrong", -5)])
    ledger.add_examples("intent", [labelled("wrong", -5)], train)
    later = NOW + timedelta(days=4_000)
    with ledger.engine.begin() as connection:
        for table, arrived in (
            (feedback_table, "received_at"),
            (history_table, "received_at"),
            (example_table, "added_at"),
        ):
            connection.execute(update(table).values({"at": later, arrived: NOW - timedelta(days=2)}))
    assert ledger.pending_feedback("intent")[0].at == NOW - timedelta(days=2)
    assert ledger.add_feedback("intent", [given("right", -1)]).corrected == 1
    assert ledger.add_examples("intent", [labelled("right", -1)], train).relabelled == 1
    assert ledger.feedback_labels("intent", ["p"]) == {"p": "right"}
    assert resolve_labels(ledger.given_labels("intent", ["p"])).labels == {"p": "right"}
    assert ledger.add_feedback("intent", [given("stale", -2)]).stale == 1
