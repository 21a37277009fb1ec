"""What rows and labels say of whose they are: kept in the row, joined by later sayings, gone with it."""

import pytest
from sqlalchemy import select

from perennial.continual.records import Example, Split
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.ledger.schema import example as table
from perennial.ops.ledger.schema import feedback
from tests.contract.clock import Clock, at

pytestmark = pytest.mark.component


@pytest.fixture
def clock() -> Clock:
    return Clock(at(100))


def row(label: str = "a", hours: float = 0, key: str | None = None, **attributes: str) -> Example:
    return Example(text="my card", label=label, at=at(50 + hours), key=key, attributes=attributes)


def keep(ledger: Ledger, *rows: Example) -> dict[str, str]:
    ledger.add_examples("intent", rows, lambda _: Split.TRAIN)
    (stored,) = ledger.examples("intent")
    return dict(stored.example.attributes)


def test_attributes_stay_with_their_row_and_later_ones_join(ledger: Ledger) -> None:
    assert keep(ledger, row()) == {}
    assert keep(ledger, row(region="north")) == {"region": "north"}, "said of a row that is known already"
    assert keep(ledger, row(hours=-2, age="old")) == {"region": "north", "age": "old"}
    assert keep(ledger, row(hours=-1, region="south")) == {"region": "south", "age": "old"}
    assert keep(ledger, row("b", hours=1)) == {"region": "south", "age": "old"}, "a new label says nothing of it"
    assert keep(ledger, row("b", hours=1), row("c", hours=2, region="west"))["region"] == "west"


def test_a_label_of_a_prediction_hands_its_attributes_on(ledger: Ledger) -> None:
    for hours, label, attributes in ((1, "a", {"region": "north"}), (2, "b", {"age": "old"}), (3, "c", {})):
        given = FeedbackRow(prediction_id="p", label=label, at=at(hours), attributes=attributes)
        ledger.add_feedback("intent", [given])
    (pending,) = ledger.pending_feedback("intent")
    assert pending.attributes == {"region": "north", "age": "old"}


def test_what_is_said_of_one_person_is_not_kept_of_another_who_wrote_the_same(ledger: Ledger) -> None:
    assert keep(ledger, row(key="ann", region="north")) == {"region": "north"}
    assert keep(ledger, row(hours=1, key="bob", region="south", age="old")) == {"region": "north"}, "ann's row stays"
    assert keep(ledger, row(hours=2, key="ann", age="young")) == {"region": "north", "age": "young"}
    assert keep(ledger, row("b", hours=3, key="bob", age="old")) == {"age": "old"}, "it is bob's row now"
    for hours, key, attributes in (
        (1, None, {"sex": "f"}),
        (2, "ann", {"region": "north"}),
        (3, "bob", {"age": "old"}),
    ):
        given = FeedbackRow(prediction_id="p", label=f"label {hours}", at=at(hours), key=key, attributes=attributes)
        ledger.add_feedback("intent", [given])
        (pending,) = ledger.pending_feedback("intent")
        expected = {"sex": "f", "region": "north"} if key == "ann" else attributes
        assert pending.attributes == expected


def test_attributes_go_with_their_row(ledger: Ledger) -> None:
    keep(ledger, row(key="ann", region="north"))
    ledger.add_feedback(
        "intent", [FeedbackRow(prediction_id="p", label="a", at=at(1), key="ann", attributes={"r": "n"})]
    )
    ledger.erase_key("intent", "ann", actor="ops")
    with ledger.engine.connect() as connection:
        assert not connection.execute(select(table.c.attributes)).all()
        assert not connection.execute(select(feedback.c.attributes)).all()
