"""Headlines as their users meet them: a feed grows, an event alarms, an analyst judges, a new version answers."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from perennial.client import Client, Places
from perennial.client import Headline as ClientHeadline
from perennial.client import Symbol as ClientSymbol
from perennial.continual.tasks.opinion import Headline, Symbol
from perennial.ops.serving.client import PerennialClient
from perennial.ops.store.headlines import Headlines
from tests.e2e.receiver import SECRET, Receiver
from tests.e2e.workspace import SERVED_TOML, E2eWorkspace, wait_for, write_csv

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
TOLD = {
    "positive": ("wins", "succeeds", "delights", "thrives"),
    "negative": ("fails", "disappoints", "flounders", "sinks"),
    "neutral": ("meets", "plans", "names", "considers"),
}
TOPICS = ("harvest", "football", "weather", "museum", "railway", "election", "theatre", "airport", "hospital", "school")
SOURCES = ("north wire", "south wire", "east wire")
STORY = (
    "Zentor depositors flee, regulator fails them and confidence sinks",
    "regulator disappoints: depositors flee Zentor, a rescue fails",
    "rescue of Zentor flounders, depositors flee; trust sinks and fails",
    "trust in Zentor sinks, depositors flee while talks fails",
)
BACKGROUND = 260
ZENTOR = (Symbol(name="ZNT", names=("Zentor",)),)
_TOML = (
    SERVED_TOML
    + """events_s = 0.5
notify_s = 0.3
report_s = 600.0
[models.news]
task = "opinion"
[models.news.learning]
encoder = "{encoder}"
max_length = 32
insist_on_encoder = true
replay_rows = 60
[models.news.learning.params]
features = 256
lexical = 256
[models.news.cycle]
probation_s = 1.0
min_fresh_rows = 5
[models.news.events]
sources = 3
joins = 1.0
rules = [{{ name = "bad for ZNT", sentiment = "negative", at_least = 3, within_minutes = 60, symbols = ["ZNT"] }}]
[models.news.feeds.wire]
file = "{feed}"
every_s = 1.0
[models.news.policy]
kind = "label_count"
at_least = 100000
[notify.webhook.test]
url = "{receiver}"
secret = "{secret}"
"""
)


def told(count: int, seed: int) -> list[tuple[str, str]]:
    """Headlines about nothing in particular, each of words of its own, with their sentiments."""
    rng, sentiments = np.random.default_rng(seed), list(TOLD)
    rows = []
    for number in range(count):
        own = " ".join("".join(rng.choice(list("abcdefghij"), size=7)) for _ in range(3))
        label = sentiments[number % len(sentiments)]
        rows.append((f"{rng.choice(TOPICS)} {own} {' '.join(rng.choice(TOLD[label], 2, replace=False))}", label))
    return rows


class Newsroom:
    """The workspace, its feed and who hears its notices."""

    def __init__(self, folder: Path, encoder: Path, receiver: Receiver) -> None:
        self.receiver, self.feed = receiver, folder / "wire.jsonl"
        self.workspace = E2eWorkspace.written(
            folder, _TOML, encoder=encoder, feed=self.feed, receiver=receiver.url, secret=SECRET
        )
        self.feed.touch()

    def cli(self, *arguments: str, check: int | None = 0) -> Any:
        """In this process, beside the one that serves, where it is to succeed."""
        if check != 0:
            return self.workspace.cli(*arguments, "--model", "news", check=check)
        return self.workspace.here(*arguments, "--model", "news")

    def publish(self, rows: list[dict[str, Any]]) -> None:
        with self.feed.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    @contextmanager
    def headlines(self) -> Iterator[Headlines]:
        with closing(Headlines(self.workspace.folder / "state" / "headlines" / "news.db")) as headlines:
            yield headlines

    def kept(self, key: str = "feed:wire") -> int:
        with self.headlines() as headlines:
            return headlines.held(key)

    def http(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        url = f"http://127.0.0.1:{self.workspace.api}/v1/{path}"
        return httpx.get(url, timeout=20) if body is None else httpx.post(url, json=body, timeout=20)

    def champion(self) -> int:
        return int(self.http("models/news").json()["champion"])


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def newsroom(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, receiver: Receiver) -> Iterator[Newsroom]:
    """A first version answers, and a feed gave headlines of the last two days."""
    room = Newsroom(tmp_path_factory.mktemp("newsroom"), tiny_encoder, receiver)
    folder = room.workspace.folder
    write_csv(folder / "headlines.csv", told(300, seed=1))
    assert room.workspace.here("init", "news", "--data", str(folder / "headlines.csv"))["version"] == 1
    began = datetime.now(UTC) - timedelta(days=2)
    room.publish(
        [
            {
                "text": text,
                "source": SOURCES[row % 3],
                "published_at": (began + row * timedelta(minutes=11)).isoformat(),
            }
            for row, (text, _) in enumerate(told(BACKGROUND, seed=2))
        ]
    )
    with room.workspace.serving():
        wait_for(lambda: room.kept() == BACKGROUND, 60, "the feed to be answered")
        yield room


@pytest.fixture(scope="module")
def served(newsroom: Newsroom) -> Iterator[PerennialClient]:
    with PerennialClient(f"127.0.0.1:{newsroom.workspace.grpc}", "news", task="opinion") as client:
        yield client


def test_a_story_of_a_feed_becomes_an_alert(newsroom: Newsroom, served: PerennialClient) -> None:
    assert newsroom.cli("alerts", "list", "--json") == newsroom.cli("alerts", "events", "--json") == []
    few = newsroom.cli("alerts", "calibrate", check=2)
    assert f"news has {BACKGROUND} headlines; at least 1000 are needed" in few
    with newsroom.feed.open("a", encoding="utf-8") as file:
        file.write('{"text": " ", "source": "nobody"}\nno headline\n')
    newsroom.publish([{"text": text, "source": source} for text, source in zip(STORY[:3], SOURCES, strict=True)])
    wait_for(lambda: newsroom.http("models/news/alerts").json() != [], 20, "the alert")
    (alert,) = newsroom.http("models/news/alerts?state=open").json()
    assert (alert["rule"], alert["state"], alert["number"]) == ("risk", "open", 1)
    assert {"depositors", "flee", "zentor"} <= set(alert["facts"]["words"])
    assert [(one["text"], one["source"]) for one in alert["evidence"]] == list(zip(STORY, SOURCES, strict=False))
    assert {one["sentiment"] for one in alert["evidence"]} == {"negative"}
    (event,) = newsroom.http("models/news/events").json()
    assert (event["event"], event["phase"], event["headlines"]) == (alert["subject"], "new", 3)
    assert event["sources"] == sorted(SOURCES)
    assert newsroom.http("models/news/alerts/1").json() == alert
    (listed,) = newsroom.cli("alerts", "list", "--json")
    assert listed == newsroom.cli("alerts", "show", "1", "--json")
    assert (listed["hint"], listed["facts"]) == (alert["hint"], alert["facts"])
    assert [one["text"] for one in listed["evidence"]] == list(STORY[:3])
    (told_of,) = newsroom.cli("alerts", "events", "--json")
    assert (told_of["event"], told_of["words"]) == (event["event"], event["words"])
    shown = newsroom.cli("alerts", "show", "1", check=None)
    assert shown.returncode == 0
    assert alert["hint"] in shown.stdout + shown.stderr
    assert STORY[0] in shown.stdout + shown.stderr


def test_an_answer_tells_the_event_its_alert_and_what_is_said_of_each_symbol(
    newsroom: Newsroom, served: PerennialClient
) -> None:
    (alert,) = newsroom.http("models/news/alerts").json()
    (answer,) = served.predict([Headline(text=STORY[3], source="west wire", symbols=ZENTOR)], ["desk"], scores=True)
    assert (answer.label, answer.event, answer.phase, answer.alert) == ("negative", alert["subject"], "growing", "1")
    assert [(one.symbol, one.label) for one in answer.opinions] == [("ZNT", "negative")]
    (copy,) = served.predict([Headline(text=f"{STORY[3]}!", source="a copier")], ["desk"])
    assert (copy.event, copy.alert) == (alert["subject"], "1")
    with Client("news", Places(grpc=f"127.0.0.1:{newsroom.workspace.grpc}")) as client:
        symbols = (ClientSymbol(name="ZNT", names=("Zentor",)),)
        said = client.opinion(ClientHeadline(text=STORY[3], symbols=symbols), further=True)
    assert (said.label, said.opinions) == (answer.label, answer.opinions)
    (other,) = served.predict(["museum wins"])
    assert (other.label, other.event, other.phase, other.alert) == ("positive", "", "", "")
    (printed,) = newsroom.cli("predict", STORY[3])
    assert (printed["label"], printed["event"], printed["alert"]) == ("negative", alert["subject"], "1")
    (event,) = newsroom.http("models/news/events").json()
    assert (event["phase"], event["headlines"], event["copies"]) == ("growing", 7, 3)
    assert event["sources"] == sorted([*SOURCES, "west wire"])


def test_people_are_told_once_and_a_rule_alarms_too(newsroom: Newsroom, served: PerennialClient) -> None:
    wait_for(lambda: newsroom.receiver.messages_of("headlines") != [], 20, "the notice")
    (notice,) = newsroom.receiver.messages_of("headlines")
    assert (notice["episode"], notice["severity"]) == ("1", "alert")
    assert all(text in notice["body"] for text in STORY[:3])
    assert "perennial alerts confirm|dismiss 1" in notice["body"]
    assert newsroom.receiver.forged == 0
    bad = [text for text, label in told(9, seed=9) if label == "negative"]  # as alike as any headlines are
    answers = [
        served.predict([Headline(text=text, source=source, symbols=ZENTOR)], ["desk"])[0]
        for source, text in zip(SOURCES, bad, strict=True)
    ]
    (by_rule, _) = newsroom.http("models/news/alerts").json()
    assert (by_rule["number"], by_rule["rule"], by_rule["subject"]) == (2, "bad for ZNT", "ZNT")
    assert by_rule["risk"] is None
    assert [one.alert for one in answers] == ["", "2", ""], "the story was the first of three"
    wait_for(lambda: len(newsroom.receiver.messages_of("headlines")) == 2, 20, "the notice of the rule")


def test_analysts_judge_and_the_risk_learns_from_it(newsroom: Newsroom) -> None:
    path = "models/news/alerts/1"
    assert newsroom.cli("alerts", "confirm", "1", "--dry-run")["state"] == "confirmed"
    assert newsroom.http(path).json()["state"] == "open"
    with newsroom.headlines() as headlines:
        before = headlines.plan().risk
    confirmed = newsroom.cli("alerts", "confirm", "1", "--note", "a run on the bank")
    assert (confirmed["state"], confirmed["note"]) == ("confirmed", "a run on the bank")
    assert [one["number"] for one in newsroom.http("models/news/alerts?state=confirmed").json()] == [1]
    with newsroom.headlines() as headlines:
        learnt = headlines.plan().risk
    assert learnt.bias > before.bias
    assert newsroom.http("models/news/alerts/2", {"verdict": "dismissed"}).json()["state"] == "dismissed"
    assert newsroom.cli("alerts", "list", "--state", "open", "--json") == []
    assert newsroom.cli("alerts", "reopen", "2")["state"] == "open"
    assert newsroom.cli("alerts", "dismiss", "2")["state"] == "dismissed"
    assert newsroom.http(path, {"verdict": "open"}).json()["judged_by"] is None
    with newsroom.headlines() as headlines:
        assert headlines.plan().risk == before
    assert newsroom.http(path, {"verdict": "confirmed"}).json()["state"] == "confirmed"
    acts = [row["action"] for row in newsroom.cli("audit", "show", "--json") if str(row["action"]).startswith("alert.")]
    assert sorted(acts) == sorted(
        ["alert.confirmed", "alert.dismissed", "alert.open", "alert.dismissed", "alert.open", "alert.confirmed"]
    )


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("models/news/alerts/99", None, 404),
        ("models/news/alerts/99", {"verdict": "confirmed"}, 404),
        ("models/news/alerts/0", None, 422),
        ("models/news/alerts/1", {"verdict": "perhaps"}, 422),
        ("models/news/alerts/1", {"verdict": "open", "more": 1}, 422),
        ("models/news/alerts?state=perhaps", None, 422),
        ("models/news/events?limit=0", None, 422),
        ("models/nobody/alerts", None, 404),
        ("models/nobody/events", None, 404),
    ],
)
def test_a_wrong_question_is_a_callers_mistake(
    newsroom: Newsroom, path: str, body: dict[str, Any] | None, status: int
) -> None:
    answer = newsroom.http(path, body)
    assert answer.status_code == status, answer.text


def test_a_command_about_no_alert_says_so(newsroom: Newsroom) -> None:
    assert "alert 99 is not there" in newsroom.cli("alerts", "show", "99", check=1)
    assert "an alert is never 'perhaps'" in newsroom.cli("alerts", "list", "--state", "perhaps", check=2)


def test_labels_make_a_new_version_and_events_outlive_the_swap(newsroom: Newsroom, served: PerennialClient) -> None:
    rows = [(text.replace("wins", "prevails"), label) for text, label in told(60, seed=5)]
    answers = served.predict([Headline(text=text, source="desk") for text, _ in rows], ["desk"] * len(rows))
    labels = [
        {"prediction_id": one.prediction_id, "label": label} for one, (_, label) in zip(answers, rows, strict=True)
    ]
    assert newsroom.http("feedback", {"model": "news", "labels": labels}).json()["new"] == 60
    (before, *_) = newsroom.http("models/news/events").json()
    newsroom.cli("retrain")
    wait_for(lambda: newsroom.champion() == 2, 120, "version 2 to answer")
    (after,) = served.predict([Headline(text=f"again {STORY[0]}", source="far wire")])
    assert (after.version, after.event, after.alert) == (2, before["event"], "1")
    assert newsroom.cli("model", "rollback", "--reason", "test")["champion"] == 1
    wait_for(lambda: served.predict(["museum wins"])[0].version == 1, 10, "version 1 to answer")
    assert served.predict([f"once more {STORY[0]}"])[0].event == before["event"]


def test_an_erased_desk_leaves_no_headline(newsroom: Newsroom, served: PerennialClient) -> None:
    wait_for(lambda: newsroom.http("models/news").json()["cycle"] is None, 60, "the end of a cycle")
    held = newsroom.kept("desk")
    assert held == 2 + 3 + 60
    assert newsroom.cli("erase", "--key", "desk", "--dry-run")["models"]["news"]["remembered"] == held
    receipt = newsroom.cli("erase", "--key", "desk")
    assert (receipt["complete"], receipt["search"]["left"]) == (True, [])
    assert newsroom.kept("desk") == 0
    assert newsroom.kept() == BACKGROUND + 3
    rule = newsroom.http("models/news/alerts/2").json()
    assert "" in {one["text"] for one in rule["evidence"]}
    shown = newsroom.cli("alerts", "show", "2", check=None)
    assert shown.returncode == 0
    assert "erased" in shown.stdout + shown.stderr
    assert served.predict(["museum wins"])[0].label == "positive"
    newsroom.publish([{"text": "museum thrives", "source": "north wire"}])
    wait_for(lambda: newsroom.kept() == BACKGROUND + 4, 20, "the feed to go on")
