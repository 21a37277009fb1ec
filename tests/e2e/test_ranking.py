"""A recommender as its users meet it: events in, lists out, a click that counts at once, a new version, and an end."""

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from perennial.client import Client, Kept, Places, RowsRefused, Signal
from perennial.continual.errors import ConfigurationError, NotFound
from perennial.continual.learning.learners import sums_hold
from perennial.continual.learning.ranking import TrainedRanking, user_key
from perennial.exporters.ranking.asked import Asked
from perennial.ops.app.wiring import open_parts
from perennial.ops.serving.client import PerennialClient
from perennial.ops.store.user_events import UserEvents
from tests.e2e.workspace import SERVED_TOML, E2eWorkspace, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
TASTES = ("garden", "engine", "harbour")
ITEMS = [f"{taste} book {number}" for taste in TASTES for number in range(12)]
_TOML = (
    SERVED_TOML
    + """[traffic]
rotate_s = 1.0
[models.films]
task = "ranking"
[models.films.learning.params]
ridge = 5.0
[models.films.cycle]
probation_s = 1.0
min_fresh_rows = 5
[models.films.policy]
kind = "label_count"
at_least = 200
limits = {{ cooldown_s = 1.0, min_labels = 40 }}
"""
)


def rows_of(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def first_events(users: int = 60) -> list[tuple[str, str, str]]:
    """Users like eight books of the first two tastes, one after the other, some days ago."""
    rng, begin = np.random.default_rng(3), datetime.now(UTC) - timedelta(days=9)
    found = []
    for user in range(users):
        for step, number in enumerate(rng.permutation(12)[:8]):
            at = begin + timedelta(hours=10 * step, minutes=int(rng.integers(0, 500)))
            found.append((f"reader-{user:03}", f"{TASTES[user % 2]} book {number}", at.isoformat()))
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> E2eWorkspace:
    """Version 1 is trained of events and published; nothing serves yet."""
    folder = tmp_path_factory.mktemp("shop")
    made = E2eWorkspace.written(folder, _TOML)
    items = rows_of(
        folder / "items.csv", ("item", "title", "genres"), [(item, item, item.split()[0]) for item in ITEMS]
    )
    events = rows_of(folder / "events.csv", ("user", "item", "at"), first_events())
    files = ("--task", "ranking", "--data", str(events), "--items", str(items))
    plan = made.here("init", "films", *files, "--dry-run")
    assert (plan["events"], plan["users"], plan["items"], plan["items_not_in_catalogue"]) == (480, 60, 36, 0)
    assert plan["then"] == "train and publish version 1"
    (report,) = made.here("init", "films", "--recipe", "recommendation", "--data", str(folder))["models"]
    assert report["files"] == {"data": str(events), "items": str(items)}
    assert (report["version"], report["events"]) == (1, 480)
    assert report["held_out"]["holdout_ndcg_10"] > report["held_out"]["holdout_popular_ndcg_10"]
    return made


@pytest.fixture(scope="module")
def served(shop: E2eWorkspace) -> Iterator[PerennialClient]:
    with shop.serving(), PerennialClient(f"127.0.0.1:{shop.grpc}", "films", task="ranking") as client:
        yield client


def signalled(shop: E2eWorkspace, signals: Sequence[dict[str, Any]], status: int = 200) -> dict[str, Any]:
    url = f"http://127.0.0.1:{shop.api}/v1/signals"
    answer = httpx.post(url, json={"model": "films", "signals": list(signals)}, timeout=20)
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    return document


def status(shop: E2eWorkspace) -> dict[str, Any]:
    answer = httpx.get(f"http://127.0.0.1:{shop.api}/v1/models/films", timeout=20)
    answer.raise_for_status()
    document: dict[str, Any] = answer.json()
    return document


def champion(shop: E2eWorkspace) -> int:
    return int(status(shop)["champion"])


def test_a_click_counts_in_the_very_next_list(shop: E2eWorkspace, served: PerennialClient) -> None:
    (before,) = served.predict([Asked(user="reader-000", count=5)])
    assert before.items[0].startswith("garden"), "what is left of the taste comes first"
    (printed,) = shop.here("predict", "--user", "reader-000", "--count", "5", "--model", "films")
    assert (tuple(printed["items"]), printed["version"]) == (before.items, before.version)
    (stranger,) = served.predict([Asked(user="nobody-yet", count=5)])
    assert len(stranger.items) == 5
    click = {"item": before.items[0], "user": "reader-000", "prediction_id": before.prediction_id}
    assert signalled(shop, [click])["new"] == 1
    (after,) = served.predict([Asked(user="reader-000", count=5)])
    assert before.items[0] not in after.items
    liked = {"item": "harbour book 1", "user": "nobody-yet", "signal": "rating", "value": 5}
    assert signalled(shop, [liked])["new"] == 1
    (known,) = served.predict([Asked(user="nobody-yet", count=5)])
    assert known.items != stranger.items
    assert signalled(shop, [liked | {"signal": "skip", "value": None}])["new"] in {0, 1}


def test_the_clients_own_distribution_ranks_and_tells_what_users_did(
    shop: E2eWorkspace, served: PerennialClient
) -> None:
    places = Places(grpc=f"127.0.0.1:{shop.grpc}", api=f"http://127.0.0.1:{shop.api}")
    with Client("films", places) as client:
        ranked = client.rank("reader-001", count=4, withheld=["engine book 1"])
        (same,) = served.predict([Asked(user="reader-001", count=4, withheld=("engine book 1",))])
        assert ranked.items == same.items
        rated = Signal(item=ranked.items[0], signal="rating", value=5.0, user="a-new-reader", at=datetime.now(UTC))
        assert client.signals([rated]) == Kept(new=1)
        assert client.signals([rated]) == Kept(unchanged=1), "sent again it changes nothing"
        with pytest.raises(RowsRefused, match="1 of 2 signals are refused") as refused:
            client.signals([Signal(item="i", user="u", signal="stare"), rated])
        assert [row["row"] for row in refused.value.rows] == [0]

        def is_told_alike() -> bool:  # the watch may look between the two questions
            known, shown = client.status(), status(shop)
            return (known.model, known.champion, known.document) == ("films", shown["champion"], shown)

        wait_for(is_told_alike, 20, "the client and the API to tell the same")
        assert client.health().healthy


def test_a_signal_that_cannot_be_kept_is_named_and_the_others_are_kept(
    shop: E2eWorkspace, served: PerennialClient
) -> None:
    good = {"item": "engine book 1", "user": "reader-900"}
    wrong = [{"item": "engine book 1"}, {**good, "signal": "bought"}, {**good, "value": "much"}, {**good, "item": " "}]
    refused = signalled(shop, [good, *wrong], status=422)
    assert [row["row"] for row in refused["rows"]] == [1, 2, 3, 4]
    assert "1 are kept" in refused["detail"]
    url = f"http://127.0.0.1:{shop.api}/v1/feedback"
    labels = {"model": "films", "labels": [{"prediction_id": "0" * 32, "label": "x"}]}
    refused = httpx.post(url, json=labels, timeout=20)
    assert (refused.status_code, "it takes signals (POST /v1/signals)" in refused.text) == (422, True)
    assert served.predict([Asked(user="reader-900")])[0].items


def test_the_loop_learns_a_new_taste_swaps_and_rolls_back(shop: E2eWorkspace, served: PerennialClient) -> None:
    """Readers turn to a third taste, by their clicks on what was shown: version 1 knows it by its texts alone."""
    assert champion(shop) == 1
    rng, failed = np.random.default_rng(5), 0
    for turn in range(8):
        for user in range(40):
            (answer,) = served.predict([Asked(user=f"reader-{user:03}")])
            failed += len(answer.items) == 0
            clicked = f"harbour book {(user + turn * 5) % 12}"
            click = {"item": clicked, "user": f"reader-{user:03}", "prediction_id": answer.prediction_id}
            skipped = {**click, "item": str(rng.choice(answer.items)), "signal": "skip"}
            signalled(shop, [click, skipped])
    wait_for(lambda: champion(shop) == 2, 150, "version 2 to answer")
    assert failed == 0
    trained = TrainedRanking.load(shop.folder / "model_repository" / "films_engine" / "2")
    assert trained.card.parent_version == 1
    assert trained.card.data["users"] >= 60
    support = dict(zip(trained.structure.names, trained.structure.support, strict=True))
    assert support["harbour book 1"] > 0, "what nobody had liked in the first events"
    versions = shop.here("model", "list", "--model", "films", "--json")
    gate = versions[1]["metrics"]["gate"]
    assert gate["accepted"], gate["reasons"]
    rolled = shop.here("model", "rollback", "--model", "films", "--reason", "test")
    assert rolled["champion"] == 1
    wait_for(lambda: served.predict([Asked(user="reader-001")])[0].version == 1, 10, "version 1 to answer")
    assert shop.here("model", "promote", "2", "--model", "films")["champion"] == 2


def test_a_report_tells_of_lists_and_of_what_the_log_says(shop: E2eWorkspace, served: PerennialClient) -> None:
    del served
    page = shop.folder / "report.html"
    report = shop.here("model", "report", "--model", "films", "--json", "--html", str(page))
    assert (report["model"], report["version"], report["items"]) == ("films", champion(shop), 36)
    proof, log = report["proof"], report["log"]
    assert proof["rows"] > 40
    assert 0.0 < proof["ndcg_10"]["low"] < proof["ndcg_10"]["mean"] < proof["ndcg_10"]["high"] <= 1.0
    assert 0.5 < report["exposure"]["coverage"] <= 1.0
    assert log["rows"] >= 320
    assert (log["lent"], log["off_policy"]) == (0, None), "no place was lent: the log tells nothing of other choices"
    assert 0.0 < log["agreed"] < 1.0
    assert "on {:,} held-out rows".format(proof["rows"]) in page.read_text()
    older = shop.here("model", "report", "1", "--model", "films", "--json")
    assert older["cold_items"] == 12
    assert older["proof"]["cold_rows"] > 0


def test_an_import_of_signals_is_an_entrance_too(shop: E2eWorkspace, served: PerennialClient) -> None:
    file = rows_of(
        shop.folder / "signals.csv", ("user", "item", "signal", "value"), [("reader-901", ITEMS[0], "dwell", "90")]
    )
    assert shop.here("feedback", "import", str(file), "--model", "films", "--dry-run")["kind"] == "signals of users"
    assert shop.here("feedback", "import", str(file), "--model", "films")["new"] == 1
    (answer,) = served.predict([Asked(user="reader-901", count=30)])
    assert ITEMS[0] not in answer.items


def test_a_reader_sees_what_is_known_of_them_and_asks_for_more_or_less(
    shop: E2eWorkspace, served: PerennialClient
) -> None:
    me, films = "reader-004", ("--model", "films")
    url = f"http://127.0.0.1:{shop.api}/v1/models/films/users/{me}"
    (before,) = served.predict([Asked(user=me, count=10)])
    unwanted = before.items[0]
    assert shop.here("users", "block", me, unwanted, *films, "--dry-run")["blocked"] == []
    assert shop.here("users", "block", me, unwanted, *films)["blocked"] == [unwanted]
    profile = httpx.get(url, timeout=20).json()
    assert profile == shop.here("users", "show", me, *films, "--json") == shop.here("users", "export", me, *films)
    assert profile["blocked"] == [unwanted]
    assert {"garden", "harbour"} & {one["word"] for one in profile["words"]}
    assert profile["events"][0]["text"].startswith("garden")
    (after,) = served.predict([Asked(user=me, count=10)])
    assert unwanted not in after.items
    body = {"unblock": [unwanted], "want": [{"text": "engine", "weight": 5.0}]}
    wished = httpx.post(f"{url}/wishes", json=body, timeout=20).json()
    assert (wished["blocked"], wished["wanted"]) == ([], [{"word": "engine", "weight": 5.0}])
    (engines,) = served.predict([Asked(user=me, count=5)])
    assert all(item.startswith("engine") for item in engines.items)
    assert shop.here("users", "want", me, "engine", "--weight", "0", *films)["wanted"] == []
    refused = httpx.post(f"{url}/wishes", json={"block": ["no such book"]}, timeout=20)
    assert (refused.status_code, "the catalogue of films has no item" in refused.text) == (422, True)


def test_a_withdrawn_book_is_in_nobodys_list_and_a_new_one_waits_for_the_next_version(
    shop: E2eWorkspace, served: PerennialClient
) -> None:
    films = ("--model", "films")
    (before,) = served.predict([Asked(user="reader-005", count=30)])
    gone = before.items[3]
    assert shop.here("items", "withdraw", gone, *films, "--dry-run")["changed"] == 1
    assert shop.here("items", "withdraw", gone, *films)["changed"] == 1
    (after,) = served.predict([Asked(user="reader-005", count=30)])
    assert after.items == tuple(item for item in before.items if item != gone)
    assert shop.here("items", "withdraw", gone, "--undo", *films)["changed"] == 1
    assert served.predict([Asked(user="reader-005", count=30)])[0].items == before.items
    rule = ("rule", "no engines", "--without", "Engine", "--segment", "young")
    assert shop.here("items", *rule, "--dry-run", *films)["items"] == 12
    assert shop.here("items", "rules", "--json", *films) == []
    shop.here("items", *rule, *films)
    young, others = served.predict([Asked(user="reader-005", count=30, segment=each) for each in ("young", "old")])
    assert others.items == before.items
    assert not [item for item in young.items if item.startswith("engine")]
    assert {item for item in others.items if not item.startswith("engine")} <= set(young.items)
    assert [each["words"] for each in shop.here("items", "rules", "--json", *films)] == [["engine"]]
    with pytest.raises(ConfigurationError, match="give --without WORDS, or --remove alone"):
        shop.here("items", "rule", "no engines", *films)
    assert shop.here("items", "rule", "no engines", "--remove", *films)["items"] == 12
    with pytest.raises(NotFound, match="films has no rule 'no engines'"):
        shop.here("items", "rule", "no engines", "--remove", *films)
    more = rows_of(shop.folder / "more.csv", ("item", "text"), [("comet book 1", "comet"), (ITEMS[0], ITEMS[0])])
    plan = shop.here("items", "add", str(more), *films, "--dry-run")
    assert plan == {"new": 1, "changed": 1, "same": 0, "items": 37}


def test_an_erased_reader_is_nobody(shop: E2eWorkspace, served: PerennialClient) -> None:
    me = "reader-002"
    wait_for(lambda: status(shop)["cycle"] is None, 60, "the end of a cycle")
    config = ("--key", me, "--model", "films")
    plan = shop.here("erase", *config, "--dry-run")["models"]["films"]
    assert plan["remembered"] > 8
    assert plan["examples"] > 8
    assert 2 in plan["in_sums"]
    receipt = shop.here("erase", *config)
    assert (receipt["complete"], receipt["search"]["left"]) == (True, [])
    done = receipt["models"]["films"]
    assert (done["remembered"], done["corrected"]) == (plan["remembered"], done["corrected"])
    assert done["rows_taken_back"] > 0
    parts = open_parts(shop.config)
    try:
        bundle = parts.workspace.bundle("films", done["corrected"])
        assert not sums_hold(bundle, {user_key(me)})
        assert me not in TrainedRanking.sums(bundle).users
        with UserEvents(parts.workspace.user_events("films")) as users:
            assert users.profile(me).events == ()
            assert "reader-003" in users.users()
        assert not [row for row in parts.ledger.examples("films") if row.example.input.user == me]
    finally:
        parts.close()
    wait_for(lambda: champion(shop) == done["corrected"], 30, "the corrected version to answer")
    (mine,), (nobody,) = (served.predict([Asked(user=user, count=10)]) for user in (me, "somebody-new"))
    assert mine.items == nobody.items


def test_the_catalogue_lies_in_the_workspace(shop: E2eWorkspace) -> None:
    lines = (shop.folder / "state" / "items" / "films.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ITEMS
