"""What became of answers: approved questions and proposals for the next answer, labels for the next training."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import DataError
from perennial.continual.learning.replies import Question, Reply
from perennial.continual.preparation import KnownLabels
from perennial.ops.commands.reply_library import ReplyLibrary
from perennial.ops.commands.verdict_file import read_verdict_file
from perennial.ops.ledger import Ledger
from perennial.ops.settings import LearningSettings, ModelSettings, Settings
from perennial.ops.store.feedback import AdmittedVerdict, GivenVerdict, add_verdicts, admit_verdict, joiner_of
from perennial.ops.store.kept_items import kept_items
from perennial.ops.store.remembered import forget, remembered
from perennial.ops.store.reply_store import ReplyStore
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic.writer import TrafficWriter
from perennial.ops.watching.collector import Collected, collect
from tests.component.databases import BACKENDS, fresh_url
from tests.component.traffic_rows import START, columns, row_id

pytestmark = pytest.mark.component
LATER = START + timedelta(hours=1)
KNOWN = KnownLabels(["fee", "lost_card"])


@pytest.fixture
def desk(tmp_path: Path) -> Workspace:
    learning = LearningSettings(holdout_share=0.25)
    made = Workspace(Settings(state=tmp_path, models={"desk": ModelSettings(task="replies", learning=learning)}))
    with ReplyStore(made.replies("desk")) as store:
        store.put([Reply(id="fee", text="It is free.", intent="fee"), Reply(id="no", text="No.", intent="lost_card")])
    return made


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path, desk: Workspace) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path), clock=lambda: LATER) as opened:
        opened.register_model("desk", desk.settings.models["desk"].model_dump(mode="json"))
        yield opened


def answered(desk: Workspace, texts: list[str]) -> list[str]:
    """Messages that were answered a second apart; their prediction ids."""
    seconds = list(range(len(texts)))
    rows: dict[str, Any] = dict(columns(seconds)) | {
        "key": [f"customer {second}" for second in seconds],
        "text": texts,
        "prediction": ["lost_card"] * len(texts),
        "known": [None] * len(texts),
        "language": [""] * len(texts),
        "previous": [""] * len(texts),
        "replies": [json.dumps([["fee", 1, 0.95], ["no", 1, 0.05]])] * len(texts),
        "action": ["suggest"] * len(texts),
    }
    writer = TrafficWriter(desk.traffic("desk"), "test", task="replies")
    writer.append(rows)
    writer.close()
    return [row_id(second, second) for second in seconds]


def verdict(prediction_id: str, kind: str, **fields: Any) -> AdmittedVerdict:
    return admit_verdict(GivenVerdict(prediction_id=prediction_id, verdict=kind, **fields), known=KNOWN, now=LATER)


def test_an_accepted_reply_is_approved_for_the_question_at_once_and_becomes_a_label(
    ledger: Ledger, desk: Workspace
) -> None:
    accepted, rejected, edited, own, passed = answered(desk, ["is it free", "who are you", "price?", "lost it", "hm"])
    given = [
        verdict(accepted, "accepted"),
        verdict(rejected, "rejected"),
        verdict(edited, "edited", text="It is free for you, jo.doe@example.org."),
        verdict(own, "own", text="Block it in the app.", intent="lost_card"),
        verdict(passed, "handed_over"),
    ]
    assert add_verdicts(ledger, desk, "desk", given)["new"] == 3
    assert add_verdicts(ledger, desk, "desk", given)["new"] == 0
    with ReplyStore(desk.replies("desk")) as store:
        asked = {(question.text, question.reply, question.weight) for question in store.library().questions}
        assert {("is it free", "fee", 1.0), ("who are you", "fee", -1.0), ("price?", "fee", 1.0)} <= asked
        assert store.would_have_sent(0.9, last=10) == (1, 5), "what was handed over should not have been sent"
    library = ReplyLibrary(ledger, desk, "desk")
    proposed = {row.id: row for row in library.listed(state="proposed")}
    assert proposed["fee"].text == "It is free for you, [email]."
    (own_reply,) = set(proposed) - {"fee"}
    library.approve(own_reply, actor="me")
    assert proposed[own_reply].intent == "lost_card"
    items = kept_items(desk, "desk")
    assert items is not None
    assert "Block it in the app." in items.read_text()
    joiner = joiner_of(ledger, desk, "desk")
    assert collect(ledger, traffic_of(desk, "desk"), "desk", holdout_share=0.25, now=LATER, joiner=joiner) == Collected(
        joined=3
    )
    assert {(row.example.input, row.example.target) for row in ledger.examples("desk")} == {
        ("is it free", "fee"),
        ("price?", "fee"),
        ("lost it", "lost_card"),
    }
    assert remembered(desk, "desk", "replies", "customer 0") == 2
    assert forget(desk, "desk", "replies", "customer 0") == 2
    with ReplyStore(desk.replies("desk")) as store:
        assert "is it free" not in {question.text for question in store.library().questions}


def test_an_edited_reply_keeps_what_was_not_edited(ledger: Ledger, desk: Workspace) -> None:
    (number,) = answered(desk, ["is it free"])
    library = ReplyLibrary(ledger, desk, "desk")
    library.change("fee", {"language": "en", "owner": "jo", "valid_until": "2036-01-01T00:00:00+00:00"}, actor="me")
    add_verdicts(ledger, desk, "desk", [verdict(number, "edited", text="It is free today.")])
    (before,) = library.listed(state="approved", intent="fee")
    approved = library.approve("fee", actor="me")
    assert (approved.text, approved.version) == ("It is free today.", before.version + 1)
    for name in ("intent", "language", "owner", "valid_until"):
        assert getattr(approved, name) == getattr(before, name)


def test_the_words_of_a_reply_that_is_there_approve_it_and_propose_nothing(ledger: Ledger, desk: Workspace) -> None:
    same, other, gone = answered(desk, ["is it free", "lost it", "price?"])
    library = ReplyLibrary(ledger, desk, "desk")
    given = [verdict(same, "edited", text=" It is free. "), verdict(other, "own", text="No.", intent="lost_card")]
    assert add_verdicts(ledger, desk, "desk", given)["new"] == 2
    assert library.listed(state="proposed") == []
    with ReplyStore(desk.replies("desk")) as store:
        asked = {(question.text, question.reply, question.weight) for question in store.library().questions}
        assert asked == {("is it free", "fee", 1.0), ("lost it", "no", 1.0)}
        assert store.would_have_sent(0.9, last=10) == (1, 2), "an edit that changed nothing was right as it stood"
    library.withdraw("no", actor="me")
    add_verdicts(ledger, desk, "desk", [verdict(gone, "own", text="No.", intent="lost_card")])
    (proposed,) = library.listed(state="proposed")
    assert (proposed.id != "no", proposed.text) == (True, "No."), "a withdrawn reply does not come back by itself"


def test_what_solved_it_is_approved_and_what_did_not_counts_against_the_reply(ledger: Ledger, desk: Workspace) -> None:
    solved, unsolved, known = answered(desk, ["is it free", "who are you", "price?"])
    with ReplyStore(desk.replies("desk")) as store:
        store.approve_questions([Question(reply="fee", text="price?")])
    given = [verdict(solved, "solved"), verdict(unsolved, "unsolved"), verdict(known, "unsolved")]
    assert add_verdicts(ledger, desk, "desk", given)["new"] == 1
    with ReplyStore(desk.replies("desk")) as store:
        asked = {(question.text, question.weight) for question in store.library().questions}
        assert asked == {("is it free", 1.0), ("who are you", -0.5), ("price?", 1.0)}, "what is approved stays so"
        assert store.would_have_sent(0.9, last=10) == (1, 3)


def test_a_change_of_a_reply_does_not_approve_what_is_proposed_for_it(ledger: Ledger, desk: Workspace) -> None:
    (number,) = answered(desk, ["is it free"])
    add_verdicts(ledger, desk, "desk", [verdict(number, "edited", text="It is free, I think.")])
    library = ReplyLibrary(ledger, desk, "desk")
    changed = library.change("fee", {"owner": "jo"}, actor="me")
    assert (changed.state, changed.owner, changed.text) == ("approved", "jo", "It is free.")
    assert library.approve("fee", actor="me").text == "It is free, I think."


def test_verdicts_of_which_one_names_a_strange_reply_are_all_refused(ledger: Ledger, desk: Workspace) -> None:
    first, second = answered(desk, ["is it free", "price?"])
    with pytest.raises(DataError, match="'strange' is not in the library"):
        add_verdicts(ledger, desk, "desk", [verdict(first, "accepted"), verdict(second, "accepted", reply="strange")])
    with ReplyStore(desk.replies("desk")) as store:
        assert store.library().questions == ()


def test_a_verdict_that_breaks_a_rule_is_refused(ledger: Ledger, desk: Workspace, tmp_path: Path) -> None:
    (number,) = answered(desk, ["is it free"])
    for kind, fields, message in (
        ("fine", {}, "verdict is 'fine'; use one of accepted"),
        ("own", {}, "needs text"),
        ("accepted", {"text": "x"}, "takes no text"),
    ):
        with pytest.raises(DataError, match=message):
            verdict(number, kind, **fields)
    with pytest.raises(DataError, match="1 of 1 answers are not in the traffic log"):
        add_verdicts(ledger, desk, "desk", [verdict(row_id(9, 9), "accepted")])
    with pytest.raises(DataError, match="'strange' is not in the library"):
        add_verdicts(ledger, desk, "desk", [verdict(number, "accepted", reply="strange")])
    file = tmp_path / "verdicts.csv"
    file.write_text(f"prediction_id,verdict,reply\n{number},accepted,no\n")
    read = read_verdict_file(file, known=KNOWN)
    assert read is not None
    assert add_verdicts(ledger, desk, "desk", read.verdicts)["new"] == 1
    with ReplyStore(desk.replies("desk")) as store:
        assert store.would_have_sent(0.9, last=10) == (0, 1), "another reply than the first one was right"
    file.write_text(f"prediction_id,label\n{number},fee\n")
    assert read_verdict_file(file, known=KNOWN) is None
