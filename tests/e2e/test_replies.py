"""Customer service as its users meet it: a library in, approved replies out, edited, judged, retrained and erased."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from perennial import client
from perennial.client.replies import SuggestedReplies
from perennial.continual.learning.replies import Matcher
from perennial.continual.learning.replies.library import key_of
from perennial.continual.tasks.replies import Message, Turn
from perennial.ops.serving.client import PerennialClient
from perennial.ops.store.reply_store import ReplyStore
from tests.e2e.conftest import requests_about
from tests.e2e.workspace import SERVED_TOML, E2eWorkspace, wait_for
from tests.unit.speech.sounds import spoken

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
INTENTS = ("card", "loan", "trip", "fees")
DESK = ("--model", "desk")
_TOML = (
    SERVED_TOML
    + """[traffic]
rotate_s = 0.5
[speech]
enabled = true
[models.desk]
task = "replies"
[models.desk.learning]
encoder = "{encoder}"
max_length = 32
replay_rows = 60
holdout_share = 0.3
[models.desk.learning.params]
features = 256
lexical = 256
[models.desk.cycle]
probation_s = 1.0
min_fresh_rows = 5
[models.desk.policy]
kind = "feedback_count"
at_least = 5000
limits = {{ cooldown_s = 1.0, min_feedback = 5 }}
"""
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> E2eWorkspace:
    """Version 1 is made of four replies with thirty questions each; nothing serves yet."""
    folder = tmp_path_factory.mktemp("desk")
    made = E2eWorkspace.written(folder, _TOML, encoder=tiny_encoder)
    with (folder / "replies.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("question", "reply", "intent", "id"))
        for text, intent in requests_about(list(INTENTS), 120, seed=1):
            rows.writerow((text, f"Dear {{name}}, about your {intent} we write to you.", intent, intent))
    files = ("--task", "replies", "--data", str(folder / "replies.csv"))
    report = made.here("init", "desk", *files)
    assert (report["version"], report["replies"], report["questions"]) == (1, 4, 120)
    assert report["held_out"]["warm_pairs"] == 120
    assert report["held_out"]["warm_recall_1"] > 0.8
    return made


@pytest.fixture(scope="module")
def served(desk: E2eWorkspace) -> Iterator[PerennialClient]:
    with desk.serving(), PerennialClient(f"127.0.0.1:{desk.grpc}", "desk", task="replies") as client:
        yield client


def one(client: PerennialClient, text: str, **more: Any) -> SuggestedReplies:
    (received,) = client.predict([Message(text=text, **more)])
    return received


def http(desk: E2eWorkspace, method: str, path: str, body: dict[str, Any] | None = None, status: int = 200) -> Any:
    url = f"http://127.0.0.1:{desk.api}/v1/{path}"
    answer = httpx.request(method, url, json=body, headers={"X-Perennial-Request": "1"}, timeout=20)
    assert answer.status_code == status, answer.text
    return answer.json()


def judged(desk: E2eWorkspace, verdicts: Sequence[dict[str, Any]], status: int = 200) -> Any:
    return http(desk, "POST", "verdicts", {"model": "desk", "verdicts": list(verdicts)}, status)


def rows(desk: E2eWorkspace) -> int:
    """How many rows with a label are kept."""
    labels = http(desk, "GET", "models/desk")["labels"]
    return int(labels["training"] + labels["holdout"])


def test_a_message_gets_its_intent_a_reply_and_what_to_do(desk: E2eWorkspace, served: PerennialClient) -> None:
    for text, intent in requests_about(list(INTENTS), 8, seed=2):
        received = one(served, text, customer="ann", values={"name": "Ann"})
        assert (received.label, received.reply_ids[0]) == (intent, intent)
        assert received.replies[0] == f"Dear Ann, about your {intent} we write to you."
        assert received.action == "suggest", "nothing is sent before a precision is stated"
    plain = one(served, "my lost card pin", turns=(Turn(text="hello", intent="loan"),))
    assert plain.replies[0].startswith("Dear {name}, about your card"), "no value was given"
    (printed,) = desk.here("predict", "my lost card pin", "--customer", "ann", "--after", "loan", *DESK)
    assert (printed["label"], printed["reply_ids"][0], printed["action"]) == ("card", "card", "suggest")


def test_a_spoken_message_gets_the_same(desk: E2eWorkspace, served: PerennialClient, tmp_path: Path) -> None:
    sent = spoken("please help, my card is lost", tmp_path)
    url, headers = f"http://127.0.0.1:{desk.api}/v1/models/desk/speech", {"X-Perennial-Request": "1"}
    answer = httpx.post(url, params={"key": "ann"}, content=sent, headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    written = one(served, told["transcript"], customer="ann")
    assert "card" in told["transcript"].lower()
    assert told["answer"]["label"] == written.label == "card"
    assert told["answer"]["replies"] == list(written.replies)
    assert told["answer"]["replies"][0].startswith("Dear {name}, about your card"), "a recording has no values"


def test_a_reply_that_a_command_adds_is_in_the_very_next_answer(desk: E2eWorkspace, served: PerennialClient) -> None:
    asked = "is the meteor insured"
    assert "meteor" not in one(served, asked).reply_ids
    add = ("reply", "add", "A meteor is insured.", "--id", "meteor", "--intent", "loan", "--question", asked)
    assert desk.here(*add, *DESK, "--dry-run") == {"replies": 1, "questions": 1}
    assert "meteor" not in one(served, asked).reply_ids
    assert desk.here(*add, *DESK) == {"replies": 1, "questions": 1}
    assert one(served, asked).replies[0] == "A meteor is insured."
    changed = desk.here("reply", "change", "meteor", "--text", "Since May a meteor is insured.", *DESK)
    assert (changed["version"], changed["questions"]) == (2, 1)
    assert one(served, asked).replies[0] == "Since May a meteor is insured."
    other = "my old plastic chip"
    assert one(served, other).reply_ids[0] == "card"
    assert desk.here("reply", "approve", "meteor", "--question", other, *DESK)["questions"] == 2
    assert one(served, other).reply_ids[0] == "meteor"
    assert desk.here("reply", "withdraw", "meteor", *DESK)["state"] == "withdrawn"
    assert "meteor" not in one(served, asked).reply_ids
    listed = desk.here("reply", "list", "--state", "withdrawn", *DESK, "--json")
    assert [row["id"] for row in listed] == ["meteor"]


def test_the_same_over_http(desk: E2eWorkspace, served: PerennialClient) -> None:
    asked, replies = "where is the lounge", "models/desk/replies"
    body = {"reply": "The lounge is upstairs.", "intent": "trip", "id": "lounge", "question": asked}
    assert http(desk, "POST", replies, body) == {"replies": 1, "questions": 1}
    assert one(served, asked).replies[0] == "The lounge is upstairs."
    assert http(desk, "PATCH", f"{replies}/lounge", {"reply": "The lounge is closed."})["version"] == 2
    assert one(served, asked).replies[0] == "The lounge is closed."
    assert http(desk, "DELETE", f"{replies}/lounge")["state"] == "withdrawn"
    assert "lounge" not in one(served, asked).reply_ids
    assert http(desk, "POST", f"{replies}/lounge/approve")["state"] == "approved"
    other = "why was the mortgage interest new"
    assert one(served, other).reply_ids[0] == "loan"
    assert http(desk, "POST", f"{replies}/lounge/approve?question={other}")["questions"] == 2
    assert one(served, other).reply_ids[0] == "lounge"
    assert {row["id"] for row in http(desk, "GET", f"{replies}?state=approved&intent=trip")} == {"trip", "lounge"}
    assert http(desk, "DELETE", f"{replies}/nothing", status=404)["error"] == "NotFound"
    assert "intent" in http(desk, "POST", replies, {"reply": "Of no intent."}, 422)["detail"]


def test_the_clients_own_distribution_replies_and_tells_what_became_of_it(
    desk: E2eWorkspace, served: PerennialClient
) -> None:
    places = client.Places(grpc=f"127.0.0.1:{desk.grpc}", api=f"http://127.0.0.1:{desk.api}")
    earlier = (client.Turn(text="hello", intent="loan"),)
    asked = client.Message(text="my lost card pin", customer="client", turns=earlier, values={"name": "Jo"})
    with client.Client("desk", places) as desk_client:
        suggested = desk_client.reply(asked, further=True)
        same = one(
            served, asked.text, customer="client", turns=(Turn(text="hello", intent="loan"),), values=asked.values
        )
        assert (suggested.label, suggested.replies, suggested.action) == (same.label, same.replies, same.action)
        assert suggested.replies[0].startswith("Dear Jo, about your card")
        assert suggested.reasons is not None
        assert suggested.scores is not None
        verdict = client.Verdict(prediction_id=suggested.prediction_id, verdict="handed_over")
        first = desk_client.verdicts([verdict])
        assert desk_client.predict("my lost card pin").label == "card", "a message is a text, too"
    assert first.new + first.unchanged in {0, 1}


def test_verdicts_count_at_once_and_open_and_close_sending(desk: E2eWorkspace, served: PerennialClient) -> None:
    asked = "are unicorns welcome aboard"
    wrong = one(served, asked, customer="kim")
    told = {"prediction_id": wrong.prediction_id, "verdict": "own", "text": "Unicorns fly free.", "intent": "trip"}
    bad = {"prediction_id": wrong.prediction_id, "verdict": "liked"}
    refused = judged(desk, [told, bad], 422)
    assert ([row["row"] for row in refused["rows"]], "1 are kept" in refused["detail"]) == ([1], True)
    (proposed,) = http(desk, "GET", "models/desk/replies?state=proposed")
    assert (proposed["text"], proposed["intent"]) == ("Unicorns fly free.", "trip")
    assert proposed["id"] not in one(served, asked).reply_ids, "nobody has approved it"
    assert http(desk, "POST", f"models/desk/replies/{proposed['id']}/approve")["state"] == "approved"
    right = one(served, asked, customer="kim")
    assert (right.reply_ids[0], right.reply_scores[0] > 0.9) == (proposed["id"], True)
    rule = desk.here("reply", "sending", "--precision", "0.4", "--sure", "0.5", *DESK)
    assert (rule["on"], rule["rule"]["precision"]) == (False, 0.4)
    answers = [one(served, asked) for _ in range(6)]
    assert {answer.action for answer in answers} == {"suggest"}
    judged(desk, [{"prediction_id": each.prediction_id, "verdict": "accepted"} for each in answers])
    assert http(desk, "GET", "models/desk/sending")["on"]
    sent = one(served, asked)
    assert sent.action in ({"send"} if sent.known is not False else {"suggest"})
    assert one(served, "my lost card pin please").action == "suggest", "{name} has no value"
    full = one(served, "my lost card pin please", values={"name": "Jo"})
    assert (full.action, full.known in {True, None}) == ("send", True)
    file = desk.folder / "verdicts.csv"
    lines = [f"{one(served, asked).prediction_id},rejected" for _ in range(6)]
    file.write_text("\n".join(["prediction_id,verdict", *lines]) + "\n")
    desk.here("feedback", "import", str(file), *DESK)
    assert not http(desk, "GET", "models/desk/sending")["on"]
    assert one(served, "my lost card pin please", values={"name": "Jo"}).action == "suggest"


def test_a_retraining_embeds_the_library_of_now_swaps_under_requests_and_rolls_back(
    desk: E2eWorkspace, served: PerennialClient
) -> None:
    before, texts = rows(desk), requests_about(list(INTENTS), 60, seed=4)
    answers = served.predict([Message(text=text, customer="kim") for text, _ in texts])
    pairs = zip(answers, texts, strict=True)
    judged(
        desk,
        [
            {"prediction_id": answer.prediction_id, "verdict": "accepted", "reply": intent}
            for answer, (_, intent) in pairs
        ],
    )
    wait_for(lambda: rows(desk) >= before + len(texts), 30, "the labels to be joined")
    desk.here("retrain", *DESK)

    def swapped() -> bool:
        received = one(served, texts[0][0])
        assert received.reply_ids[0] == texts[0][1]
        return received.version == 2

    wait_for(swapped, 120, "version 2 to answer")
    made = Matcher.read(desk.folder / "model_repository" / "desk_engine" / "2")
    for text in ("where is the lounge", "The lounge is closed.", texts[0][0]):
        assert key_of(text) in made.vectors, text
    assert key_of("Since May a meteor is insured.") not in made.vectors, "it was withdrawn"
    assert one(served, "where is the lounge").reply_ids[0] == "lounge"
    assert desk.here("model", "rollback", *DESK, "--reason", "test")["champion"] == 1
    wait_for(lambda: one(served, texts[0][0]).version == 1, 20, "version 1 to answer")
    assert one(served, "where is the lounge").reply_ids[0] == "lounge", "the library is of no version"


def test_an_erased_customer_leaves_the_library(desk: E2eWorkspace, served: PerennialClient) -> None:
    wait_for(lambda: http(desk, "GET", "models/desk")["cycle"] is None, 60, "the end of the cycle")
    plan = desk.here("erase", "--key", "kim", *DESK, "--dry-run")["models"]["desk"]
    assert plan["remembered"] >= 120, "sixty questions and as many verdicts"
    receipt = desk.here("erase", "--key", "kim", *DESK)
    assert (receipt["complete"], receipt["search"]["left"]) == (True, [])
    with ReplyStore(desk.folder / "state" / "replies" / "desk.db") as store:
        assert (store.carried_by("kim"), store.texts_of("kim")) == (0, frozenset())
    assert {"card", "loan", "trip", "lounge"} <= {row["id"] for row in http(desk, "GET", "models/desk/replies")}
    assert one(served, "where is the lounge").reply_ids[0] == "lounge"
