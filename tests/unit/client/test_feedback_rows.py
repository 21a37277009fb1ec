"""Rows as they are sent: each has a time, so that sending them twice changes nothing."""

import json
from datetime import UTC, datetime

import pytest

from perennial.client import BadInput, Edit, Kept, Label, Signal, Verdict
from perennial.client.control import answer_of, row_of
from perennial.client.errors import ClientError, NotAllowed, NotFound, Overloaded, Refused, RowsRefused
from perennial.client.feedback import Rows, Tally, feedback_requests
from perennial.client.status import health_request

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_row_without_a_time_gets_one_and_keeps_only_what_is_said() -> None:
    assert row_of({"label": "card", "key": None, "at": None}, now=NOON) == {"label": "card", "at": NOON.isoformat()}
    with pytest.raises(BadInput, match="no time zone"):
        row_of({"at": NOON.replace(tzinfo=None)})


@pytest.mark.parametrize(
    ("rows", "path", "name"),
    [
        ([Label(label="card", text="lost")], "/v1/feedback", "labels"),
        ([Signal(item="i1", user="u1")], "/v1/signals", "signals"),
        ([Verdict(prediction_id="1", verdict="solved")], "/v1/verdicts", "verdicts"),
        ([Edit(accepted="Hi!", approved="It is free.")], "/v1/edits", "edits"),
    ],
)
def test_each_kind_of_row_has_its_place(rows: Rows, path: str, name: str) -> None:
    (request,) = feedback_requests("intent", rows)
    assert request.path == path
    assert request.body is not None
    assert request.body["model"] == "intent"
    assert len(request.body[name]) == 1


def test_many_rows_go_in_bodies_that_the_api_takes() -> None:
    requests = feedback_requests("intent", [Label(label="card", text=str(number)) for number in range(20_001)])
    assert [len(request.body["labels"]) for request in requests if request.body] == [10_000, 10_000, 1]
    assert [request.first_row for request in requests] == [0, 10_000, 20_000]
    long = feedback_requests("intent", [Label(label="card", text="卡" * 50_000) for _ in range(130)])
    sizes = [len(json.dumps(request.body, ensure_ascii=False).encode()) for request in long]
    assert max(sizes) < 2**24, "the API reads no more by default"
    assert [request.first_row for request in long] == [0, 55, 110]
    assert feedback_requests("intent", []) == []
    with pytest.raises(BadInput, match="Label', 'Signal"):
        feedback_requests("intent", [Label(label="card"), Signal(item="i1")])


@pytest.mark.parametrize("row", [Label(label="card", text="half \ud83d"), Signal(item="i1", value=float("nan"))])
def test_a_row_that_cannot_be_sent_is_named(row: Label | Signal) -> None:
    fine = Label(label="card", text="lost") if isinstance(row, Label) else Signal(item="i1")
    with pytest.raises(BadInput, match="row 1 "):
        feedback_requests("intent", [fine, row])


def test_counts_of_several_bodies_add_up() -> None:
    tally = Tally()
    assert tally.total() == Kept()
    for kept in (Kept(new=2, stale=1), Kept(new=3), Kept(erased=1)):
        tally.add(kept)
    assert tally.total() == Kept(new=5, stale=1, erased=1)


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (503, b'{"detail": "later"}', Overloaded, "later"),
        (504, b"<html>", Overloaded, "504"),
        (401, b'{"detail": "give a token"}', NotAllowed, "perennial token new"),
        (404, b'{"detail": "no model"}', NotFound, "no model"),
        (422, b'{"detail": "1 of 2", "rows": [{"row": 1, "cause": "empty"}]}', RowsRefused, "1 of 2"),
        (409, b'{"detail": "a cycle is under way"}', Refused, "409"),
        (200, b"<html>no API</html>", Refused, "is the address right"),
        (200, b'{"something": "else"}', Refused, "is the address right"),
    ],
)
def test_an_error_says_what_happened(status: int, body: bytes, kind: type[ClientError], said: str) -> None:
    with pytest.raises(kind, match=said) as raised:
        answer_of(health_request(), "http://here", status if status != 503 else 502, {"retry-after": "5"}, body)
    assert "GET /healthz at http://here" in str(raised.value)
    if isinstance(raised.value, Overloaded):
        assert raised.value.retry_after_s == 5.0
    if isinstance(raised.value, RowsRefused):
        assert raised.value.rows == ({"row": 1, "cause": "empty"},)


def test_a_service_that_is_not_well_answers_too() -> None:
    told = answer_of(health_request(), "http://here", 503, {}, b'{"healthy": false, "parts": []}')
    assert (told.healthy, told.document["parts"]) == (False, [])
