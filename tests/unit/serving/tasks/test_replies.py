"""A library changes, and the next answer of every version knows of it, without any training."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.learning.replies import Question, Reply, SendingRule
from perennial.continual.tasks.replies import Message, Turn
from perennial.exporters.engine import Engine
from perennial.exporters.runtime import load_engine
from perennial.ops.serving.port import Memory
from perennial.ops.serving.tasks.replies import SIDE, Answered, RepliesVersion
from perennial.ops.store.reply_store import ReplyState, ReplyStore, Verdict
from perennial.ops.store.sending_rule import write_rule
from tests.component.triton_fixtures import write_bundle

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class World:
    def __init__(self, folder: Path) -> None:
        write_bundle(folder / "1", 1, task="replies")
        self.engine: Engine = load_engine(folder / "1", threads=1)
        self.version: RepliesVersion = SIDE.open(folder / "1")
        self.store = ReplyStore(folder / "library.db")
        self.memory: Memory = SIDE.memory(folder / "library.db")
        self.rows = 0

    def ask(self, *inputs: Any) -> list[Answered]:
        asked = self.memory.recalled(inputs)
        rows = self.version.encode(asked)
        self.rows = len(rows["input_ids"])
        return self.version.answers(asked, rows, self.engine.infer(rows))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.store.put(
        [
            Reply(id="block", text="Block the lost card.", intent="card_issue"),
            Reply(id="fee", text="Dear {name}, a transfer is free.", intent="money_issue"),
        ]
    )
    return made


def test_new_changed_and_withdrawn_replies_are_in_the_next_answer(world: World) -> None:
    (first,) = world.ask("card lost")
    assert (first.kept, first.suggested[0].reply.id, first.action) == ("card_issue", "block", "suggest")
    assert world.rows == 3, "the message, and the texts of the library whose embeddings were not known"
    world.ask("card lost")
    assert world.rows == 1
    world.store.put([Reply(id="block", text="Call us if the card is lost.", intent="card_issue")])
    assert world.ask("card lost")[0].texts[0] == "Call us if the card is lost."
    world.store.decide("block", ReplyState.WITHDRAWN)
    assert [one.reply.id for one in world.ask("card lost")[0].suggested] == ["fee"]


def test_an_approved_question_decides_at_once(world: World) -> None:
    assert world.ask("hello hello")[0].suggested[0].sure < 0.9
    world.store.approve_questions([Question(reply="fee", text="hello hello")])
    answer = world.ask("hello hello")[0]
    assert answer.suggested[0].reply.id == "fee"
    assert "an approved question is 1.00 alike" in answer.suggested[0].reason


def test_variables_are_filled_and_one_that_is_missing_keeps_a_reply_from_being_sent(world: World) -> None:
    world.store.approve_questions([Question(reply="fee", text="transfer money")])
    write_rule(world.store, SendingRule(precision=0.9, sure=0.5))
    world.store.note(
        Verdict(
            prediction_id=f"{number:032x}",
            at=NOON,
            customer=None,
            reply="fee",
            sure=0.95,
            intent="money_issue",
            previous="",
            verdict="accepted",
            good=True,
        )
        for number in range(40)
    )
    named = Message(text="transfer money", values={"name": "Jo"})
    filled, missing = world.ask(named, "transfer money")
    assert (filled.texts[0], filled.action) == ("Dear Jo, a transfer is free.", "send")
    assert (missing.texts[0], missing.action) == ("Dear {name}, a transfer is free.", "suggest")
    world.store.note(
        Verdict(
            prediction_id=f"{number:032x}",
            at=NOON,
            customer=None,
            reply="fee",
            sure=0.95,
            intent="",
            previous="",
            verdict="rejected",
            good=False,
        )
        for number in range(5)
    )
    assert world.ask(named)[0].action == "suggest", "it switched itself off"


def test_the_turn_before_and_the_customer_count_unless_switched_off(world: World) -> None:
    world.store.note(
        Verdict(
            prediction_id=f"{number:032x}",
            at=NOON,
            customer="ann" if number % 2 else "bob",
            reply="fee",
            sure=0.5,
            intent="money_issue" if number % 2 else "card_issue",
            previous="greeting" if number % 2 else "card_issue",
            verdict="accepted",
            good=True,
        )
        for number in range(20)
    )

    def sure(message: Message) -> float:
        return next(one.sure for one in world.ask(message)[0].suggested if one.reply.id == "fee")

    plain = sure(Message(text="hello"))
    assert sure(Message(text="hello", turns=(Turn(intent="greeting"),))) > plain
    assert sure(Message(text="hello", turns=(Turn(reply="block"),))) < plain
    assert sure(Message(text="hello", customer="ann")) > plain
    write_rule(world.store, SendingRule(personal=False))
    assert sure(Message(text="hello", customer="ann")) == pytest.approx(plain)


def test_the_file_is_read_again_only_once_somebody_has_written_it(world: World, tmp_path: Path) -> None:
    one, other = SIDE.memory(tmp_path / "library.db"), SIDE.memory(tmp_path / "library.db")
    message = Message(text="hello", customer="ann")

    def shelves(memory: Memory) -> tuple[Any, Any]:
        (recalled,) = memory.recalled([message])
        return recalled.shelf, recalled.past

    before = [shelves(memory) for memory in (one, other)]
    assert [shelves(memory)[0] for memory in (one, other)] == [shelf for shelf, _ in before], "the same, not alike"
    write_rule(world.store, SendingRule(precision=0.9))
    after = [shelves(memory)[0] for memory in (one, other)]
    assert [shelf.sending.rule.precision for shelf in after] == [0.9, 0.9], "each router sees it with the next message"
    assert [shelf.library for shelf in after] == [shelf.library for shelf, _ in before], "replies did not change"
    settled = {"reply": "fee", "sure": 0.9, "intent": "money_issue", "previous": "", "verdict": "accepted"}
    world.store.note([Verdict(prediction_id=f"{1:032x}", at=NOON, customer="ann", good=True, **settled)])
    assert [dict(shelves(memory)[1].customer) for memory in (one, other)] == [{"money_issue": 1}] * 2
    assert [shelves(memory)[0].sending.judged for memory in (one, other)] == [1, 1]
    world.store.erase("ann")
    assert [dict(shelves(memory)[1].customer) for memory in (one, other)] == [{}, {}]


def test_a_library_that_cannot_be_read_leaves_the_last_one(world: World, tmp_path: Path) -> None:
    world.ask("card lost")
    (tmp_path / "library.db").rename(tmp_path / "away.db")
    assert world.ask("card lost")[0].suggested[0].reply.id == "block"
    assert world.memory.unread == 1
