"""Lists come in pages that new rows do not move, only what was seen is changed, and a repeat is carried out once."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from perennial.continual import cycle as cy
from perennial.continual.cycle import encode
from perennial.continual.errors import DependencyUnreachable
from perennial.ops.ledger import DriftReportRow, Ledger, VersionRow
from perennial.ops.store.event_feed import EventFeed
from tests.component.api_server import RunningApi, answering

pytestmark = pytest.mark.component
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEXT = re.compile(r'^<(/[^>]+)>; rel="next"$')


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    folder = tmp_path_factory.mktemp("pages")
    with answering(folder, further={"desk": "replies", "news": "opinion"}) as running:
        _fill(running)
        yield running


def _fill(api: RunningApi) -> None:
    ledger = api.parts.ledger
    for number in range(3, 8):
        ledger.add_version(VersionRow(model="intent", version=number))
    for _ in range(5):
        _cycle(ledger)
        _report(ledger)
        ledger.request_command("intent", "pause", {}, "test")
    ledger.describe_classes("intent", {f"class {number}": f"about {number}" for number in range(5)}, "test")
    for name in ("b", "a", "c"):
        row = ledger.save_job(f"job:{name}", {"seconds": 9}, NOON)
        for _ in range(3):
            ledger.request_run(row.name)
            due = {each.name: each for each in ledger.jobs()}[row.name].requested_at
            assert due is not None
            assert ledger.claim_request(row.name, requested_at=due, epoch=1) is not None
    for number in range(4):
        body = {"id": f"r{number}", "reply": f"answer {number}", "intent": "card"}
        assert api.ask("post", "/v1/models/desk/replies", json=body).status_code == 200


def _cycle(ledger: Ledger) -> None:
    fresh = cy.new_cycle(model="intent", champion=2, plan=cy.CyclePlan())
    cycle, _ = cy.handle(fresh, cy.TriggerFired(reason="test", challenger=3))
    ledger.close_cycle(ledger.open_cycle("intent", "test", encode(cycle), state=cycle.state.value), "aborted")


def _report(ledger: Ledger) -> None:
    ledger.add_drift_report(DriftReportRow(model="intent", version=2, at=NOON, rows=1, state="ok", payload={}))


LISTS: dict[str, tuple[str, Callable[[Ledger], object] | None]] = {
    "/v1/models": ("model", None),
    "/v1/models/intent/versions": ("version", None),
    "/v1/models/intent/cycles": ("id", _cycle),
    "/v1/models/intent/inbox": ("id", lambda ledger: ledger.request_command("intent", "resume", {}, "test")),
    "/v1/models/intent/descriptions": ("label", None),
    "/v1/models/intent/drift": ("id", _report),
    "/v1/models/desk/replies": ("id", None),
    "/v1/jobs": ("job", None),
    "/v1/jobs/job:a/runs": ("id", None),
    "/v1/audit": ("seq", lambda ledger: ledger.audit("test", "more", None, {})),
}


def _pages(api: RunningApi, path: str, between: Callable[[Ledger], object] | None = None) -> list[Any]:
    found, place = [], f"{path}?limit=2"
    while place:
        answer = api.ask("get", place)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        if between is not None:
            between(api.parts.ledger)
        following = NEXT.match(answer.headers.get("link", ""))
        place = following[1] if following else ""
    return list(reversed(found)) if path == "/v1/audit" else found  # whose pages go back in time


@pytest.mark.parametrize("path", LISTS)
def test_the_pages_of_a_list_are_the_list(api: RunningApi, path: str) -> None:
    key, _ = LISTS[path]
    whole = [row[key] for row in api.ask("get", f"{path}?limit=1000").json()]
    assert len(set(whole)) == len(whole) >= 3
    pages = _pages(api, path)
    assert max(len(page) for page in pages) == 2
    assert [row[key] for page in pages for row in page] == whole


@pytest.mark.parametrize("path", [path for path, (_, add) in LISTS.items() if add is not None])
def test_rows_that_come_while_somebody_reads_move_no_page(api: RunningApi, path: str) -> None:
    key, add = LISTS[path]
    before = [row[key] for row in api.ask("get", f"{path}?limit=1000").json()]
    assert [row[key] for page in _pages(api, path, add) for row in page] == before


def test_events_go_on_with_the_number_that_was_read_last(api: RunningApi) -> None:
    begun = EventFeed(begins_after=100)
    begun.record("intent", "begun")
    assert [event.number for event in begun.since(100)] == [101]
    feed = api.ask("get", "/v1/events?limit=1")
    assert feed.status_code == 200


def test_a_page_after_what_is_no_row_is_refused(api: RunningApi) -> None:
    for path in ("/v1/models/intent/cycles?after=x", "/v1/models/news/events?after=x", "/v1/audit?limit=0"):
        assert api.ask("get", path).status_code == 422, path


# ---- only what was seen is changed ----


def test_a_change_names_the_route_that_was_seen(api: RunningApi) -> None:
    """A rollback that is sent twice would otherwise lead there and back again."""
    seen = api.ask("get", "/v1/models/intent/route")
    assert seen.headers["etag"] == f'"{seen.json()["epoch"]}"'
    for headers, body in (({"If-Match": '"9999"'}, {}), ({}, {"expected": 1})):
        late = api.ask("post", "/v1/models/intent/rollback", headers=headers, json=body)
        assert (late.status_code, late.json()["error"]) == (412, "Overtaken"), late.text
    assert api.ask("get", "/v1/models/intent/route").json() == seen.json()
    wrong = api.ask("post", "/v1/models/intent/rollback", headers={"If-Match": "7"}, json={})
    assert wrong.status_code == 422


def test_a_command_names_the_cycle_that_was_seen(api: RunningApi) -> None:
    own = {"X-Perennial-Request": "1"}
    asked = api.ask("post", "/v1/models/intent/commands/abort?cycle=999", headers=own)
    assert (asked.status_code, asked.json()["error"]) == (412, "Overtaken"), asked.text


def test_a_command_tells_what_became_of_it(api: RunningApi) -> None:
    own = {"X-Perennial-Request": "1"}
    number = api.ask("post", "/v1/models/intent/commands/pause", headers=own).json()["command"]
    row = api.ask("get", f"/v1/models/intent/inbox/{number}").json()
    assert (row["kind"], row["outcome"]) == ("pause", None)
    assert api.ask("get", f"/v1/models/news/inbox/{number}").status_code == 404


# ---- the page for people ----


def test_the_page_of_the_api_asks_nobody_else_for_anything(api: RunningApi) -> None:
    page = api.ask("get", "/docs")
    assert "script-src 'self';" in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) == 4
    for name in named:
        assert not name.startswith(("http", "//"))
        assert api.ask("get", f"/{name}").status_code == 200
    assert api.ask("get", "/docs/start.js").headers["content-type"].startswith("text/javascript")
    assert api.ask("get", "/docs/redoc.js").status_code == 404
    assert api.ask("get", "/").headers["location"].startswith("/console")


# ---- a repeat is carried out once ----


def test_a_repeat_is_told_the_first_answer(api: RunningApi) -> None:
    headers = {"X-Perennial-Request": "1", "Idempotency-Key": "5b8c6f0e"}
    path, before = "/v1/models/intent/commands/resume", len(api.parts.ledger.commands("intent"))
    first, again = (api.ask("post", path, headers=headers) for _ in range(2))
    assert (again.status_code, again.json(), again.headers["content-type"]) == (
        first.status_code,
        first.json(),
        first.headers["content-type"],
    )
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert len(api.parts.ledger.commands("intent")) == before + 1
    assert api.ask("post", "/v1/models/intent/commands/pause", headers=headers).status_code == 422


def test_a_refusal_with_kept_rows_is_repeated_and_one_that_did_nothing_is_not(api: RunningApi) -> None:
    body = {"model": "intent", "labels": [{"text": "a lost card", "label": "card"}, {"text": "x", "label": ""}]}
    told = [api.ask("post", "/v1/feedback", headers={"Idempotency-Key": "rows"}, json=body) for _ in range(2)]
    assert [answer.status_code for answer in told] == [422, 422]
    assert told[0].json() == told[1].json()
    assert "'new': 1" in told[1].json()["detail"]
    late = {"Idempotency-Key": "late", "If-Match": '"999"'}
    for _ in range(2):
        assert api.ask("post", "/v1/models/intent/rollback", headers=late, json={}).status_code == 412


def test_where_the_ledger_is_away_a_refused_request_comes_again_and_a_done_one_does_not(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise DependencyUnreachable("the ledger is locked")

    def ask(path: str, key: str, **asked: Any) -> int:
        headers = {"X-Perennial-Request": "1", "Idempotency-Key": key, "If-Match": '"999"'}
        return int(api.ask("post", f"/v1/models/intent/{path}", headers=headers, **asked).status_code)

    with monkeypatch.context() as patched:
        patched.setattr(api.parts.ledger, "release_answer", away)
        patched.setattr(api.parts.ledger, "keep_answer", away)
        assert ask("rollback", "not-released", json={}) == 412
        assert ask("commands/resume", "not-kept") == 202
    assert ask("rollback", "not-released", json={}) == 412
    assert ask("commands/resume", "not-kept") == 409


def test_a_key_that_is_no_word_is_refused_and_a_read_looks_at_none(api: RunningApi) -> None:
    for key in ("", "two words", "x" * 201):
        headers = {"X-Perennial-Request": "1", "Idempotency-Key": key}
        assert api.ask("post", "/v1/models/intent/commands/pause", headers=headers).status_code == 422, key
    assert api.ask("get", "/v1/models", headers={"Idempotency-Key": "two words"}).status_code == 200


# ---- a stream of labels ----


def _stream(api: RunningApi, parts: Iterable[bytes], kind: str = "application/x-ndjson", query: str = "") -> list[Any]:
    headers = {"X-Perennial-Request": "1", "Content-Type": kind}
    answer = api.ask("post", f"/v1/models/intent/feedback{query}", headers=headers, content=parts)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def _rows(first: int, count: int) -> Iterator[bytes]:
    """Labels one a line; what is sent at once ends anywhere within a line."""
    lines = "".join(
        json.dumps({"text": f"streamed ü {number}", "label": "card"}, ensure_ascii=False) + "\n"
        for number in range(first, first + count)
    ).encode()
    yield from (lines[start : start + 7_001] for start in range(0, len(lines), 7_001))


def test_a_stream_of_labels_is_kept_once_however_often_it_is_sent(api: RunningApi) -> None:
    count = len(api.parts.ledger.examples("intent"))
    told = _stream(api, _rows(0, 4_500))
    assert told[-1]["done"] is True
    assert (told[-1]["rows"], told[-1]["refused"], told[-1]["kept"]["new"]) == (4_500, 0, 4_500)
    again = _stream(api, _rows(0, 4_600), query="?skip=4000")[-1]
    assert (again["rows"], again["kept"]["new"]) == (4_600, 100)
    assert len(api.parts.ledger.examples("intent")) == count + 4_600


def test_refused_rows_of_a_stream_are_named_and_keep_nothing_back(api: RunningApi) -> None:
    lines = [
        b'{"text": "sound one", "label": "card"}\n',
        b"no json\n",
        b'{"text": "x"}\n',
        b"[1]\n\n",
        b'{"text": "sound two", "label": "card"}',
    ]
    told = _stream(api, lines)
    assert [line["row"] for line in told[:-1]] == [1, 2, 3]
    assert told[0]["cause"] == "the line is no JSON"
    assert (told[-1]["rows"], told[-1]["refused"], told[-1]["kept"]["new"]) == (5, 3, 2)


def test_a_csv_may_hold_lines_within_quotes(api: RunningApi) -> None:
    table = b'\xef\xbb\xbftext,label\r\n"first, quoted\nsecond ""line""",card\r\nplain csv,loan\r\nshort\r\n'
    told = _stream(api, (table[at : at + 1] for at in range(len(table))), "text/csv; charset=utf-8")
    assert [line["row"] for line in told[:-1]] == [2]
    assert told[-1]["kept"]["new"] == 2
    kept = {row.example.text for row in api.parts.ledger.examples("intent")}
    assert {'first, quoted second "line"', "plain csv"} <= kept


def test_what_no_stream_can_be_is_said_with_what_was_kept_until_then(api: RunningApi) -> None:
    long = (b"x" * 400_000 for _ in range(3))
    for parts, said in ((long, "on a line of its own"), ([b'{"text": "\xff'], "not UTF-8")):
        (told,) = _stream(api, parts)
        assert (told["done"], told["rows"], told["error"]) == (False, 0, "DataError")
        assert said in told["detail"]
    headers = {"X-Perennial-Request": "1", "Content-Type": "text/plain"}
    refused = api.ask("post", "/v1/models/intent/feedback", headers=headers, content=b"{}")
    assert refused.status_code == 422
    (told,) = _stream(api, [b"text,text\na,b\n"], "text/csv")
    assert "a name of its own" in told["detail"]
