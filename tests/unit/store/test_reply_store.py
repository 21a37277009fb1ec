"""The library of replies: versions, approved questions, verdicts, and what is left of a customer who is erased."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial.continual.errors import DataError, DependencyUnreachable, NotFound
from perennial.continual.learning.replies import Question, Reply, SendingRule
from perennial.ops.settings import ModelSettings, Settings
from perennial.ops.store.kept_items import kept_items
from perennial.ops.store.remembered import forget, remembered_texts
from perennial.ops.store.reply_store import ReplyState, ReplyStore, Verdict
from perennial.ops.store.sending_rule import read_rule, write_rule
from perennial.ops.store.workspace import Workspace

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FEE = Reply(id="fee", text="It costs {fee}.", intent="fee")
LOST = Reply(id="lost", text="Block it in the app.", intent="lost_card")


def verdict(number: int, *, good: bool | None = True, sure: float = 0.95, **more: str) -> Verdict:
    fields = {"customer": "ann", "reply": "fee", "intent": "fee", "previous": "", "verdict": "accepted"} | more
    at = NOON + timedelta(seconds=number)
    return Verdict(prediction_id=f"{number:032x}", at=at, sure=sure, good=good, **fields)


@pytest.fixture
def store(tmp_path: Path) -> ReplyStore:
    made = ReplyStore(tmp_path / "users" / "service.db")
    made.put([FEE, LOST])
    return made


def test_a_library_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DependencyUnreachable, match="the library of replies in"):
        ReplyStore(tmp_path / "nothing.db").library()


def test_every_change_of_what_may_be_answered_moves_the_revision_and_nothing_else_does(store: ReplyStore) -> None:
    seen = [store.revision]
    assert store.put([FEE]) == 0
    store.note([verdict(1)])
    write_rule(store, SendingRule(precision=0.9))
    store.put([Reply(id="new", text="Not yet.", intent="fee")], state=ReplyState.PROPOSED)
    assert store.revision == seen[0]
    for change in (
        lambda: store.put([Reply(id="fee", text="It costs 2 EUR.", intent="fee")]),
        lambda: store.approve_questions([Question(reply="fee", text="what is the fee")]),
        lambda: store.decide("new", ReplyState.APPROVED),
        lambda: store.decide("lost", ReplyState.WITHDRAWN),
    ):
        change()
        seen.append(store.revision)
    assert seen == sorted(set(seen))
    library = store.library()
    assert [(reply.id, reply.version, reply.text) for reply in library.replies] == [
        ("fee", 2, "It costs 2 EUR."),
        ("new", 1, "Not yet."),
    ]
    assert [question.text for question in library.questions] == ["what is the fee"]
    assert read_rule(store).precision == 0.9


def test_a_proposed_version_takes_the_place_of_the_approved_one_once_it_is_approved(store: ReplyStore) -> None:
    store.put([Reply(id="fee", text="It is free.", intent="fee")], state=ReplyState.PROPOSED)
    assert {reply.text for reply in store.library().replies} == {FEE.text, LOST.text}
    store.decide("fee", ReplyState.APPROVED)
    assert {reply.text for reply in store.library().replies} == {"It is free.", LOST.text}
    assert [(row.reply.version, row.state) for row in store.replies() if row.reply.id == "fee"] == [
        (2, ReplyState.APPROVED)
    ]


def test_what_is_not_in_the_library_is_refused(store: ReplyStore) -> None:
    with pytest.raises(NotFound, match="'none' is not in the library"):
        store.decide("none", ReplyState.APPROVED)
    with pytest.raises(DataError, match="'none' is not in the library"):
        store.approve_questions([Question(reply="none", text="x")])


def test_only_sure_and_judged_answers_count_for_sending_the_newest_first(store: ReplyStore) -> None:
    store.note([verdict(1, good=False), verdict(2), verdict(3), verdict(4, sure=0.5), verdict(5, good=None)])
    assert store.would_have_sent(0.9, last=500) == (2, 3)
    assert store.would_have_sent(0.9, last=2) == (2, 2)
    store.note([verdict(3, good=False)])
    assert store.would_have_sent(0.9, last=2) == (1, 2)


def test_habits_are_counts_of_what_was_settled(store: ReplyStore) -> None:
    store.note([verdict(1), verdict(2, previous="fee", intent="lost_card", customer="bob"), verdict(3, intent="")])
    habits = store.habits()
    assert habits.overall == {"fee": 1, "lost_card": 1}
    assert habits.after == {"fee": {"lost_card": 1}}
    assert store.settled_with(["ann", "bob", "carl"]) == {"ann": {"fee": 1}, "bob": {"lost_card": 1}, "carl": {}}


def test_an_erased_customer_leaves_nothing_but_approved_replies(store: ReplyStore, tmp_path: Path) -> None:
    store.approve_questions([Question(reply="fee", text="a very private question")], customer="ann")
    store.put([Reply(id="own", text="private words", intent="fee")], state=ReplyState.PROPOSED, customer="ann")
    store.put([Reply(id="kept", text="approved words", intent="fee")], customer="ann")
    store.note([verdict(1), verdict(2, customer="bob")])
    assert store.carried_by("ann") == 4
    assert store.erase("ann") == 4
    assert (store.carried_by("ann"), store.carried_by("bob")) == (0, 1)
    assert {reply.id for reply in store.library().replies} == {"fee", "kept", "lost"}
    written = b"".join(path.read_bytes() for path in (tmp_path / "users").iterdir())
    assert b"very private" not in written
    assert b"private words" not in written
    assert b"approved words" in written


def test_an_erased_customer_is_not_in_the_library_that_a_training_read_either(tmp_path: Path) -> None:
    desk = Workspace(Settings(state=tmp_path, models={"desk": ModelSettings(task="replies")}))
    with ReplyStore(desk.replies("desk")) as store:
        store.put([FEE, LOST])
        store.approve_questions([Question(reply="fee", text="what anybody asks")])
        store.approve_questions(
            [Question(reply="fee", text="a very private question"), Question(reply="lost", text="what anybody asks")],
            customer="ann",
        )
        store.put([Reply(id="own", text="private words", intent="fee")], state=ReplyState.PROPOSED, customer="ann")
    read = kept_items(desk, "desk")
    assert read is not None
    assert "a very private question" in read.read_text()
    assert remembered_texts(desk, "desk", "replies", "ann") == {"a very private question", "private words"}
    assert forget(desk, "desk", "replies", "ann") == 3
    assert remembered_texts(desk, "desk", "replies", "ann") == frozenset()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and b"very private" in path.read_bytes()]
    assert not left
    read.write_text("a very private question\n")  # what a kill between the two leaves
    assert forget(desk, "desk", "replies", "ann") == 0
    assert not read.exists()
    again = kept_items(desk, "desk")
    assert again is not None
    assert "what anybody asks" in again.read_text()


def test_what_is_written_together_is_kept_whole_or_not_at_all(store: ReplyStore) -> None:
    before = store.revision
    with store.together():
        store.approve_questions([Question(reply="fee", text="what is the fee")])
        store.note([verdict(1)])
    assert store.revision == before + 1

    def one_of_two_fails() -> None:
        with store.together():
            store.approve_questions([Question(reply="fee", text="and what more")])
            store.approve_questions([Question(reply="nothing", text="what is it")])

    with pytest.raises(DataError, match="not in the library"):
        one_of_two_fails()
    assert [question.text for question in store.library().questions] == ["what is the fee"]
    store.approve_questions([Question(reply="fee", text="and what more")])
    assert store.revision == before + 2, "the file goes on being written"
