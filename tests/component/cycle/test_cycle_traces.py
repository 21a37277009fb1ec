"""A cycle that closes is told to a collector as one trace, whose steps have the journal's times."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial.ops.app.cycle_traces import CycleTraces, step_spans
from perennial.ops.ledger import JournalRow, Ledger, Phase
from perennial.ops.store.event_feed import EventFeed
from tests.component.otlp_receiver import facts_of, receiving

pytestmark = pytest.mark.component
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STORY = (
    (0, "TrainChallenger", Phase.INTENT, {}),
    (2, "TrainChallenger", Phase.INTENT, {}),  # a process was killed in between
    (10, "TrainChallenger", Phase.OUTCOME, {"event": "ChallengerTrained"}),
    (11, "SetShare", Phase.INTENT, {"share": 0.1}),  # it is watched, and has no outcome of its own
    (20, "SetShare", Phase.INTENT, {"share": 0.5}),
    (30, "PromoteChallenger", Phase.INTENT, {}),
    (31, "PromoteChallenger", Phase.OUTCOME, {"event": "StepFailed"}),
    (32, "CloseCycle", Phase.INTENT, {}),
)


def test_steps_of_a_journal_are_spans_of_time() -> None:
    rows = [
        JournalRow(id=number, cycle_id=1, model="intent", step=step, phase=phase, payload=payload, at=_at(second))
        for number, (second, step, phase, payload) in enumerate(STORY)
    ]
    spans = [
        (span.step, _second(span.begins), _second(span.ends), span.tries, span.outcome)
        for span in step_spans(rows, _at(40))
    ]
    assert spans == [
        ("TrainChallenger", 0, 10, 2, "ChallengerTrained"),
        ("SetShare", 11, 30, 2, ""),
        ("PromoteChallenger", 30, 31, 1, "StepFailed"),
        ("CloseCycle", 32, 40, 1, ""),
    ]
    assert step_spans([], NOON) == ()


def test_a_closed_cycle_is_one_trace(tmp_path: Path) -> None:
    clock = [NOON]
    with receiving() as receiver, Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=lambda: clock[0]) as ledger:
        ledger.register_model("intent", {})
        feed = EventFeed()
        traces = CycleTraces(ledger, feed, receiver.url, every_s=0.02)
        traces.start()
        cycle = ledger.open_cycle("intent", "drift", {"challenger": 3}, state="training")
        for second, step, phase, payload in STORY:
            clock[0] = _at(second)
            ledger.journal(cycle, "intent", step, phase, payload)
        clock[0] = _at(40)
        ledger.close_cycle(cycle, "failed", "the disk refuses")
        feed.record("intent", "cycle.closed", cycle=cycle)
        feed.record("intent", "cycle.closed", cycle=99)  # of which nobody knows anything
        traces.stop(within_s=10.0)
        spans = receiver.wait(lambda seen: len(seen) >= 5)
    assert len({span.trace_id for span in spans}) == 1
    (root,) = [span for span in spans if not span.parent_span_id]
    assert facts_of(root) == {
        "perennial.model": "intent",
        "perennial.cycle": cycle,
        "perennial.version": 3,
        "perennial.reason": "drift",
        "perennial.outcome": "failed",
        "perennial.note": "the disk refuses",
    }
    assert (_of_ns(root.start_time_unix_nano), _of_ns(root.end_time_unix_nano)) == (0, 40)
    steps = {span.name: span for span in spans if span.parent_span_id == root.span_id}
    assert set(steps) == {"TrainChallenger", "SetShare", "PromoteChallenger", "CloseCycle"}
    trained = steps["TrainChallenger"]
    assert (_of_ns(trained.start_time_unix_nano), _of_ns(trained.end_time_unix_nano)) == (0, 10)
    assert facts_of(trained) == {"perennial.outcome": "ChallengerTrained", "perennial.tries": 2}
    assert [name for name, span in steps.items() if span.status.code == 2] == ["PromoteChallenger"]


def test_what_never_began_is_stopped(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        CycleTraces(ledger, EventFeed(), "http://127.0.0.1:9/v1/traces").stop(within_s=1.0)


def _at(second: float) -> datetime:
    return NOON + timedelta(seconds=second)


def _second(moment: datetime) -> int:
    return round((moment - NOON).total_seconds())


def _of_ns(unix_ns: int) -> int:
    return _second(datetime.fromtimestamp(unix_ns / 1e9, UTC))
