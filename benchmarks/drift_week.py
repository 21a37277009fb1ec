"""A week of a quiet service in simulated time: day cycles, retries, outages and one real change; how many retrainings?

The loop's own parts run by a simulated clock on a real ledger and a real traffic log: the watch, the joining of labels,
the error and worth watches, the policy and the opening of cycles. Serving and training stand outside of it: the rows
are BANKING77's, answered by a head on its embeddings, and an opened cycle is promoted an hour later with a head that
learnt the labels so far.
"""

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import time_machine
from numpy.typing import NDArray

from benchmarks.drift_streams import joined
from benchmarks.drift_traffic import Traffic, answers_of, head_of
from perennial.continual.drift import Window
from perennial.continual.records import Origin, Route
from perennial.ops.app.model_loop import ModelLoop
from perennial.ops.ledger import FeedbackRow, Fence, Ledger, VersionRow, VersionState, version_card
from perennial.ops.parts import Parts
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.reconciler import Reconciler
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.settings import Settings
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic.writer import TrafficWriter

__all__ = ["CHANGE_DAY", "DAYS", "LABELLED", "SILENT", "UNWATCHED", "asked_in_hour", "sent_in_hour", "week"]

_MODEL = "banking"
_BEGUN = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
DAYS = 7
_BY_HOUR = (40, 30, 25, 20, 20, 30, 60, 90, 120, 140, 140, 130, 120, 125, 130, 130, 120, 110, 100, 90, 80, 60, 50, 40)
LABELLED = 0.06
_LATE = timedelta(hours=1)  # labels come so long after their requests
_RETRIED = 0.1
_NEW = 0.25  # share of new intents once the world has changed
CHANGE_DAY = 4.5
UNWATCHED = (30, 38)  # hours: the control process is away, requests are answered
SILENT = (75, 80)  # hours: nobody can ask
_PROMOTED_AFTER = timedelta(hours=1)


@dataclass(kw_only=True)
class _World:
    """What is asked in each hour, and how the version of the day answers it."""

    traffic: Traffic
    rng: np.random.Generator
    rows: Window
    truth: NDArray[np.str_]
    model: Any
    version: int = 1
    known: tuple[str, ...] = ()
    asked: int = 0
    waiting: list[FeedbackRow] = field(default_factory=list)
    learnt: list[tuple[int, str]] = field(default_factory=list)

    def hour(self, number: int) -> NDArray[np.int64]:
        """Places of the rows asked for in an hour."""
        return asked_in_hour(number, self.truth, len(self.traffic.clean), self.rng)


def asked_in_hour(number: int, truth: NDArray[np.str_], clean: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of the rows asked for in an hour of the week; those from `clean` on are new once the world has changed.

    One half of the intents is asked for by day, the other by night, and less at weekends.
    """
    day, of_day = divmod(number, 24)
    many = int(_BY_HOUR[of_day] * (0.6 if day % 7 >= 5 else 1.0))
    names = np.unique(truth[:clean])
    half = np.isin(truth[:clean], names[: len(names) // 2])
    weights = np.where(half == (8 <= of_day < 20), 4.0, 1.0)
    weights = weights * (1.5 if day % 7 >= 5 else 1.0) ** np.isin(truth[:clean], names[::3])
    places = rng.choice(clean, many, p=weights / weights.sum())
    if number >= 24 * CHANGE_DAY:
        swapped = rng.random(many) < _NEW
        places = np.where(swapped, rng.integers(clean, len(truth), many), places)
    return places


def sent_in_hour(places: NDArray[np.int64], rng: np.random.Generator) -> list[tuple[float, int, int]]:
    """Second of the hour, place and caller of each request; some are sent again by their callers within a minute."""
    again = rng.random(len(places)) < _RETRIED
    offsets = np.sort(rng.random(len(places))) * 3_500
    who = rng.integers(3_000, size=len(places))
    return sorted(
        (float(offset), int(place), int(caller))
        for begun, place, caller, often in zip(offsets, places, who, np.where(again, 5, 1), strict=True)
        for offset in begun + np.concatenate([[0.0], rng.random(often - 1) * 60])
    )


def week(traffic: Traffic, seed: int) -> dict[str, Any]:
    """One week; retrainings before the change are false, and one is what the change is worth."""
    with tempfile.TemporaryDirectory() as folder, time_machine.travel(_BEGUN, tick=False) as clock:
        return _week(traffic, Path(folder), clock, seed)


def _week(traffic: Traffic, folder: Path, clock: Any, seed: int) -> dict[str, Any]:
    rows, truth, first = _answerable(traffic)
    world = _World(
        traffic=traffic,
        rng=np.random.default_rng([37, seed]),
        rows=rows,
        truth=truth,
        model=first,
        known=tuple(first.classes_),
    )
    settings = Settings(
        state=folder / "state",
        repository=folder / "repository",
        models={_MODEL: {}},
        schedule={"watch_share": 1.0},  # a week takes a minute here, so that its share of that would be too little
    )
    workspace, ledger = Workspace(settings), Ledger.open(f"sqlite:///{folder / 'ledger.db'}")
    ledger.register_model(_MODEL, {})
    card = version_card(labels=world.known)
    ledger.add_version(VersionRow(model=_MODEL, version=1, state=VersionState.CHAMPION, card=card))
    route = Route(model=_MODEL, epoch=1, champion=1, resident=(1,))
    ledger.set_route(route, expected_epoch=0, actor="operator", reason="first version")
    writer = TrafficWriter(workspace.traffic(_MODEL), "week", dimension=rows.embeddings.shape[1])  # type: ignore[union-attr]
    loop = _loop(settings, workspace, ledger)
    opened: list[dict[str, Any]] = []
    promoted_at: datetime | None = None
    for number in range(24 * DAYS):
        now = _BEGUN + timedelta(hours=number)
        if not SILENT[0] <= number < SILENT[1]:
            _ask(world, writer, now, world.hour(number))
        now += timedelta(hours=1)
        clock.move_to(now)
        due = [row for row in world.waiting if row.at <= now]
        world.waiting = [row for row in world.waiting if row.at > now]
        if due:
            ledger.add_feedback(_MODEL, due)
        if UNWATCHED[0] <= number < UNWATCHED[1]:
            continue
        if promoted_at is not None and now >= promoted_at:
            _promote(world, ledger)
            promoted_at = None
        loop.watch()
        said = loop.check()
        if said.startswith("cycle"):
            opened.append({"day": number / 24, "why": said})
            promoted_at = now + _PROMOTED_AFTER
    alerts = [row for row in ledger.drift_reports(_MODEL, limit=1_000) if row.payload["signal"]["alert"]]
    writer.close()
    ledger.close()
    return {
        "seed": seed,
        "requests": world.asked,
        "changed_on_day": CHANGE_DAY,
        "retrainings": len(opened),
        "before_the_change": sum(each["day"] < CHANGE_DAY for each in opened),
        "days": [round(each["day"], 2) for each in opened],
        "why": [each["why"] for each in opened],
        "alerts": len(alerts),
        "promised": 1,
    }


def _answerable(traffic: Traffic) -> tuple[Window, NDArray[np.str_], Any]:
    """All rows that may be asked, with the first version's answers, and what they are really about."""
    rows = joined(traffic.clean, traffic.new_intents)
    return rows, np.concatenate([traffic.truth, traffic.new_truth]), traffic.model


def _loop(settings: Settings, workspace: Workspace, ledger: Ledger) -> ModelLoop:
    """The model's loop; its Triton is away, because nothing here asks it."""
    repository, control = ModelRepository(workspace.repository), TritonControl("127.0.0.1:1", timeout_s=0.1)
    parts = Parts(
        settings=settings,
        workspace=workspace,
        ledger=ledger,
        repository=repository,
        controls=(control,),
        reconciler=Reconciler(ledger, workspace, repository, (control,)),
    )
    fence = Fence(name="loop", epoch=ledger.acquire_lease("loop", "week"))
    return ModelLoop(parts, _MODEL, EventFeed(), control.infer_engine, lambda: fence)


def _ask(world: _World, writer: TrafficWriter, hour: datetime, places: NDArray[np.int64]) -> None:
    """Answer an hour's requests, some of them sent again by their callers within a minute, and label a few later."""
    rng = world.rng
    sent = sent_in_hour(places, rng)
    rows = world.rows.rows([place for _, place, _ in sent])
    at = [hour + timedelta(seconds=float(offset)) for offset, _, _ in sent]
    ids = [
        f"{int(moment.timestamp() * 1_000):012x}{world.asked + number:08x}{rng.integers(2**40):012x}"
        for number, moment in enumerate(at)
    ]
    writer.append(
        {
            "prediction_id": ids,
            "at": at,
            "text": rows.texts.tolist(),
            "key": [f"person {caller}" for _, _, caller in sent],
            "prediction": rows.predictions.tolist(),
            "confidence": rows.confidences,
            "margin": rows.margins,
            "entropy": rows.entropies,
            "version": [world.version] * len(ids),
            "arm": ["champion"] * len(ids),
            "tokens": rows.lengths.tolist(),
            "known": [None] * len(ids),
            "latency_ms": [1.0] * len(ids),
            "redacted": [False] * len(ids),
            "embedding": rows.embeddings,
        }
    )
    world.asked += len(ids)
    for name, moment, (_, place, _) in zip(ids, at, sent, strict=True):
        if rng.random() < LABELLED:
            label = str(world.truth[place])
            world.learnt.append((int(place), label))
            world.waiting.append(
                FeedbackRow(prediction_id=name, label=label, at=moment + _LATE, origin=Origin.FEEDBACK)
            )


def _promote(world: _World, ledger: Ledger) -> None:
    """The opened cycle's version learnt the labels so far beside what the first one knew, and is champion now."""
    cycle = ledger.active_cycle(_MODEL)
    route = ledger.route(_MODEL)
    if cycle is None or route is None:
        return
    version = ledger.versions(_MODEL)[-1].version
    places, labels = zip(*world.learnt, strict=True)
    replayed = world.rng.choice(len(world.traffic.clean), 2_000, replace=False)
    x = np.asarray(world.rows.embeddings, dtype=np.float32)
    world.model = head_of(
        np.concatenate([x[replayed], x[list(places)]]), np.concatenate([world.truth[replayed], np.array(labels)])
    )
    world.rows = answers_of(world.model, world.rows.texts, x)
    world.version = version
    lineage = {"last_example_id": ledger.last_example_id(_MODEL)}
    ledger.set_version_state(
        _MODEL,
        version,
        VersionState.PUBLISHED,
        card=version_card(labels=world.model.classes_.tolist()),
        lineage=lineage,
    )
    changed = Route(model=_MODEL, epoch=route.epoch + 1, champion=version, resident=(route.champion, version))
    ledger.set_route(changed, expected_epoch=route.epoch, actor="loop", reason="a retraining")
    ledger.close_cycle(cycle.id, "promoted", "the week")
