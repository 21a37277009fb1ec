"""Labels of feedback one by one: what is counted from when on, and which entries of the history are over."""

from datetime import datetime

import pytest
from sqlalchemy import select

from perennial.continual.records import Origin
from perennial.ops.ledger import FeedbackReceipt, FeedbackRow, Ledger
from perennial.ops.ledger.schema import feedback_history as history
from tests.contract.clock import Clock, at

pytestmark = pytest.mark.component


@pytest.fixture
def clock() -> Clock:
    return Clock(at(100))


def given(prediction: str, label: str, hours: float, *, key: str | None = None) -> FeedbackRow:
    return FeedbackRow(prediction_id=prediction, label=label, at=at(hours), key=key)


def past(ledger: Ledger, model: str = "intent") -> list[tuple[str, str, datetime, datetime | None]]:
    statement = select(history).where(history.c.model == model).order_by(history.c.prediction_id, history.c.at)
    with ledger.engine.connect() as connection:
        return [(r.prediction_id, r.target, r.at, r.superseded_at) for r in connection.execute(statement)]


def test_labels_are_counted_and_listed_from_the_very_moment_on(ledger: Ledger, clock: Clock) -> None:
    assert ledger.feedback_count("intent") == 0
    for hours in (1, 2, 3):
        clock.now = at(hours)
        ledger.add_feedback("intent", [given(f"p{hours}", "a", 0.5)])
    ledger.add_feedback("other", [given("p9", "a", 0.5)])
    assert [ledger.feedback_count("intent", since=at(hours)) for hours in (2, 2.5, 3, 3.5)] == [2, 1, 1, 0]
    listed = [[row.prediction_id for row in ledger.first_feedback("intent", 9, since=at(h))] for h in (2, 2.5, 3.5)]
    assert listed == [["p2", "p3"], ["p3"], []]
    assert ledger.feedback_count("intent") == 3


def test_one_erased_row_stops_none_of_its_neighbours(ledger: Ledger) -> None:
    ledger.add_feedback("intent", [given("p1", "a", 1, key="ann")])
    ledger.erase_key("intent", "ann", actor="ops")
    rows = [given("p1", "a", 1, key="ann"), given("p2", "a", 1), given("p3", "b", 1, key="bob")]
    assert ledger.add_feedback("intent", rows) == FeedbackReceipt(
        new=2, unchanged=0, confirmed=0, corrected=0, stale=0, erased=1
    )
    assert ledger.feedback_labels("intent", ["p1", "p2", "p3"]) == {"p2": "a", "p3": "b"}


def test_an_entry_of_the_history_is_over_when_another_label_or_a_later_time_took_its_place(
    ledger: Ledger, clock: Clock
) -> None:
    for model in ("intent", "other"):
        ledger.add_feedback(model, [given("p", "a", 1), given("q", "a", 1)])
    clock.now = at(101)
    ledger.add_feedback("intent", [given("p", "b", 2)])
    assert past(ledger) == [("p", "a", at(1), at(101)), ("p", "b", at(2), None), ("q", "a", at(1), None)]
    clock.now = at(102)
    ledger.add_feedback("intent", [given("p", "b", 3)])
    confirmed = [("p", "a", at(1), at(101)), ("p", "b", at(2), at(102)), ("p", "b", at(3), None)]
    assert past(ledger) == [*confirmed, ("q", "a", at(1), None)]
    clock.now = at(103)
    ledger.add_feedback("intent", [given("p", "c", 2.5), given("p", "b", 2.75)])
    late = [("p", "c", at(2.5), at(103)), ("p", "b", at(2.75), at(103))]
    assert past(ledger) == [*confirmed[:2], *late, confirmed[2], ("q", "a", at(1), None)]
    assert past(ledger, "other") == [("p", "a", at(1), None), ("q", "a", at(1), None)]


def test_at_equal_times_the_later_row_wins_and_the_earlier_is_over(ledger: Ledger, clock: Clock) -> None:
    ledger.add_feedback("intent", [given("p", "a", 1), given("p", "b", 1)])
    assert ledger.feedback_labels("intent", ["p"]) == {"p": "b"}
    clock.now = at(101)
    receipt = ledger.add_feedback("intent", [given("p", "a", 1)])
    assert (receipt.corrected, receipt.stale) == (1, 0)
    assert ledger.feedback_labels("intent", ["p"]) == {"p": "a"}
    again = ledger.add_feedback("intent", [given("p", "a", 1)])
    assert (again.unchanged, again.confirmed) == (1, 0)


def test_a_confirmation_is_no_news_and_a_correction_is(ledger: Ledger, clock: Clock) -> None:
    ledger.add_feedback("intent", [given("p", "a", 1, key="ann")])
    clock.now = at(101)
    ledger.add_feedback("intent", [given("p", "a", 2)])
    (row,) = ledger.newest_feedback("intent", 9)
    assert (row.received_at, row.at, row.key, row.revision) == (at(100), at(2), "ann", 2)
    clock.now = at(102)
    ledger.add_feedback(
        "intent", [FeedbackRow(prediction_id="p", label="b", at=at(3), key="bob", origin=Origin.LABELLER)]
    )
    (row,) = ledger.newest_feedback("intent", 9)
    assert (row.received_at, row.label, row.key, row.revision) == (at(102), "b", "bob", 3)
    assert row.origin == Origin.LABELLER


def test_the_newest_labels_come_first_and_those_of_one_call_in_reverse(ledger: Ledger, clock: Clock) -> None:
    ledger.add_feedback("intent", [given("p1", "a", 1), given("p2", "a", 1)])
    clock.now = at(101)
    ledger.add_feedback("intent", [given("p3", "a", 1)])
    clock.now = at(102)
    ledger.add_feedback("intent", [given("p1", "b", 2)])
    assert [row.prediction_id for row in ledger.newest_feedback("intent", 9)] == ["p1", "p3", "p2"]
    assert [row.prediction_id for row in ledger.newest_feedback("intent", 2)] == ["p1", "p3"]


def test_every_label_given_is_told_by_time_with_its_origin(ledger: Ledger) -> None:
    ledger.add_feedback("intent", [given("q", "b", 2), given("p", "a", 3), given("p", "c", 1), given("r", "z", 1)])
    ledger.add_feedback("other", [given("p", "x", 1)])
    labels = [
        (g.prediction_id, g.label, g.annotator, g.at) for g in ledger.given_labels("intent", ["p", "q", "p", "-"])
    ]
    assert labels == [("p", "c", "feedback", at(1)), ("q", "b", "feedback", at(2)), ("p", "a", "feedback", at(3))]


def test_one_call_brings_new_labels_and_corrects_some_of_them(ledger: Ledger) -> None:
    receipt = ledger.add_feedback(
        "intent", [given("a", "card", 1), given("b", "loan", 1), given("a", "trip", 2), given("c", "loan", 1)]
    )
    assert (receipt.new, receipt.corrected) == (3, 1)
    assert ledger.feedback_labels("intent", ["a", "b", "c"]) == {"a": "trip", "b": "loan", "c": "loan"}
