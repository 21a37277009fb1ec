"""What becomes of a cycle when something breaks: each fault has one outcome and one message."""

import errno
import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perennial.continual import cycle as cy
from perennial.continual.cycle import decode, encode
from perennial.continual.errors import (
    BundleRejected,
    ConfigurationError,
    DependencyUnreachable,
    ExportFailed,
    ParityFailed,
    PerennialError,
    PublishFailed,
    TrainingFailed,
)
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import JobResult
from perennial.continual.records import Example, Route, Split
from perennial.continual.route import pinned, promoted, rolled_back, with_challenger
from perennial.ops.comparing import comparison as comparison_module
from perennial.ops.comparing.comparison import ArmComparison
from perennial.ops.cycle.runner import CycleRunner, StepContext
from perennial.ops.cycle.steps import LoopSteps
from perennial.ops.cycle.waiting import Waited
from perennial.ops.ledger import Fence, Phase, VersionRow, VersionState
from perennial.ops.making import version_maker as version_maker_module
from perennial.ops.making.challenger import ChallengerMaker
from perennial.ops.making.rows import ModelRows, TrainingRows
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.route_changes import change_route
from perennial.ops.store.state import PAUSED
from tests.component.town import KNOWN, Town
from tests.unit.learning.cards import text_card

pytestmark = [pytest.mark.component, pytest.mark.paired]


class Breaking:
    """Steps that do what the test says, and remember what they were asked."""

    def __init__(self, work: Callable[[cy.Command], cy.Event | None]) -> None:
        self._work = work
        self.commands: list[str] = []

    def execute(self, command: cy.Command, context: StepContext) -> cy.Event | None:
        self.commands.append(type(command).__name__)
        return self._work(command)

    def watch_beside(self) -> None:
        """Nothing is on probation beside it."""

    def cancel(self) -> None:
        """Nothing is at work."""


def led(town: Town, work: Callable[[cy.Command], cy.Event | None]) -> tuple[CycleRunner, Breaking, int]:
    """A runner that leads, with a cycle in training."""
    fence = Fence(name="loop", epoch=town.ledger.acquire_lease("loop", "test"))
    steps = Breaking(work)
    runner = CycleRunner(town.ledger, town.workspace, "intent", steps, EventFeed(), lambda: fence)
    number = runner.fire("a test", actor="ann")
    assert number is not None
    return runner, steps, number


def at(town: Town, number: int, state: cy.CycleState) -> None:
    """Put the cycle into a state, as if it had come there."""
    row = town.ledger.cycle(number)
    town.ledger.save_cycle(number, state.value, encode(replace(decode(row.payload), state=state)))


def raising(error: Exception) -> Callable[[cy.Command], cy.Event | None]:
    def work(command: cy.Command) -> cy.Event | None:
        if isinstance(command, cy.TrainChallenger | cy.PublishChallenger | cy.Promote):
            raise error
        return None

    return work


@pytest.mark.parametrize("state", [cy.CycleState.TRAINING, cy.CycleState.PUBLISHING, cy.CycleState.PROMOTING])
@pytest.mark.parametrize(
    ("error", "outcome", "note"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "failed",
            "the disk refuses .*free some space, then retrain",
        ),
        (PublishFailed("Triton refuses: out of memory"), "failed", "out of memory"),
        (BundleRejected("model.onnx is altered"), "refused", "model.onnx is altered"),
    ],
)
def test_a_broken_step_ends_the_cycle_with_its_reason(
    town: Town, state: cy.CycleState, error: Exception, outcome: str, note: str
) -> None:
    runner, steps, number = led(town, raising(error))
    at(town, number, state)
    while runner.advance():
        pass
    row = town.ledger.cycle(number)
    assert row.outcome == outcome
    assert steps.commands[1:] == ["AbortChallenger"]
    assert re.search(note, row.note)
    journal = [(entry.step, entry.phase) for entry in town.ledger.journal_of(number)]
    assert journal == [(step, phase) for step in steps.commands for phase in (Phase.INTENT, Phase.OUTCOME)]
    closed = town.ledger.audit_entries("intent")[-1]
    assert (closed.action, closed.detail["outcome"]) == ("cycle.closed", outcome)


def test_what_is_away_is_waited_for_and_its_intent_is_written_once(
    make_town: Callable[..., Town], monkeypatch: pytest.MonkeyPatch
) -> None:
    town = make_town()
    monkeypatch.setattr("perennial.ops.cycle.runner._RETRY_S", 0.01)
    left = [3]

    def work(command: cy.Command) -> cy.Event | None:
        left[0] -= 1
        if left[0] >= 0:
            raise DependencyUnreachable("Triton does not answer")
        return cy.ChallengerTrained()

    runner, steps, number = led(town, work)
    assert [runner.advance() for _ in range(4)] == [False, False, False, True]
    assert town.ledger.cycle(number).state == "exporting"
    assert len(steps.commands) == 4
    assert [entry.phase for entry in town.ledger.journal_of(number)] == [Phase.INTENT, Phase.OUTCOME]


def test_a_ledger_that_is_locked_for_long_delays_the_cycle_and_loses_nothing(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("perennial.ops.cycle.runner._RETRY_S", 0.05)
    event = cy.StepFailed(error="the test is over")
    runner, _, number = led(town, lambda command: event if isinstance(command, cy.TrainChallenger) else None)
    town.ledger.engine.dispose()
    monkeypatch.setattr("perennial.ops.ledger.ledger.BUSY_S", 0.05)  # new connections wait so long for a lock
    other = sqlite3.connect(town.ledger.engine.url.database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    runner.start()
    time.sleep(0.5)
    assert town.ledger.cycle(number).state == "training"
    other.execute("ROLLBACK")
    other.close()
    end = time.monotonic() + 10
    while town.ledger.cycle(number).closed_at is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    runner.stop()
    assert town.ledger.cycle(number).outcome == "failed"
    messages = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert any("database is locked; check that the database runs" in line for line in messages)


def test_an_approval_expires_by_what_was_waited_and_not_by_a_clock_that_jumps(town: Town) -> None:
    steps = _real_steps(town)
    cycle = cy.new_cycle(model="intent", champion=1, plan=cy.CyclePlan(approval=True))
    cycle = replace(cycle, state=cy.CycleState.APPROVAL, challenger=2)
    deadline_s = town.workspace.model("intent").cycle.approval_deadline_s
    for waited, event in (
        (Waited(waited_s=deadline_s - 1, watched_s=deadline_s - 1), None),
        (Waited(waited_s=2 * deadline_s, watched_s=1.0), None),  # as the wall clock says right after a start
        (Waited(waited_s=2 * deadline_s, watched_s=90.0), cy.ApprovalExpired()),
    ):
        context = StepContext(cycle_id=1, cycle=cycle, entered_at=_now() - timedelta(days=900), waited=waited)
        assert steps.execute(cy.RequestApproval(challenger=2), context) == event


def test_a_step_whose_time_lies_ahead_is_dated_anew_once(
    town: Town, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[cy.Command] = []
    runner, _, number = led(town, seen.append)
    with monkeypatch.context() as wrong:
        wrong.setattr(town.ledger, "_clock", lambda: _now() + timedelta(days=900))
        at(town, number, cy.CycleState.APPROVAL)
    before = town.ledger.cycle(number)
    assert before.saved_at - _now() > timedelta(days=899)
    for _ in range(3):
        runner.advance()
    after = town.ledger.cycle(number)
    assert abs(after.saved_at - _now()) < timedelta(seconds=60)
    assert (after.state, after.payload) == (before.state, before.payload)
    assert [record.message for record in caplog.records].count("cycle.time_healed") == 1
    assert len(seen) == 3


def test_a_stop_waits_for_a_step_that_hangs_no_longer_than_told(town: Town) -> None:
    free, began = threading.Event(), threading.Event()

    def hang(_: cy.Command) -> cy.Event | None:
        began.set()
        free.wait(120)
        return None

    runner, _, number = led(town, hang)
    assert runner.stop(), "it has not begun"
    runner = CycleRunner(town.ledger, town.workspace, "intent", Breaking(hang), EventFeed(), runner._lead)
    runner.start()
    assert began.wait(20)
    start = time.monotonic()
    assert not runner.stop(within_s=0.2)
    assert time.monotonic() - start < 20
    free.set()
    assert runner.stop(within_s=20)
    assert town.ledger.cycle(number).closed_at is None, "the next start repeats the step"


def test_a_pause_holds_what_goes_well_and_lets_through_what_does_not(town: Town) -> None:
    events: list[cy.Event | None] = [cy.ProbationPassed(), None, cy.ProbationFailed(reasons=("worse",))]
    runner, _, number = led(town, lambda command: events.pop(0) if isinstance(command, cy.StartProbation) else None)
    at(town, number, cy.CycleState.PROBATION)
    _champion(town, decode(town.ledger.cycle(number).payload).challenger or 0)
    town.ledger.request_command("intent", "pause", {}, "ann")
    assert not runner.advance()
    assert not runner.advance()
    assert town.ledger.cycle(number).state == "probation"
    assert runner.advance()
    assert town.ledger.cycle(number).state == "rolled_back"
    waiting = [entry for entry in town.ledger.journal_of(number) if entry.step == "StartProbation"]
    assert [entry.phase for entry in waiting] == [Phase.INTENT, Phase.OUTCOME]


@pytest.mark.parametrize("flipped", [False, True])
def test_a_pause_holds_a_promotion_until_its_flip_and_not_after_it(town: Town, flipped: bool) -> None:
    """The process was killed between the flip and the promotion's outcome, and somebody paused meanwhile."""
    runner, _, number = led(town, lambda command: cy.Promoted() if isinstance(command, cy.Promote) else None)
    at(town, number, cy.CycleState.PROMOTING)
    if flipped:
        _champion(town, decode(town.ledger.cycle(number).payload).challenger or 0)
    PAUSED.keep(town.ledger, "intent", True)
    assert runner.advance() == flipped
    assert town.ledger.cycle(number).state == ("probation" if flipped else "promoting")


def test_a_rollback_that_changed_nothing_ends_no_cycle(town: Town) -> None:
    runner, _, number = led(town, lambda _: None)
    command = town.ledger.request_command("intent", "rolled_back", {}, "ann")
    runner.advance()
    assert (town.ledger.command(command).outcome, town.ledger.cycle(number).state) == ("done", "training")


@pytest.mark.parametrize("killed", [2, 3])
def test_a_killed_job_is_begun_again_twice_and_then_told_as_killed(town: Town, tmp_path: Path, killed: int) -> None:
    maker = ChallengerMaker(town.ledger, town.workspace, "intent")
    spec = tmp_path / "job.json"
    spec.write_text(json.dumps({"runs": 0, "killed": killed}))
    result = maker._run("tests.component.cycle.killed_job", tmp_path, "job", 30.0, lambda _: None)
    document = json.loads(spec.read_text())
    assert document["runs"] == 3
    assert document["nice"] >= town.workspace.model("intent").learning.niceness
    assert result.exit_code == (0 if killed == 2 else -9)
    message = str(JobErrors(what="training of intent version 2", failed=TrainingFailed).of(result))
    assert killed == 2 or "ended by SIGKILL 3 times (the system may be out of memory)" in message


@pytest.mark.parametrize(
    ("exit_code", "error"), [(BundleRejected.exit_code, BundleRejected), (-11, ExportFailed), (1, ExportFailed)]
)
def test_a_test_load_that_fails_keeps_the_challenger_from_triton(
    town: Town, monkeypatch: pytest.MonkeyPatch, exit_code: int, error: type[PerennialError]
) -> None:
    result = JobResult(exit_code=exit_code, cancelled=False, timed_out=False, tail="BundleRejected: differs by 0.5")
    monkeypatch.setattr(version_maker_module, "run_job", lambda *_, **__: result)
    town.ledger.add_version(VersionRow(model="intent", version=2, parent=1))
    maker = ChallengerMaker(town.ledger, town.workspace, "intent")
    with pytest.raises(error, match=r"differs by 0\.5"):
        maker.judge(2, town.ledger.version("intent", 1))


@pytest.mark.parametrize("error", [ParityFailed, BundleRejected, ConfigurationError, ExportFailed])
def test_an_export_that_failed_says_which_error_it_was(
    town: Town, monkeypatch: pytest.MonkeyPatch, error: type[PerennialError]
) -> None:
    town.ledger.add_version(VersionRow(model="intent", version=2, parent=1))
    maker = ChallengerMaker(town.ledger, town.workspace, "intent")

    def run(*_: object, **__: object) -> JobResult:
        maker.report(2).write_text(json.dumps({"error": error.__name__, "message": "what was wrong"}))
        return JobResult(exit_code=error.exit_code, cancelled=False, timed_out=False, tail="a line")

    monkeypatch.setattr(version_maker_module, "run_job", run)
    rows = TrainingRows(fresh=(), replay=(), learnt=())
    with pytest.raises(PerennialError, match="what was wrong") as raised:
        maker.export(2, town.ledger.version("intent", 1), rows, None, lambda _: None)
    assert type(raised.value) is error


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_shadow_that_was_stopped_or_broke_is_no_refusal(
    town: Town, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    town.ask(60)
    seen: dict[str, Any] = {}

    def run(*_: object, **given: Any) -> JobResult:
        seen.update(given)
        return JobResult(exit_code=-15, cancelled=cancelled, timed_out=False, tail="")

    monkeypatch.setattr(comparison_module, "run_job", run)
    comparison = _real_steps(town).comparison
    with pytest.raises(PublishFailed, match="was cancelled" if cancelled else "was ended by SIGTERM"):
        comparison.shadow(champion=1, challenger=2)
    assert seen["niceness"] == 19, "live requests come first"
    spec = json.loads((town.workspace.run("intent", 2) / "shadow.json").read_text())
    assert (len(spec["rows"]), spec["threads"], spec["rows_per_s"]) == (60, 1, 100.0)


def test_an_operators_rollback_right_after_the_flip_leaves_one_champion(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, context = _rollout(town, cy.CycleState.PROMOTING)

    def roll_back(*_: object) -> int:
        _operator(town, rolled_back())
        return 0

    monkeypatch.setattr(ModelRows, "remember", roll_back)
    assert steps.execute(cy.Promote(challenger=2), context) == cy.Promoted()
    assert _route(town).champion == 1
    assert _champions(town) == [1]


def test_an_operators_promotion_right_before_the_flip_is_not_undone(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, context = _rollout(town, cy.CycleState.PROMOTING)
    town.ledger.add_version(VersionRow(model="intent", version=3, state=VersionState.PUBLISHED, parent=1))

    def promote(*_: object) -> TrainingRows:
        _operator(town, pinned(3))
        _operator(town, promoted(3, resident=3))
        return TrainingRows(fresh=(), replay=(), learnt=())

    monkeypatch.setattr(ModelRows, "taught_rows", promote)
    assert steps.execute(cy.Promote(challenger=2), context) is None
    assert (_route(town).champion, _champions(town)) == (3, [3])


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_a_challenger_that_an_operator_promotes_during_its_step_stays_champion(
    town: Town, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    steps, context = _rollout(town, cy.CycleState.CANARY if share else cy.CycleState.PUBLISHING)
    monkeypatch.setattr("perennial.ops.making.version_maker.verify_bundle", lambda _, **__: None)
    town.workspace.bundle("intent", 2).mkdir(parents=True)
    _operator(town, promoted(2, resident=2))
    command = cy.SetShare(challenger=2, share=share) if share else cy.PublishChallenger(challenger=2)
    assert steps.execute(command, context) is None
    assert (_route(town).champion, _route(town).challenger, _champions(town)) == (2, None, [2])


@pytest.mark.parametrize("aborted", [False, True])
def test_the_champion_of_before_is_loaded_again_where_it_was_unloaded(town: Town, aborted: bool) -> None:
    state = cy.CycleState.ABORTED if aborted else cy.CycleState.ROLLED_BACK
    steps, context = _rollout(town, state)
    _operator(town, promoted(2, resident=2))
    _operator(town, lambda route: replace(route, previous=None, resident=(2,)))
    command = cy.AbortChallenger(challenger=2) if aborted else cy.RollBack(to=1, reasons=("worse",))
    assert steps.execute(command, context) is None
    assert (_route(town).champion, _champions(town)) == (1, [1])


def test_the_loop_wakes_a_version_before_it_leads_to_it_and_leads_to_none_that_cannot_answer(town: Town) -> None:
    woken = list[tuple[int, int]]()

    def wake(_: str, version: int) -> None:
        woken.append((version, _route(town).champion))
        if len(woken) > 1:
            raise PublishFailed("it cannot answer")

    steps, context = _rollout(town, cy.CycleState.PROMOTING)
    steps = replace(steps, reconciler=SimpleNamespace(reconcile=lambda _: None, wake=wake))
    assert steps.execute(cy.Promote(challenger=2), context) == cy.Promoted()
    with pytest.raises(PublishFailed, match="cannot answer"):
        steps.execute(cy.RollBack(to=1, reasons=("worse",)), context)
    assert (woken, _route(town).champion) == ([(2, 1), (1, 2)], 2)


def test_labels_that_came_after_a_training_began_are_not_taken_for_learnt(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training is complete when its process is killed; another label comes before the next start."""
    town.ledger.add_examples("intent", [_example("my card is lost")], lambda _: Split.TRAIN)
    town.ledger.add_version(VersionRow(model="intent", version=2, parent=1, lineage={"reason": "test"}))
    steps = _real_steps(town)
    context = _context(cy.CycleState.TRAINING)

    def train(*_: object, **__: object) -> JobResult:
        trained = town.workspace.run("intent", 2) / "trained"
        text_card(labels=tuple(KNOWN)).write(trained)
        town.ledger.add_examples("intent", [_example("a second lost card")], lambda _: Split.TRAIN)
        raise KeyboardInterrupt  # as a kill: nothing of the step comes after it

    monkeypatch.setattr(version_maker_module, "run_job", train)
    with pytest.raises(KeyboardInterrupt):
        steps.execute(cy.TrainChallenger(challenger=2), context)
    monkeypatch.setattr("perennial.ops.making.version_maker.keep_encoder", lambda *_: None)
    assert steps.execute(cy.TrainChallenger(challenger=2), context) == cy.ChallengerTrained()
    left = town.ledger.examples("intent", split=Split.TRAIN, not_learnt_by=2)
    assert [row.example.text for row in left] == ["a second lost card"]
    lineage = town.ledger.version("intent", 2).lineage
    assert (lineage["rows"], lineage["last_example_id"]) == (1, left[0].id - 1)
    taught = steps.maker.rows.taught_rows(2, town.ledger.version("intent", 1))
    assert [row.example.text for row in taught.fresh] == ["my card is lost"]


def _example(text: str) -> Example:
    return Example(text=text, label=KNOWN[0], at=_now())


def _context(state: cy.CycleState) -> StepContext:
    cycle = cy.new_cycle(model="intent", champion=1, plan=cy.CyclePlan(canary_shares=(0.05,)))
    return StepContext(cycle_id=1, cycle=replace(cycle, state=state, challenger=2), entered_at=_now())


def _rollout(town: Town, state: cy.CycleState) -> tuple[LoopSteps, StepContext]:
    """Steps of a cycle in that state, whose challenger 2 is loaded; no server is asked."""
    town.ledger.add_version(VersionRow(model="intent", version=2, state=VersionState.RESIDENT, parent=1))
    _operator(town, with_challenger(2, 0.0, resident=2))
    reconciler = SimpleNamespace(reconcile=lambda _: None, wake=lambda *_: None)
    return replace(_real_steps(town), reconciler=reconciler), _context(state)


def _operator(town: Town, change: Callable[[Route], Route]) -> None:
    change_route(town.ledger, town.workspace, "intent", change, actor="ann", reason="a test")


def _route(town: Town) -> Route:
    route = town.ledger.route("intent")
    assert route is not None
    return route


def _champions(town: Town) -> list[int]:
    return [row.version for row in town.ledger.versions("intent") if row.state is VersionState.CHAMPION]


def _real_steps(town: Town) -> LoopSteps:
    maker = ChallengerMaker(town.ledger, town.workspace, "intent")
    comparison = ArmComparison(
        model="intent",
        ledger=town.ledger,
        workspace=town.workspace,
        traffic=town.traffic,
        feed=EventFeed(),
        evidence=None,  # type: ignore[arg-type]
        cancel=threading.Event(),
    )
    return LoopSteps(
        model="intent",
        ledger=town.ledger,
        workspace=town.workspace,
        repository=ModelRepository(town.workspace.repository),
        reconciler=None,  # type: ignore[arg-type]
        maker=maker,
        comparison=comparison,
        feed=EventFeed(),
    )


def _champion(town: Town, version: int) -> None:
    route = town.ledger.route("intent")
    assert route is not None
    after = replace(route, epoch=route.epoch + 1, champion=version, previous=1, resident=(1, version))
    town.ledger.set_route(after, expected_epoch=route.epoch, actor="test", reason="test")


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)
