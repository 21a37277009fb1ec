"""What the loop remembers of a model in the ledger: read as every release wrote it, and written as it always was."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.drift.accuracy import AccuracyEstimate
from perennial.continual.errors import DataError
from perennial.ops.ledger import Ledger
from perennial.ops.store import state
from perennial.ops.store.state import (
    ErrorState,
    KeptProposals,
    LiveFigures,
    ModelAccuracy,
    QueueChoice,
    RetriedStep,
    StateKey,
    WatchState,
)
from tests.component.databases import BACKENDS, fresh_url

pytestmark = pytest.mark.component

OPS = Path(__file__).parents[2] / "ops"
NOON = "2026-03-01T12:00:00+00:00"
ESTIMATE = {"value": 0.9, "low": 0.8, "high": 0.95, "rows": 300, "assumption": "none"}
LIVE = {"phase": "canary", "cycle": 3, "champion": 1, "challenger": 2, "since": NOON, "verdict": "undecided"}
COUNTS = {"gains": 1, "losses": 2, "ties": 90, "asked": 200, "failed": 0, "timed": 150, "slow": 4}
E_VALUES = {"worse": 1.5, "not_worse_by_margin": 0.25, "failures": 0.5, "slow": 0.75}
PROVEN = {"difference_points": -1.075, "e_values": E_VALUES, "e_value_needed": 60.0}
WAIT = {"cycle": 3, "step": "RollBack", "error": "the disk refuses", "since": NOON}
MONITOR = {"version": 2, "level": "warning", "recent": [True, False], "episode": 1}
WATCHED = {"version": 2, "cursor": NOON, "reference_ready": True, "requests": 600, "windows": 2, "monitor": MONITOR}
ERRED = {"version": 2, "cursor": 40, "bound": 0.1, "run_length": 1e6, "detector": {"seen": 7, "value": 0.5}}
LEARNT = {"learnt": 400, "compared": 350, "evidence": 12.5, "needed": 1e6}
ASSUMED = {"assumption": "none", "answered": 3}

AS_WRITTEN: list[tuple[StateKey[Any], Any]] = [  # as they were written before they were records
    (
        state.WATCH,
        {
            **WATCHED,
            "cursor_id": "a1",
            "drift_since": NOON,
            "sequential": {"doubt": {"bound": 0.2, "state": {}}},
            "counting_from": None,
            "passed_over": 900,
            "used_share": 0.02,
            "like_until": NOON,
            "alerted_since": NOON,
        },
    ),
    (state.ERRORS, {**ERRED, "calm_at": NOON, "alarm_since": None}),
    (
        state.WORTH,
        {"version": 2, **LEARNT, "gain": 0.25, "low": 0.125, "high": 0.5, "rows": 300, "found": True, **ASSUMED},
    ),
    (
        state.WORTH,
        {"version": 2, **LEARNT, "gain": None, "low": None, "high": None, "rows": 0, "found": False, **ASSUMED},
    ),
    (
        state.ACCURACY,
        {"version": 2, "at": NOON, "estimated": {**ESTIMATE, "contested": 2}, "measured": None, "reference": None},
    ),
    (
        state.LABEL_QUEUE,
        [
            {"id": "a1", "reason": "uniform", "p": 0.25, "batch": 1, "seen": [2, 3]},
            {"id": "b2", "reason": "uncertain", "p": 1.0, "batch": 2, "seen": []},
        ],
    ),
    (state.CLASS_PROPOSALS, {"last": 3, "groups": {"2": ["a1", "b2"], "3": ["c3"]}}),
    (state.NOTIFIER, {"audit": 12, "report": 4}),
    (state.ROLLOUT, {**LIVE, "reasons": ["nothing was proven"], **COUNTS, "waiting": 3, **PROVEN}),
    (state.ROLLOUT, {**LIVE, "reasons": [], **COUNTS, "waiting": 0, "gained": 0.5, "lost": 1.25, **PROVEN}),
    (state.PROBATION_FIGURES, {**LIVE, "phase": "probation", "reasons": [], **COUNTS, "waiting": 0, **PROVEN}),
    (state.PROBATION, {"cycle": 3, "champion": 2, "previous": 1, "since": NOON, "until": NOON}),
    (state.DISPUTED, {"champion": 1, "challenger": 2, "ids": ["a1", "b2"]}),
    (
        state.ROLLOUT_POWER,
        {
            "cycle": 3,
            "sentence": "with about 40 labels an hour this can see 1.8 points in a day",
            "labels_per_hour": 40.0,
            "disagreement": 0.06,
            "come_points": 1.8,
            "asked_points": None,
            "canary": "no canary: about 2 labels come within its limit of 1 h",
        },
    ),
    (
        state.ENGINE_CHOICE,
        {"champion": 1, "encoder": "e", "processor": "p", "version": 2, "at": NOON, "tried": [{"engine": "openvino"}]},
    ),
    (state.LANE, {"works": False, "behind": ["a", "b"], "since": NOON}),
    (state.CANARY_BEGAN, {"cycle": 3, "at": NOON}),
    (state.LIMIT_TESTED, 3),
    (state.RETRIES, WAIT),
    (state.REMOVED, {"by": "ann", "at": NOON}),
    (state.PAUSED, True),
    (state.PAUSED, False),
    (state.TAINTED, ["sha256:a", "sha256:b"]),
    (state.TAINTED, []),
    (state.QUARANTINED_FILES, ["1-1-damaged.parquet"]),
]


@pytest.fixture(scope="module", params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path_factory.mktemp("state"))) as opened:
        opened.register_model("intent", {"task": "text_classification"})
        yield opened


@pytest.mark.parametrize(("key", "written"), AS_WRITTEN, ids=lambda value: getattr(value, "name", ""))
def test_a_state_reads_back_and_is_written_as_it_always_was(ledger: Ledger, key: StateKey[Any], written: Any) -> None:
    ledger.put_state("intent", key.name, written)
    record = key.read(ledger, "intent")
    assert record is not None
    key.keep(ledger, "intent", None)
    assert key.read(ledger, "intent") is None
    key.keep(ledger, "intent", record)
    assert ledger.get_state("intent", key.name) == written
    assert key.read(ledger, "intent") == record


def test_every_state_has_its_case_here() -> None:
    names = {name for name in state.__all__ if name.isupper()}
    assert {getattr(state, name).name for name in names} == {key.name for key, _ in AS_WRITTEN}


@pytest.mark.parametrize(
    ("key", "written", "record"),
    [
        (
            state.WATCH,
            WATCHED,  # before rows of one microsecond were told apart, and before answers were followed one by one
            WatchState(
                version=2, cursor=NOON, reference_ready=True, requests=600, windows=2, monitor=MONITOR, cursor_id=""
            ),
        ),
        (state.WATCH, {}, None),
        (state.ERRORS, {"version": 2, "cursor": 40}, ErrorState(version=2, cursor=40)),
        (
            state.ACCURACY,
            {"version": 2, "at": NOON, "estimated": ESTIMATE},
            ModelAccuracy(
                version=2,
                at=datetime.fromisoformat(NOON),
                estimated=AccuracyEstimate(value=0.9, low=0.8, high=0.95, rows=300, assumption="none", contested=0),
            ),
        ),
        (
            state.LABEL_QUEUE,
            [{"id": "a1", "reason": "uniform", "p": 1}],  # before batches
            (QueueChoice(prediction_id="a1", reason="uniform", probability=1.0, batch=0, seen=()),),
        ),
        (
            state.CLASS_PROPOSALS,
            {"1": ["a1"], "2": ["b2"]},  # before numbers stayed
            KeptProposals(last=2, groups={1: ("a1",), 2: ("b2",)}),
        ),
        (
            state.ROLLOUT,
            {**LIVE, **COUNTS, **PROVEN},  # before labels were waited for
            LiveFigures(**LIVE, **COUNTS, **PROVEN, waiting=0, reasons=()),  # type: ignore[arg-type]
        ),
        (state.RETRIES, WAIT | {"of_a_newer_release": [1]}, RetriedStep(**WAIT)),  # type: ignore[arg-type]
    ],
)
def test_a_state_of_another_release_is_read_as_far_as_it_goes(
    ledger: Ledger, key: StateKey[Any], written: Any, record: Any
) -> None:
    ledger.put_state("intent", key.name, written)
    assert key.read(ledger, "intent") == record


@pytest.mark.parametrize(
    ("key", "written"),
    [
        (state.WATCH, {"cursor": NOON}),
        (state.WATCH, "2"),
        (state.ACCURACY, {"version": 2, "at": "noon"}),
        (state.LABEL_QUEUE, [{"id": "a1"}]),
        (state.LIMIT_TESTED, "three"),
    ],
)
def test_what_no_release_wrote_is_refused_with_its_place(ledger: Ledger, key: StateKey[Any], written: Any) -> None:
    ledger.put_state("intent", key.name, written)
    with pytest.raises(DataError, match=f"state '{key.name}' of intent cannot be read .* model_state"):
        key.read(ledger, "intent")


def test_states_are_named_and_read_in_one_place() -> None:
    asks = re.compile(r"\b(get_state|put_state)\(")
    found = {str(path.relative_to(OPS)) for path in OPS.rglob("*.py") if asks.search(path.read_text(encoding="utf-8"))}
    assert found == {"ledger/cycles.py", "ledger/ports.py", "store/state.py"}
