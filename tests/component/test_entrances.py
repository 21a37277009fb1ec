"""One rule at every entrance, on both databases: what is refused is named, what is kept reads back as it was."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from typer.testing import CliRunner

from perennial.continual.errors import DataError, RowsRefused
from perennial.continual.preparation import KnownLabels, admit_example
from perennial.continual.records import Example, Origin, Split
from perennial.ops.api.app import create_api
from perennial.ops.cli.main import app
from perennial.ops.ledger import FeedbackRow, JoinOutcome, Ledger
from perennial.ops.ledger.schema import feedback as feedback_table
from perennial.ops.settings import ApiSettings
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.traffic import TrafficLog, TrafficWriter
from perennial.ops.watching.collector import Collected, collect
from tests.component.databases import BACKENDS, fresh_url
from tests.component.strange_texts import TEXTS
from tests.component.traffic_rows import columns, row_id

pytestmark = pytest.mark.component

GOOD = [{"text": f"my card number {n} is lost", "label": "lost_card"} for n in range(5)]
ID = "0199abcd0123456789ab0123456789ab"
# What a stranger may send as one row of a body: each is refused, and the word is in its cause.
BAD_ROWS: dict[str, tuple[Any, str]] = {
    "nothing visible": ({"text": "\0\u200b\u3164", "label": "a"}, "nothing that can be seen"),
    "half a pair in the text": ({"text": "bad \ud83d", "label": "a"}, "half of a surrogate pair"),
    "half a pair in the label": ({"text": "t", "label": "\udfff"}, "half of a surrogate pair"),
    "half a pair in the key": ({"text": "t", "label": "a", "key": "\ud800"}, "half of a surrogate pair"),
    "half a pair in the id": ({"prediction_id": "\ud800" * 32, "label": "a"}, "32 hexadecimal digits"),
    "half a pair in a name": ({"text": "t", "label": "a", "\ud800": 1}, "unicode string"),
    "a megabyte": ({"text": "x" * 1_000_000, "label": "a"}, "1000000 bytes"),
    "NUL in the label": ({"text": "t", "label": "a\0b"}, "U+0000"),
    "an escape in the label": ({"text": "t", "label": "\x1b[2J"}, "U+001B"),
    "NUL in the key": ({"text": "t", "label": "a", "key": "k\0"}, "U+0000"),
    "a hidden character in the key": ({"text": "t", "label": "a", "key": "k\u200bk"}, "U+200B"),
    "a long key": ({"text": "t", "label": "a", "key": "k" * 257}, "257 bytes"),
    "a long label": ({"text": "t", "label": "l" * 201}, "at most 200"),
    "an empty label": ({"text": "t", "label": ""}, "is empty"),
    "no label": ({"text": "t"}, "Field required"),
    "a number for a text": ({"text": 5, "label": "a"}, "must be text"),
    "a list for a row": ([1, 2], "valid dictionary"),
    "null for a row": (None, "valid dictionary"),
    "text and id": ({"text": "t", "prediction_id": ID, "label": "a"}, "not both"),
    "neither text nor id": ({"label": "a"}, "one of prediction_id and text"),
    "an impossible id": ({"prediction_id": "invented", "label": "a"}, "32 hexadecimal digits"),
    "before the calendar": ({"text": "t", "label": "a", "at": "0001-01-01T00:00:00+14:00"}, "beyond the calendar"),
    "behind the calendar": ({"text": "t", "label": "a", "at": "9999-12-31T23:59:59-14:00"}, "beyond the calendar"),
    "the far future": ({"text": "t", "label": "a", "at": "2999-01-01T00:00:00Z"}, "in the future"),
    "no zone": ({"text": "t", "label": "a", "at": "2026-01-01T00:00:00"}, "no time zone"),
    "infinity": ({"text": "t", "label": "a", "at": float("inf")}, "is no time"),
    "not a number": ({"text": "t", "label": "a", "at": float("nan")}, "is no time"),
    "a huge number": ({"text": "t", "label": "a", "at": 10**300}, "is no time"),
    "almost a known label": ({"text": "t", "label": "LOST_CARD"}, "send 'lost_card'"),
}


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path)) as opened:
        opened.register_model("intent", {})
        yield opened


class _Loop:
    """No command is given; it hears of labels."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def labels_kept(self, model: str) -> None:
        self.heard.append(model)


@pytest.fixture
def loop() -> _Loop:
    return _Loop()


@pytest.fixture
def client(ledger: Ledger, loop: _Loop) -> TestClient:
    api = create_api(ledger, loop, EventFeed(), ApiSettings())  # type: ignore[arg-type]
    return TestClient(api, base_url="http://localhost", raise_server_exceptions=False)


def posted(client: TestClient, rows: list[Any]) -> Any:
    body = json.dumps({"labels": rows})  # as a client would escape it; Infinity and NaN included
    return client.post("/v1/feedback", content=body, headers={"Content-Type": "application/json"})


def train(_: str) -> Split:
    return Split.TRAIN


def test_each_bad_row_of_a_body_is_named_and_its_neighbours_are_kept(
    ledger: Ledger, client: TestClient, loop: _Loop
) -> None:
    rows: list[Any] = list(GOOD)
    for place, (row, _) in enumerate(BAD_ROWS.values()):
        rows.insert(2 * place + 1, row)
    answer = posted(client, rows)
    assert answer.status_code == 422, answer.text
    causes = {row["row"]: row["cause"] for row in answer.json()["rows"]}
    for (name, (row, word)), place in zip(BAD_ROWS.items(), _places(rows), strict=True):
        assert word in causes[place], f"{name}: {causes[place]}"
        assert rows[place] is row
    assert len(causes) == len(BAD_ROWS)
    assert f"{len(BAD_ROWS)} of {len(rows)} labels are refused and {len(GOOD)} are kept" in answer.json()["detail"]
    assert {row.example.text for row in ledger.examples("intent")} == {row["text"] for row in GOOD}
    assert loop.heard == ["intent"]


def _places(rows: list[Any]) -> list[int]:
    good = [id(row) for row in GOOD]
    return [place for place, row in enumerate(rows) if id(row) not in good]


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_alone_is_422_and_never_a_servers_fault(client: TestClient, name: str) -> None:
    row, word = BAD_ROWS[name]
    answer = posted(client, [{"text": "seed", "label": "lost_card"}, row])
    assert answer.status_code == 422, answer.text
    assert [bad["row"] for bad in answer.json()["rows"]] == [1]
    assert word in answer.json()["rows"][0]["cause"]


def test_sending_a_body_again_changes_nothing(client: TestClient) -> None:
    at = "2026-01-01T00:00:00Z"
    rows = [row | {"at": at} for row in GOOD] + [{"prediction_id": ID, "label": "fee", "at": at}]
    nothing = dict.fromkeys(("new", "corrected", "confirmed", "unchanged", "stale", "erased"), 0)
    assert posted(client, rows).json() == nothing | {"new": 6}
    assert posted(client, rows).json() == nothing | {"unchanged": 6}
    later = [row | {"at": "2026-01-02T00:00:00Z"} for row in rows]
    assert posted(client, later).json() == nothing | {"confirmed": 6}
    other = [{"prediction_id": ID.upper(), "label": "loan", "at": at}]
    assert posted(client, other).json() == nothing | {"stale": 1}


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "\\ud800", "labels": [{"text": "t", "label": "a"}]}',
        '{"model": Infinity, "labels": [{"text": "t", "label": "a"}]}',
        '{"model": "' + "x" * 5_000 + '", "labels": [{"text": "t", "label": "a"}]}',
        '{"model": "a\\u0000b", "labels": [{"text": "t", "label": "a"}]}',
        '{"labels": []}',
        '{"labels": NaN}',
        '{"labels": [], "\\ud800": 1}',
        "[]",
        "nonsense",
    ],
)
def test_a_body_of_the_wrong_shape_is_the_callers_mistake(client: TestClient, body: str) -> None:
    answer = client.post("/v1/feedback", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {404, 422}, answer.text


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_texts_of_all_the_world_come_in_over_http_and_read_back(ledger: Ledger, client: TestClient, text: str) -> None:
    assert posted(client, [{"text": text, "label": "a", "key": "k"}]).status_code == 200
    (stored,) = ledger.examples("intent")
    assert stored.example.text == TEXTS[text]
    assert stored.example.redacted is ("[card]" in TEXTS[text])


_ODD = "a\0\x1b\u0301\u200c\u200d\u202e\u3164\ufe0f\ufeff\ufffe\U0001f468\U000e0067\ud800@.0159 "
_texts = st.text(st.one_of(st.characters(codec=None), st.sampled_from(_ODD)), max_size=30)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(_texts, _texts, _texts), max_size=10))
def test_whatever_passes_is_stored_and_read_back_as_it_was(ledger: Ledger, rows: list[tuple[str, str, str]]) -> None:
    examples = list(_admitted(rows))
    before = ledger.last_example_id("intent")
    ledger.add_examples("intent", examples, train)
    stored = {row.example for row in ledger.examples("intent", since_id=before)}
    assert stored <= set(examples)
    assert {row.example.label for row in ledger.examples("intent")} <= set(ledger.labels("intent"))


def _admitted(rows: list[tuple[str, str, str]]) -> Iterator[Example]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for text, label, key in rows:
        try:
            yield admit_example(text=text, label=label, key=key, at=now, origin=Origin.FEEDBACK, known=KnownLabels())
        except DataError:
            continue


@pytest.mark.parametrize("field", ["prediction_id", "label", "key"])
@pytest.mark.parametrize("bad", ["a\0b", "a\ud800"])
def test_no_feedback_row_can_be_made_that_a_database_cannot_keep(field: str, bad: str) -> None:
    fields = {"prediction_id": ID, "label": "a", "key": "k", field: bad}
    with pytest.raises(DataError, match=f"{field} holds U"):
        FeedbackRow(at=datetime(2026, 1, 1, tzinfo=UTC), **fields)


@pytest.mark.parametrize(("name", "version"), [("intent", 10**30), ("\ud800", 1)])
def test_what_slips_past_every_entrance_is_still_the_callers_mistake(ledger: Ledger, name: str, version: int) -> None:
    with pytest.raises(DataError, match="cannot hold"):
        ledger.version(name, version)


def test_one_bad_row_stops_neither_its_page_nor_its_neighbours(ledger: Ledger, tmp_path: Path) -> None:
    """Rows as older versions logged and acknowledged them, beside good ones."""
    texts = [*TEXTS, "\0\u200b", "  ", "good"]
    logged = columns(range(len(texts))) | {"text": texts, "key": ["k"] * len(texts)}
    logged["redacted"] = [False] * len(texts)
    with closing(TrafficWriter(tmp_path / "traffic", "router", dimension=3)) as writer:
        writer.append(logged)
    now = datetime.now(UTC)
    ids = [row_id(second, second) for second in range(len(texts))]
    ledger.add_feedback("intent", [FeedbackRow(prediction_id=name, label="a", at=now) for name in ids[:-1]])
    _acknowledge(ledger, ids[-1], "x" * 1_000, now)  # before there was a limit
    found = collect(ledger, TrafficLog(tmp_path / "traffic"), "intent", holdout_share=0.1, now=now)
    assert found == Collected(joined=len(TEXTS), refused=3)
    assert {row.example.text for row in ledger.examples("intent")} == set(TEXTS.values())
    with ledger.engine.connect() as connection:
        outcomes = dict(connection.execute(select(feedback_table.c.prediction_id, feedback_table.c.outcome)).all())
    assert [outcomes[name] for name in ids[-3:]] == [JoinOutcome.REFUSED] * 3
    assert ledger.pending_feedback("intent") == ()
    again = collect(ledger, TrafficLog(tmp_path / "traffic"), "intent", holdout_share=0.1, now=now + timedelta(days=1))
    assert again == Collected()


def test_a_twin_that_was_acknowledged_joins_its_label(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_examples("intent", [Example(text="t", label="Refund", at=datetime(2026, 1, 1, tzinfo=UTC))], train)
    with closing(TrafficWriter(tmp_path / "traffic", "router", dimension=3)) as writer:
        writer.append(columns(range(3)))
    now = datetime.now(UTC)
    for second, label in enumerate(("REFUND", "Re\u200bfund", "other")):
        _acknowledge(ledger, row_id(second, second), label, now)
    assert collect(ledger, TrafficLog(tmp_path / "traffic"), "intent", holdout_share=0.1, now=now).joined == 3
    assert ledger.labels("intent") == ("Refund", "other")


def _acknowledge(ledger: Ledger, prediction_id: str, label: str, now: datetime) -> None:
    """Keep a label as the ledger did before the entrance had its rule."""
    ledger.add_feedback("intent", [FeedbackRow(prediction_id=prediction_id, label=label, at=now)])


FILES = {
    "text,label": (
        "my\tcard,{a}",
        "a,b,c",
        "only",
        "\u200b,a",
        "a,\x1b[2J",
        "a," + "l" * 201,
        "mail jo@example.org,fee",
    ),
    "prediction_id,label": (f" {ID.upper()} ,a", "nothing,a", f"{ID},a,extra", f"{ID},", f"{ID},A", f"{'1' * 32},fee"),
}


@pytest.mark.parametrize("header", FILES)
@pytest.mark.parametrize("skip", [False, True])
def test_a_file_names_each_bad_line_and_may_leave_it_out(
    ledger: Ledger, tmp_path: Path, header: str, skip: bool
) -> None:
    config = tmp_path / "perennial.toml"
    config.write_text(f'ledger_url = "{ledger.engine.url.render_as_string(hide_password=False)}"\n')
    file = tmp_path / "labels.csv"
    file.write_text("\n".join([header, *FILES[header]]) + "\n", encoding="utf-8")
    command = ["feedback", "import", str(file), "--config", str(config), *(["--skip-refused"] if skip else [])]
    done = CliRunner().invoke(app, command)
    bad = len(FILES[header]) - 2
    kept = len(ledger.examples("intent")) + ledger.feedback_count("intent")
    if not skip:
        assert isinstance(done.exception, RowsRefused)
        assert [row["row"] for row in done.exception.rows] == list(range(3, 3 + bad))
        assert kept == 0
        return
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) | {"new": 2, "refused": bad} == json.loads(done.stdout)
    assert kept == 2
    assert all(f"line {line} is left out" in done.stderr for line in range(3, 3 + bad))
