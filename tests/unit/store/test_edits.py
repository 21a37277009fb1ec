"""Accepted edits at the entrance: of a request or with their reply, and nobody's name in what is kept."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from perennial.continual.errors import DataError
from perennial.continual.records import Origin
from perennial.continual.tasks.generation import AcceptedEdit, Rewrite, check_rewrite
from perennial.ops.ledger import FeedbackRow, PendingFeedback
from perennial.ops.store.feedback import GivenEdit, admit_edit, joiner_of

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ID = "01" * 16
SENT = "Hi Jo, it costs $5. Have a great day!"


def given(**fields: object) -> GivenEdit:
    return GivenEdit(**cast("Any", {"accepted": SENT, **fields}))


def test_an_edit_with_its_reply_is_a_row_to_learn_from() -> None:
    row = admit_edit(given(approved="It costs $5.", tone="warm", name="Jo", key="ann"), now=NOON)
    assert isinstance(row, AcceptedEdit)
    assert row.input == Rewrite(approved="It costs $5.", tone="warm", name="{name}")
    assert (row.target, row.at, row.origin, row.key) == (SENT.replace("Jo", "{name}"), NOON, Origin.FEEDBACK, "ann")


def test_an_edit_of_a_request_is_feedback_that_is_joined_to_its_reply() -> None:
    row = admit_edit(given(prediction_id=ID, name="Jo"), now=NOON)
    assert row == FeedbackRow(prediction_id=ID, label=SENT.replace("Jo", "{name}"), at=NOON)
    logged = {"approved": "It costs $5.", "tone": "warm", "language": "", "key": "ann", "redacted": False}
    joined = joined_row(row, logged)
    assert (joined.input.tone, joined.input.name, joined.key) == ("warm", "{name}", "ann")
    assert check_rewrite(joined.input.approved, joined.target, name=joined.input.name).let_through
    plain = joined_row(FeedbackRow(prediction_id=ID, label="It costs $5, {name}.", at=NOON), logged | {
        "approved": "It costs $5, {name}."
    })  # fmt: skip
    assert plain.input.name == "", "the reply itself has the variable"


def joined_row(row: FeedbackRow, logged: dict[str, Any]) -> AcceptedEdit:
    class _Settings:
        def task_of(self, model: str) -> str:
            return "generation"

    class _Workspace:
        settings = _Settings()

    joiner = joiner_of(cast("Any", None), cast("Any", _Workspace()), "tell")
    pending = PendingFeedback(
        id=1,
        prediction_id=row.prediction_id,
        label=row.label,
        at=row.at,
        received_at=row.at,
        origin=row.origin,
        key=row.key,
        revision=0,
    )
    made = joiner.row(pending, logged)
    assert isinstance(made, AcceptedEdit)
    return made


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "one of prediction_id and approved"),
        ({"prediction_id": ID, "approved": "It costs $5."}, "and not both"),
        ({"prediction_id": ID, "tone": "warm"}, "those of the request"),
        ({"prediction_id": "x"}, "prediction"),
        ({"approved": "It costs $5.", "tone": False}, "tone"),
        ({"approved": "It costs $5.", "name": 5}, "name"),
        ({"approved": " "}, "approved is empty"),
        ({"approved": "It costs $5.", "accepted": None}, "accepted"),
    ],
)
def test_a_mistake_is_told_by_its_field(fields: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        admit_edit(given(**fields), now=NOON)
