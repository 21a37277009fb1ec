"""Every page for every recipe, with versions and without, and in both languages; what each recipe does of its own."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from perennial.continual.events import AlertRule
from perennial.continual.learning.ranking import Event, Item, write_items
from perennial.continual.learning.replies import Question, Reply
from perennial.continual.records import Route
from perennial.ops.commands.reply_library import ReplyLibrary
from perennial.ops.ledger import VersionRow, version_card
from perennial.ops.parts import Parts
from perennial.ops.store.headlines import Headlines
from perennial.ops.store.state import REMOVED, Removal
from perennial.ops.store.user_events import UserEvents
from tests.component.api_server import RunningApi, answering, form_secret
from tests.unit.store.test_headlines import PLAN, observed, with_story

pytestmark = [pytest.mark.component]
_TASKS = {"films": "ranking", "desk": "replies", "news": "opinion"}
_NAME = '<b>"film"</b> 电影 👩‍👩‍👧'
_OWN = {"films": "items", "desk": "replies", "news": "alerts"}
_SHARED = ("", "/rollout", "/drift", "/labels", "/data")
_OFTEN_NOTHING = ("/versions/1", "/data/rows?label=x", "/data/doubts", "/proposals", "/items", "/replies", "/alerts")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with answering(tmp_path_factory.mktemp("recipes"), further={**_TASKS, "bare": "ranking"}) as api:
        for model in _TASKS:
            _version(api.parts, model)
        _films(api.parts)
        _desk(api.parts)
        _news(api.parts)
        yield api


@pytest.fixture(params=["en", "zh"])
def client(request: pytest.FixtureRequest, site: RunningApi) -> Iterator[httpx.Client]:
    headers = {"Accept": "text/html", "Accept-Language": request.param, "Origin": site.url}
    with httpx.Client(base_url=site.url, headers=headers, timeout=20, verify=False, follow_redirects=True) as opened:
        yield opened


def _version(parts: Parts, model: str) -> None:
    figures = {"training": {"ndcg@10": 0.31, "rows": 40}, "gate": {"accepted": True}, "engine": "onnxruntime fp32"}
    parts.ledger.add_version(VersionRow(model=model, version=1, card=version_card(labels=()), metrics=figures))
    first = Route(model=model, epoch=1, champion=1, previous=None, resident=(1,))
    parts.ledger.set_route(first, expected_epoch=0, actor="test", reason="a start")


def _films(parts: Parts) -> None:
    now, path = datetime.now(UTC), parts.workspace.items("films")
    path.parent.mkdir(parents=True, exist_ok=True)
    new = Item(name="new", text="a film to come", offered_from=now + timedelta(days=1))
    write_items(path, (Item(name=_NAME, text="love <i>and</i> war 爱情", language="zh"), new))
    with UserEvents(parts.workspace.user_events("films")) as users:
        users.add([Event(user="u1", item=_NAME, at=now), Event(user="u1", item="gone", at=now, liked=0.0)])
        users.want("u1", "war", 2.0)
        users.block("u1", "new")


def _desk(parts: Parts) -> None:
    library = ReplyLibrary(parts.ledger, parts.workspace, "desk")
    replies = [Reply(id=f"r{number:03}", text=f"It costs <b>{number}</b> 元.", intent="fee") for number in range(60)]
    library.add(replies, [Question(reply="r001", text="how much?")], actor="test")


def _news(parts: Parts) -> None:
    rule = AlertRule(name="bad <i>news</i>", sentiment="negative", at_least=1, sources=1)
    hostile = observed("<b>ministers</b> 部长辞职", number=900, source="<b>wire</b>", label="negative")
    with closing(Headlines(parts.workspace.headlines("news"))) as headlines:
        headlines.configure(replace(PLAN, rules=(rule,)))
        headlines.note([*with_story(), hostile])


@pytest.mark.parametrize("model", ["intent", "bare", *_TASKS])
def test_every_page_is_shown_for_every_recipe(client: httpx.Client, model: str) -> None:
    base = f"/console/models/{model}"
    for page in (*_SHARED, *([f"/{_OWN[model]}"] if model in _OWN else [])):
        seen = client.get(base + page)
        assert seen.status_code == 200, (page, seen.text)
        assert "<main" in seen.text
    for page in _OFTEN_NOTHING:
        told = client.get(base + page)
        assert told.status_code < 500, page
        assert "<main" in told.text, page


def test_a_ranking_shows_its_items_and_a_user_and_withdraws_an_item(client: httpx.Client, site: RunningApi) -> None:
    page = "/console/models/films/items"
    seen = client.get(page, params={"user": "u1"})
    assert seen.status_code == 200
    assert "&lt;i&gt;and&lt;/i&gt; war 爱情" in seen.text
    assert '<b>"film"' not in seen.text
    assert client.get(page, params={"find": "电影"}).text.count('name="item"') == 1
    with UserEvents(site.parts.workspace.user_events("films")) as users:
        for act, gone in (("withdraw", {_NAME}), ("back", set())):
            assert _send(client, page, item=_NAME, act=act).status_code == 200
            assert users.withdrawn() == gone
    told = [entry.action for entry in site.parts.ledger.audit_entries("films", limit=2)]
    assert told == ["items.withdrawn", "items.put_back"]
    assert _send(client, page, item="nobody's", act="withdraw").status_code == 404


def test_replies_are_shown_in_pages_and_changed(client: httpx.Client, site: RunningApi) -> None:
    page = "/console/models/desk/replies"
    first, second = client.get(page), client.get(page, params={"after": "r049"})
    assert "<bdi>r049</bdi>" in first.text
    assert "<bdi>r050</bdi>" not in first.text
    assert "<bdi>r050</bdi>" in second.text
    assert "<b>2</b>" not in first.text
    new = f"It is free in {client.headers['accept-language']} <3"
    assert _send(client, page, reply="r001", act="change", text=new).status_code == 200
    assert new.replace("<", "&lt;") in client.get(page).text
    for act, state in (("withdraw", "withdrawn"), ("approve", "approved")):
        assert _send(client, page, reply="r002", act=act).status_code == 200
        library = ReplyLibrary(site.parts.ledger, site.parts.workspace, "desk")
        assert {row.state for row in library.listed() if row.id == "r002"} == {state}
    assert _send(client, page, reply="r002", act="burn").status_code == 422
    changed, withdrawn, approved = site.parts.ledger.audit_entries("desk", limit=3)
    assert changed.detail["before"]["text_sha256"] != changed.detail["after"]["text_sha256"]
    assert new not in str(changed.detail), "nothing is ever erased from the audit log, so it holds no text"
    for entry, before, after in ((withdrawn, "approved", "withdrawn"), (approved, "withdrawn", "approved")):
        assert (entry.detail["before"]["state"], entry.detail["after"]["state"]) == (before, after)


def test_an_alert_is_shown_with_its_event_and_judged(client: httpx.Client) -> None:
    page = "/console/models/news/alerts"
    seen = client.get(page)
    assert "bad &lt;i&gt;news&lt;/i&gt;" in seen.text
    assert "&lt;b&gt;wire&lt;/b&gt;" in seen.text
    assert 'class="quoted"' in seen.text[seen.text.index('id="events"') :]
    for state in ("confirmed", "open"):
        assert _send(client, page, number="1", state=state, note="以后再看").status_code == 200
        assert 'id="alert-1"' in client.get(page, params={"state": state}).text
    assert client.get(page, params={"state": "<b>"}).status_code == 422


def test_a_job_does_what_is_asked_of_it_alone(client: httpx.Client, site: RunningApi) -> None:
    site.parts.ledger.save_job("watch:intent", {"interval_s": 10.0}, datetime.now(UTC), paused=True)
    site.parts.ledger.pause_job("watch:intent", paused=True)
    page = "/console/jobs/watch%3Aintent"
    assert _send(client, f"{page}/delete", page).status_code == 404
    assert [row.paused for row in site.parts.ledger.jobs()] == [True]
    assert _send(client, f"{page}/resume", page).status_code == 200
    assert [row.paused for row in site.parts.ledger.jobs()] == [False]
    detail = site.parts.ledger.audit_entries(limit=1)[0].detail
    assert (detail["before"], detail["after"]) == ({"paused": True}, {"paused": False})


def test_a_workspace_without_a_model_and_a_model_that_went_meanwhile(client: httpx.Client, site: RunningApi) -> None:
    ledger, models = site.parts.ledger, ("intent", "bare", *_TASKS)
    page = "/console/models/intent"
    secret = form_secret(client.get(page).text)
    assert secret is not None
    for model in models:
        REMOVED.keep(ledger, model, Removal(by="test", at=datetime.now(UTC).isoformat()))
    try:
        for path in ("/console", "/console/jobs", "/console/audit", "/console/settings"):
            assert client.get(path).status_code == 200, path
        assert "perennial init" in client.get("/console").text
        assert client.get(page).status_code == 404
        told = client.post(f"{page}/retrain", data={"secret": secret, "reason": "x"})
        assert told.status_code == 404
        assert "<main" in told.text
    finally:
        for model in models:
            REMOVED.keep(ledger, model, None)


def _send(client: httpx.Client, path: str, page: str = "", **fields: str) -> httpx.Response:
    secret = form_secret(client.get(page or path).text)
    assert secret is not None
    return client.post(path, data={"secret": secret, **fields})


def test_the_api_lists_items_and_withdraws_them(site: RunningApi) -> None:
    base, kept = "/v1/models/films/items", {"X-Perennial": "1"}
    first = site.ask("get", base, params={"limit": 1})
    assert [item["name"] for item in first.json()] == [_NAME]
    assert [item["name"] for item in site.ask("get", first.links["next"]["url"].removeprefix(site.url)).json()] == [
        "new"
    ]
    plan = site.ask("post", f"{base}/withdrawals", json={"items": [_NAME], "dry_run": True}, headers=kept).json()
    done = site.ask("post", f"{base}/withdrawals", json={"items": [_NAME]}, headers=kept).json()
    assert plan["changed"] == done["changed"] == 1
    again = {"items": [_NAME], "withdrawn": False}
    assert site.ask("post", f"{base}/withdrawals", json=again, headers=kept).json()["changed"] == 1
    assert [entry.action for entry in site.parts.ledger.audit_entries("films", limit=2)] == [
        "items.withdrawn",
        "items.put_back",
    ]
    assert site.ask("post", f"{base}/withdrawals", json={"items": ["nobody"]}, headers=kept).status_code == 404
    assert site.ask("get", "/v1/models/intent/items").status_code in {404, 422}
