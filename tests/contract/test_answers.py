"""A request under a key is carried out once: its answer is kept, on both databases."""

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, select
from starlette.types import Message, Receive, Scope, Send

from perennial.continual.errors import DataError
from perennial.ops.api.repeats import Repeats
from perennial.ops.ledger import Conflict, Ledger, schema
from perennial.ops.ledger.answers import KeptAnswer
from perennial.ops.safety.roles import CALLER, LOCAL
from tests.contract.clock import Clock

pytestmark = pytest.mark.component
ANSWER = KeptAnswer(status=202, headers={"etag": '"7"'}, body='{"text": "ü"}')


def test_an_answer_is_given_again_and_to_the_same_request_alone(ledger: Ledger) -> None:
    assert ledger.claim_answer("k", "promote 2", holder="a") is None
    ledger.keep_answer("k", ANSWER, holder="a")
    assert ledger.claim_answer("k", "promote 2", holder="b") == ANSWER
    with pytest.raises(DataError, match="another request"):
        ledger.claim_answer("k", "promote 3", holder="a")
    assert ledger.claim_answer("other", "promote 3", holder="a") is None


def test_of_many_at_once_one_is_carried_out(ledger: Ledger) -> None:
    told: list[object] = []

    def ask(number: int) -> None:
        try:
            told.append(ledger.claim_answer("k", "promote 2", holder=str(number)))
        except Conflict as exc:
            told.append(exc)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count(None) == 1
    assert sum(isinstance(one, Conflict) for one in told) == 7


def test_a_claim_that_is_given_up_while_another_one_is_made_is_a_conflict(ledger: Ledger) -> None:
    ledger.claim_answer("k", "promote 2", holder="a")

    def given_up(connection: Connection, _: Any, statement: str, *__: Any) -> None:
        if statement.startswith("INSERT INTO answer"):
            connection.exec_driver_sql("DELETE FROM answer")

    event.listen(ledger.engine, "after_cursor_execute", given_up)
    try:
        with pytest.raises(Conflict, match="ask again"):
            ledger.claim_answer("k", "promote 2", holder="a")
    finally:
        event.remove(ledger.engine, "after_cursor_execute", given_up)


def test_a_request_that_did_nothing_may_come_again(ledger: Ledger) -> None:
    ledger.claim_answer("k", "promote 2", holder="a")
    ledger.release_answer("k", holder="b")
    with pytest.raises(Conflict):
        ledger.claim_answer("k", "promote 2", holder="a")
    ledger.release_answer("k", holder="a")
    assert ledger.claim_answer("k", "promote 3", holder="a") is None


def test_a_claim_of_a_process_that_died_is_taken_over(ledger: Ledger, clock: Clock) -> None:
    ledger.claim_answer("k", "promote 2", holder="dead")
    with pytest.raises(Conflict):
        ledger.claim_answer("k", "promote 2", holder="a")
    clock.now += timedelta(minutes=2)
    assert ledger.claim_answer("k", "promote 2", holder="a") is None
    ledger.keep_answer("k", ANSWER, holder="dead")
    clock.now += timedelta(minutes=2)
    with pytest.raises(Conflict):
        ledger.claim_answer("k", "promote 2", holder="a")


def test_a_claim_that_was_left_behind_is_taken_again_by_its_holder(ledger: Ledger) -> None:
    ledger.claim_answer("k", "promote 2", holder="a")
    with pytest.raises(Conflict):
        ledger.claim_answer("k", "promote 2", holder="b", resumes=True)
    with pytest.raises(DataError, match="another request"):
        ledger.claim_answer("k", "promote 3", holder="a", resumes=True)
    assert ledger.claim_answer("k", "promote 2", holder="a", resumes=True) is None


def test_an_answer_that_was_kept_during_an_erasure_goes_with_its_end(ledger: Ledger) -> None:
    token, _ = ledger.begin_erasure("intent", "ann")
    ledger.erase_key("intent", "ann")
    ledger.claim_answer("k", "queue", holder="a")
    ledger.keep_answer("k", ANSWER, holder="a")
    ledger.end_erasure("intent", token)
    assert ledger.claim_answer("k", "queue", holder="a") is None


def test_answers_are_forgotten_by_age_and_by_an_erasure(ledger: Ledger, clock: Clock) -> None:
    for key in ("old", "new"):
        ledger.claim_answer(key, "x", holder="a")
        ledger.keep_answer(key, ANSWER, holder="a")
        clock.now += timedelta(hours=2)
    assert ledger.forget_answers(clock.now - timedelta(hours=3)) == 1
    assert ledger.claim_answer("new", "x", holder="a") == ANSWER
    ledger.claim_answer("under way", "x", holder="a")
    ledger.erase_key("intent", "ann")
    ledger.keep_answer("under way", ANSWER, holder="a")
    for key in ("new", "under way"):
        assert ledger.claim_answer(key, "x", holder="a") is None


def test_a_request_that_takes_minutes_keeps_its_claim_while_its_process_lives(ledger: Ledger, clock: Clock) -> None:
    seen: list[str] = []
    sent: list[Message] = []

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        clock.now += timedelta(minutes=5)
        end = time.monotonic() + 20
        while not seen and time.monotonic() < end:
            await asyncio.sleep(0.02)
            with ledger.engine.connect() as connection:
                row = connection.execute(select(schema.answer)).mappings().one()
            if row["claimed_at"] == clock.now:
                with pytest.raises(Conflict) as told:
                    ledger.claim_answer(row["key"], row["request"], holder="another process")
                seen.append(str(told.value))
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"idempotency-key", b"k")]
    scope: Scope = {"type": "http", "method": "POST", "path": "/v1/models/intent/retrain", "headers": headers}
    scope |= {"query_string": b"", CALLER: LOCAL}
    asyncio.run(Repeats(slow, ledger=ledger, renew_s=0.02)(scope, receive, send))
    assert "is being carried out" in str(seen)
    assert sent[0]["status"] == 202
