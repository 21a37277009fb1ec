"""Traffic of a model that ranks: watched, explained, reported, measured and queued, without texts and probabilities."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.drift.evidently_report import build_report, check_agreement
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.learning.ranking import Item, Neighbours, write_items
from perennial.continual.learning.ranking.trained import ITEMS_FILE
from perennial.continual.records import Route
from perennial.exporters.ranking.ties import ItemTies
from perennial.ops.commands.label_queue import LabelQueue
from perennial.ops.ledger import FeedbackRow, Ledger, VersionRow, VersionState, version_card
from perennial.ops.settings import Settings
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog, TrafficWriter, columns_of
from perennial.ops.watching.accuracy import AccuracyWatch
from perennial.ops.watching.error_watch import ErrorWatch
from perennial.ops.watching.watcher import Watcher
from perennial.ops.watching.windows import chosen_report, explained, reported_window
from tests.component.databases import fresh_url

pytestmark = pytest.mark.component
_MODEL = "shelf"
_ITEMS = tuple(f"item {number}" for number in range(30))


@dataclass(kw_only=True)
class Shelf:
    """Version 1 is champion; most people want its first items, until they want its last ones."""

    ledger: Ledger
    workspace: Workspace
    traffic: TrafficLog
    writer: TrafficWriter
    now: datetime = datetime(2026, 3, 1, tzinfo=UTC)

    def ask(self, rows: int, *, last: bool = False, context: str = "home page") -> list[str]:
        rng = np.random.default_rng([rows, last])
        self.now += timedelta(seconds=rows)
        stamp = int(self.now.timestamp() * 1000)
        ids = [f"{stamp:012x}{number:020x}" for number in range(rows)]
        orders = [rng.permutation(_ITEMS[20:] if last else _ITEMS[:10]).tolist() for _ in range(rows)]
        columns: dict[str, Any] = {
            "prediction_id": ids,
            "at": [self.now] * rows,
            "key": [f"u{number}" for number in range(rows)],
            "user": [f"u{number}" for number in range(rows)],
            "asked_at": [self.now.isoformat()] * rows,
            "segment": ["everybody"] * rows,
            "context": [context] * rows,
            "prediction": [json.dumps(order) for order in orders],
            "version": [1] * rows,
            "arm": ["champion"] * rows,
            "latency_ms": [1.0] * rows,
            "redacted": [False] * rows,
        }
        self.writer.append(columns | {name: ["{}"] * rows for name in set(columns_of("ranking")) - set(columns)})
        return ids

    def like(self, ids: Sequence[str], item: str, *, after_s: float = 1.0) -> None:
        """The users of these lists liked an item, so long after they had asked."""
        at = self.now + timedelta(seconds=after_s)
        label = json.dumps({item: 1.0})
        rows = [FeedbackRow(prediction_id=name, label=label, at=at) for name in ids]
        self.ledger.add_feedback(_MODEL, rows)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    drift = {"window_rows": 100, "reference_rows": 200, "random_label_share": 1.0}
    model = {"task": "ranking", "drift": drift}
    workspace = Workspace(Settings(state=tmp_path / "state", repository=tmp_path / "repo", models={_MODEL: model}))
    ledger = Ledger.open(fresh_url("sqlite", tmp_path))
    ledger.register_model(_MODEL, model)
    ledger.add_version(VersionRow(model=_MODEL, version=1, state=VersionState.CHAMPION, card=version_card(labels=())))
    route = Route(model=_MODEL, epoch=1, champion=1, resident=(1,))
    ledger.set_route(route, expected_epoch=0, actor="operator", reason="first version")
    folder = workspace.traffic(_MODEL)
    writer = TrafficWriter(folder, "shelf", task="ranking")
    yield Shelf(ledger=ledger, workspace=workspace, traffic=TrafficLog(folder), writer=writer)
    writer.close()
    ledger.close()


def _keep_catalogue(bundle: Path) -> None:
    """Of a version's bundle, what tells how popular its items were: the first was liked by most, the last by one."""
    bundle.mkdir(parents=True)
    write_items(bundle / ITEMS_FILE, [Item(name=name) for name in _ITEMS])
    nothing = np.zeros((len(_ITEMS), 1))
    ties = Neighbours(places=nothing.astype(np.int32), values=nothing.astype(np.float32), popular=nothing[:, 0])
    ItemTies(neighbours=ties, known=np.arange(len(_ITEMS), 0.0, -1.0)).write(bundle)


def _watch(shelf: Shelf) -> list[bool]:
    Watcher(shelf.ledger, shelf.workspace, _MODEL, shelf.traffic, EventFeed()).watch()
    reports = reversed(shelf.ledger.drift_reports(_MODEL, limit=20))
    return [report.payload["comparison"]["drifted"] for report in reports]


def test_other_items_or_other_questions_are_drift_and_the_same_ones_are_none(shelf: Shelf, tmp_path: Path) -> None:
    shelf.ask(200)
    shelf.ask(101)
    assert _watch(shelf) == [False]
    shelf.ask(102, last=True)
    assert _watch(shelf) == [False, True]
    newest = chosen_report(shelf.ledger, _MODEL, None)
    explanation = explained(shelf.ledger, shelf.workspace, shelf.traffic, newest)
    assert "prediction" in [signal.value for signal, _, _ in explanation.signals]
    assert {explanation.slices[0].label[:5]} == {"item "}
    assert not any("u1" in text.split() for text in explanation.texts), "who asked is nobody's concern here"
    seen = reported_window(shelf.ledger, shelf.workspace, shelf.traffic, newest)
    paths = build_report(seen.reference, seen.window, seen.comparison, tmp_path / "report.html", timeout_s=900)
    assert check_agreement(json.loads(paths.json.read_text()), seen.comparison) == []
    shelf.ask(103, context="checkout basket payment")
    assert _watch(shelf) == [False, True, True]


def test_its_quality_is_measured_by_what_was_relevant_and_estimated_by_nothing(shelf: Shelf) -> None:
    ids = shelf.ask(200)
    _watch(shelf)
    answers = shelf.traffic.lookup(ids, columns=["prediction_id", "prediction"]).to_pylist()
    rows = [
        FeedbackRow(
            prediction_id=row["prediction_id"],
            label=json.dumps({json.loads(row["prediction"])[1]: 1.0}),
            at=shelf.now + timedelta(seconds=1),
        )
        for row in answers
    ]
    shelf.ledger.add_feedback(_MODEL, rows)
    watch = AccuracyWatch(shelf.ledger, shelf.workspace, _MODEL, shelf.traffic)
    look = watch.look(1)
    assert look.estimated is None
    assert look.measured is not None
    assert look.reference is not None
    assert look.measured.value == look.reference.value == pytest.approx(1 / np.log2(3), abs=1e-6)
    assert ErrorWatch(shelf.ledger, _MODEL, shelf.traffic, watch, 100_000).look(1).bound is not None


def test_what_became_of_its_lists_is_watched_and_told(shelf: Shelf, tmp_path: Path) -> None:
    """Fewer hits, likings of items nobody had liked and of unpopular ones, each in a window; none where all is well."""
    _keep_catalogue(shelf.workspace.bundle(_MODEL, 1))
    shelf.like(shelf.ask(200)[::2], "item 1")
    shelf.like(shelf.ask(101)[::2], "item 1")
    assert _watch(shelf) == [False]
    shelf.like(shelf.ask(102)[::5], "item 1")
    shelf.like(shelf.ask(103)[::2], "never heard of")
    _watch(shelf)
    compared = [report.payload["comparison"] for report in reversed(shelf.ledger.drift_reports(_MODEL, limit=20))]
    drifted = [{one["signal"] for one in each["signals"] if one["drifted"]} for each in compared]
    assert drifted == [set(), {"hit_rate"}, {"hit_rate", "popularity", "new_items"}]
    newest = chosen_report(shelf.ledger, _MODEL, None)
    explanation = explained(shelf.ledger, shelf.workspace, shelf.traffic, newest)
    told = {one.signal.value: (one.reference, one.current, one.rows) for one in explanation.outcomes}
    assert told["hit_rate"] == (0.5, pytest.approx(0.01), 100), "one answer of the window before is left"
    assert told["new_items"] == (0.0, pytest.approx(0.98, abs=1e-6), 50)
    seen = reported_window(shelf.ledger, shelf.workspace, shelf.traffic, newest)
    paths = build_report(seen.reference, seen.window, seen.comparison, tmp_path / "report.html", timeout_s=900)
    assert check_agreement(json.loads(paths.json.read_text()), seen.comparison) == []


def test_its_lists_are_looked_at_once_their_users_had_time(shelf: Shelf) -> None:
    _keep_catalogue(shelf.workspace.bundle(_MODEL, 1))
    shelf.now = datetime.now(UTC) - timedelta(seconds=700)
    shelf.ask(200)
    assert _watch(shelf) == []
    assert not shelf.workspace.reference(_MODEL, 1).is_dir(), "they are eight minutes old; ten are waited for"
    shelf.now = datetime.now(UTC) - timedelta(seconds=1_500)
    ids = shelf.ask(201)
    shelf.like(ids[::2], "item 1", after_s=599.0)
    shelf.like(ids[1::2], "item 1", after_s=601.0)
    _watch(shelf)
    sample = ReferenceProfile.load(shelf.workspace.reference(_MODEL, 1)).sample
    assert sample.hits is not None
    known = sample.hits[~np.isnan(sample.hits)]
    assert (len(sample.hits), known.tolist()) == (200, [1.0] * 100), "of what came too late nobody told"


def test_signals_that_stay_away_are_told_and_open_nothing(shelf: Shelf) -> None:
    _keep_catalogue(shelf.workspace.bundle(_MODEL, 1))
    for rows in (200, 101):
        shelf.like(shelf.ask(rows)[::2], "item 1")
    shelf.ask(102)
    feed = EventFeed()
    Watcher(shelf.ledger, shelf.workspace, _MODEL, shelf.traffic, feed).watch()
    silent, heard = (report.payload for report in shelf.ledger.drift_reports(_MODEL, limit=20))
    assert (silent["comparison"]["drifted"], silent["signal"]["silence"]) == (False, True)
    assert silent["comparison"]["silent_share"] >= 0.98
    assert (heard["comparison"]["silent_share"], heard["signal"]["silence"]) == (0.0, False)
    told = [event.facts for event in feed.since(0) if event.name == "drift.feedback_missing"]
    assert [(facts["version"], facts["silent_share"]) for facts in told] == [(1, silent["comparison"]["silent_share"])]


def test_its_queue_is_filled_by_chance_alone(shelf: Shelf) -> None:
    shelf.ask(200)
    queue = LabelQueue(shelf.ledger, shelf.workspace, _MODEL)
    items = queue.refill(budget=20)
    assert len(items) == 20
    assert {(item.reason, item.confidence, item.text) for item in items} == {("uniform", None, "everybody home page")}
    assert queue.doubts() == []
    assert queue.accuracy() is None
