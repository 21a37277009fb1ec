"""What the runner makes of a step that fails, of a command that cannot be carried out, and of a pause."""

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from perennial.continual import cycle as cy
from perennial.continual.cycle import decode, encode
from perennial.continual.errors import BundleRejected, DependencyUnreachable, PublishFailed, Refused
from perennial.continual.records import Route
from perennial.continual.route import promoted
from perennial.ops.commands.promotion import roll_back_version
from perennial.ops.commands.rollout import request_command
from perennial.ops.cycle.runner import CycleRunner, StepContext
from perennial.ops.ledger import Conflict, Ledger, Phase, VersionRow, VersionState
from perennial.ops.store.route_changes import change_route
from perennial.ops.store.state import PAUSED
from perennial.ops.views.rollout import rollout_view
from tests.component.cycle.test_faults import _real_steps, at, led
from tests.component.town import Town

pytestmark = [pytest.mark.component, pytest.mark.paired]
_CLOSING = {
    cy.CycleState.ROLLED_BACK: "RollBack",
    cy.CycleState.ABORTED: "AbortChallenger",
    cy.CycleState.REFUSED: "AbortChallenger",
}
_FAULTS = [
    OSError(errno.EIO, "Input/output error"),
    Refused("version 1 of intent is not loaded"),
    PublishFailed("version 1 did not come up"),
    BundleRejected("model.onnx is altered"),
    DependencyUnreachable("Triton does not answer"),
]


class Failing:
    """Work that fails so many times, and then is done."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.left = error, times

    def __call__(self, _: cy.Command) -> cy.Event | None:
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return None


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at once."""
    monkeypatch.setattr("perennial.ops.cycle.runner._RETRY_S", 0.0)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("state", list(_CLOSING))
@pytest.mark.parametrize("error", _FAULTS, ids=lambda error: type(error).__name__)
def test_a_cycle_is_closed_only_after_its_outcome_was_carried_out(
    town: Town, caplog: pytest.LogCaptureFixture, state: cy.CycleState, error: Exception
) -> None:
    runner, steps, number = led(town, Failing(error, 2))
    at(town, number, state)
    assert [runner.advance(), runner.advance()] == [False, False]
    assert town.ledger.cycle(number).closed_at is None
    waits = rollout_view(town.ledger, "intent").waits
    assert waits is not None
    assert (waits.cycle, waits.step, waits.error) == (number, _CLOSING[state], str(error))
    assert [record.message for record in caplog.records].count("cycle.step_waits") == 2
    waiting = [h.facts["step"] for h in runner._feed.since(0) if h.name == "cycle.step_waits"]
    assert waiting == [_CLOSING[state]], "once, while the reason is the same"
    assert runner.advance()
    assert town.ledger.cycle(number).outcome == state.value
    assert rollout_view(town.ledger, "intent").waits is None
    assert steps.commands == [_CLOSING[state]] * 3
    journal = [(entry.step, entry.phase) for entry in town.ledger.journal_of(number)]
    assert journal == [(_CLOSING[state], Phase.INTENT), (_CLOSING[state], Phase.OUTCOME)]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(("error", "tries"), [(_FAULTS[0], 1), (_FAULTS[1], 1), (_FAULTS[4], 3)])
def test_a_promotions_leftovers_keep_no_cycle_open_for_ever(town: Town, error: Exception, tries: int) -> None:
    runner, steps, number = led(town, Failing(error, 2))
    at(town, number, cy.CycleState.PROMOTED)
    assert [runner.advance() for _ in range(tries)] == [False] * (tries - 1) + [True]
    assert steps.commands == ["ReleaseOld"] * tries
    assert town.ledger.cycle(number).outcome == "promoted"


def test_a_stop_in_the_middle_of_a_rollback_leaves_the_cycle_open(town: Town) -> None:
    def stopped(_: cy.Command) -> cy.Event | None:
        runner.stop()
        raise PublishFailed("the pass was given up")

    runner, _, number = led(town, stopped)
    at(town, number, cy.CycleState.ROLLED_BACK)
    assert not runner.advance()
    assert town.ledger.cycle(number).closed_at is None


def test_a_rollback_that_cannot_succeed_waits_longer_each_time_and_holds_up_no_command(town: Town) -> None:
    runner, steps, number = led(town, Failing(Refused("version 1 of intent is not loaded"), 1000))
    at(town, number, cy.CycleState.ROLLED_BACK)
    assert not any(runner.advance() for _ in range(5))
    assert steps.commands == ["RollBack"], "not in a hot loop"
    commands = [town.ledger.request_command("intent", kind, {}, "ann") for kind in ("pause", "abort", "resume")]
    assert not runner.advance()
    outcomes = [str(town.ledger.command(command).outcome) for command in commands]
    assert [outcome.split(":")[0] for outcome in outcomes] == ["done", "refused", "done"]
    pauses = [runner._again_at - time.monotonic()]
    for _ in range(8):
        runner._again_at = 0.0
        assert not runner.advance()
        pauses.append(runner._again_at - time.monotonic())
    assert [round(pause) for pause in pauses] == [1, 2, 4, 8, 16, 30, 30, 30, 30]


@pytest.mark.usefixtures("soon")
def test_a_rollback_to_a_version_that_does_not_load_is_over_once_an_operator_has_chosen(town: Town) -> None:
    runner, number = _with_real_steps(town, champion=2, resident=(2, 3))

    def refuse(_: str) -> None:
        raise PublishFailed("version 1 of intent does not load")

    runner._steps = replace(runner._steps, reconciler=SimpleNamespace(reconcile=refuse, wake=lambda *_: None))
    at(town, number, cy.CycleState.ROLLED_BACK)
    assert not runner.advance()
    assert _route(town.ledger).champion == 2
    waits = rollout_view(town.ledger, "intent").waits
    assert waits is not None
    assert "version 1 of intent does not load" in waits.error
    change_route(town.ledger, town.workspace, "intent", promoted(3, resident=3), actor="ann", reason="by hand")
    assert runner.advance()
    assert town.ledger.cycle(number).outcome == "rolled_back"
    assert _route(town.ledger).champion == 3


def test_a_retraining_that_loses_a_race_is_refused_and_the_commands_after_it_are_carried_out(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, number = _idle(town)

    def lost(*_: object, **__: object) -> int:
        raise Conflict("intent has cycle 7 under way; close or abort it before opening another")

    monkeypatch.setattr(town.ledger, "open_cycle", lost)
    retrain = town.ledger.request_command("intent", "retrain", {}, "ann")
    pause = town.ledger.request_command("intent", "pause", {}, "ann")
    assert runner.advance()
    assert str(town.ledger.command(retrain).outcome).startswith("refused: intent has cycle 7 under way")
    assert town.ledger.command(pause).outcome == "done"
    assert [row.id for row in town.ledger.cycles("intent")] == [number]
    assert [row.cycle_id for row in town.ledger.versions("intent") if row.parent] == [number]


def test_a_retraining_that_opens_no_cycle_is_not_done(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, _ = _idle(town)
    take = town.ledger.take_commands

    def taken(model: str) -> Any:
        commands = take(model)
        runner.fire("drift", actor="policy")
        return commands

    monkeypatch.setattr(town.ledger, "take_commands", taken)
    retrain = town.ledger.request_command("intent", "retrain", {}, "ann")
    assert runner.advance()
    assert str(town.ledger.command(retrain).outcome).startswith("refused: retrain opens no cycle")


@pytest.mark.usefixtures("soon")
def test_commands_are_carried_out_after_a_ledger_that_was_away_between_taking_and_answering(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, _ = _idle(town)
    finish, left = town.ledger.finish_command, [1]

    def away(command_id: int, outcome: str) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise DependencyUnreachable("database is locked")
        finish(command_id, outcome)

    monkeypatch.setattr(town.ledger, "finish_command", away)
    kinds = ("pause", "retrain", "resume")
    commands = [town.ledger.request_command("intent", kind, {}, "ann") for kind in kinds]
    runner.start()
    try:
        _until(lambda: all(town.ledger.command(command).outcome for command in commands))
    finally:
        runner.stop()
    assert [town.ledger.command(command).outcome for command in commands] == ["done"] * 3
    assert len(town.ledger.cycles("intent")) == 2


@pytest.mark.usefixtures("soon")
def test_one_failure_in_an_old_state_ends_nothing(make_town: Callable[..., Town]) -> None:
    town = make_town(cycle={"step_patience_s": 0.3})
    error = DependencyUnreachable("database is locked")
    failing = Failing(error, 1)
    runner, _, number = led(town, failing)
    at(town, number, cy.CycleState.PROBATION)
    _set_route(town, champion=_challenger(town, number))
    time.sleep(0.4)
    assert not runner.advance()
    assert town.ledger.cycle(number).state == "probation"
    assert not runner.advance()
    time.sleep(0.4)
    failing.left = 1000
    assert not runner.advance(), "the step had worked in between"
    assert town.ledger.cycle(number).state == "probation"
    time.sleep(0.4)
    assert runner.advance()
    assert town.ledger.cycle(number).state == "rolled_back"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("held_by", ["another model's training", "a pause"])
def test_time_in_which_nobody_tries_is_no_part_of_a_steps_patience(
    make_town: Callable[..., Town], held_by: str
) -> None:
    town, now = make_town(cycle={"step_patience_s": 60.0}), [0.0]
    runner, steps, number = led(town, Failing(DependencyUnreachable("the network blinked"), 1000))
    runner._retries._clock = lambda: now[0]
    at(town, number, cy.CycleState.TRAINING)
    assert not runner.advance()
    lane = runner._seat._lane
    for _ in range(4):
        if held_by == "a pause":
            PAUSED.keep(town.ledger, "intent", True)
        else:
            assert lane.ask("another").works
        assert not runner.advance()
        now[0] += 50.0
    PAUSED.keep(town.ledger, "intent", False)
    lane.leave("another")
    assert not runner.advance()
    assert (town.ledger.cycle(number).state, steps.commands) == ("training", ["TrainChallenger"] * 2)
    now[0] += 70.0
    assert runner.advance(), "so long it was tried in vain"
    assert town.ledger.cycle(number).state == "failed"


def test_a_command_acts_on_the_cycle_that_it_was_meant_for_and_on_no_other(town: Town) -> None:
    runner, old = _idle(town)
    number = runner.fire("another", actor="ann")
    assert number is not None
    kinds = ("abort", "rolled_back")
    stale, back = [town.ledger.request_command("intent", kind, {"cycle": old}, "ann") for kind in kinds]
    assert not runner._inbox.abort_waits(number), "a step at work is not ended by it"
    runner.advance()
    refusal = f"refused: it was meant for cycle {old}, which is closed; cycle {number} is under way"
    assert str(town.ledger.command(stale).outcome).startswith(refusal)
    assert town.ledger.command(back).outcome == "done", "the route had changed already"
    assert town.ledger.cycle(number).state == "training"
    command = request_command(town.ledger, "intent", "abort", "ann")
    assert (command.cycle, command.then) == (number, "aborted")
    assert runner._inbox.abort_waits(number)
    assert runner.advance()
    assert town.ledger.command(command.command).outcome == "done"
    assert town.ledger.cycle(number).state == "aborted"


def test_a_command_that_comes_after_its_cycle_is_refused_and_an_older_one_names_none(town: Town) -> None:
    runner, old = _idle(town)
    late = town.ledger.request_command("intent", "approve", {"cycle": old}, "ann")
    assert runner.advance()
    refusal = f"refused: it was meant for cycle {old}, which is closed; see `perennial rollout show`"
    assert town.ledger.command(late).outcome == refusal
    number = runner.fire("another", actor="ann")
    assert number is not None
    unnamed = town.ledger.request_command("intent", "abort", {}, "ann")
    assert runner.advance()
    assert town.ledger.command(unnamed).outcome == "done"


def test_a_rollback_by_hand_is_told_to_the_cycle_that_was_under_way(town: Town) -> None:
    _, _, number = led(town, lambda _: None)
    _set_route(town, champion=2, previous=1)
    reconciler = SimpleNamespace(proved=lambda *_: True, wake=lambda *_: None)
    parts: Any = SimpleNamespace(ledger=town.ledger, workspace=town.workspace, controls=(), reconciler=reconciler)
    assert roll_back_version(parts, "intent", to=None, actor="ann", reason="a hunch").champion == 1
    assert [(c.kind, c.args) for c in town.ledger.commands("intent")] == [("rolled_back", {"cycle": number})]


class Judged:
    """A canary's judgement that notes when it was asked, and says what the test wants."""

    def __init__(self) -> None:
        self.over: list[bool] = []
        self.says: cy.Event | None = None

    def __call__(self, *, over: bool, **_: Any) -> cy.Event | None:
        self.over.append(over)
        return self.says


@pytest.mark.parametrize("step", [0, 1])
def test_a_pause_lets_no_share_go_live_or_rise_and_no_time_at_it_begin(
    make_town: Callable[..., Town], step: int
) -> None:
    town = make_town(cycle={"canary_shares": [0.05, 0.25], "canary_step_s": 0.3})
    judged = Judged()
    runner, number = _with_real_steps(town, champion=1, resident=(1, 2), canary=judged)
    share = (0.0, 0.05)[step]
    _set_route(town, challenger=2, share=share)
    cycle = decode(town.ledger.cycle(number).payload)
    after = replace(cycle, state=cy.CycleState.CANARY, canary_step=step)
    town.ledger.save_cycle(number, after.state.value, encode(after))
    _ask(town, runner, "pause")
    time.sleep(0.4)
    assert not runner.advance()
    assert (_route(town.ledger).share, len(judged.over)) == (share, 2 * step), "what is live stays watched"
    _ask(town, runner, "resume")
    assert _route(town.ledger).share == after.plan.canary_shares[step]
    assert judged.over[2 * step :] == [False], "the time at a share begins when it goes live"
    time.sleep(0.4)
    runner.advance()
    assert judged.over[-1]


def test_a_pause_between_two_shares_keeps_the_challenger_watched(make_town: Callable[..., Town]) -> None:
    town = make_town(cycle={"canary_shares": [0.05, 0.25]})
    judged = Judged()
    runner, number = _with_real_steps(town, champion=1, resident=(1, 2), canary=judged)
    _set_route(town, challenger=2, share=0.05)
    cycle = decode(town.ledger.cycle(number).payload)
    town.ledger.save_cycle(number, "canary", encode(replace(cycle, state=cy.CycleState.CANARY, canary_step=1)))
    judged.says = cy.CanaryStepPassed()
    _ask(town, runner, "pause")
    assert (town.ledger.cycle(number).state, _route(town.ledger).share) == ("canary", 0.05)
    judged.says = cy.CanaryStepFailed(reasons=("worse",))
    assert runner.advance()
    assert town.ledger.cycle(number).state == "refused"
    assert runner.advance()
    assert (_route(town.ledger).challenger, _route(town.ledger).share) == (None, 0.0)


def test_an_abort_ends_a_step_at_work_although_the_inbox_could_not_be_read_at_first(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = threading.Event()

    class Training:
        def execute(self, command: cy.Command, context: StepContext) -> cy.Event | None:
            town.ledger.request_command("intent", "abort", {"cycle": context.cycle_id}, "ann")
            assert cancelled.wait(5), "nobody told the step to end"
            raise PublishFailed("was cancelled")

        def watch_beside(self) -> None:
            """Nothing is on probation beside it."""

        def cancel(self) -> None:
            cancelled.set()

    runner, _, number = led(town, lambda _: None)
    runner._steps = Training()
    read, left = town.ledger.commands, [1]

    def away(model: str, limit: int | None = None) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise DependencyUnreachable("the connection was closed")
        return read(model, limit)

    monkeypatch.setattr(town.ledger, "commands", away)
    assert not runner.advance()
    assert runner.advance()
    assert town.ledger.cycle(number).state == "aborted"


def _ask(town: Town, runner: CycleRunner, kind: str) -> None:
    command = town.ledger.request_command("intent", kind, {}, "ann")
    runner.advance()
    assert town.ledger.command(command).outcome == "done"


def _with_real_steps(town: Town, *, champion: int, resident: tuple[int, ...], canary: Any = None) -> Any:
    runner, _, number = led(town, lambda _: None)
    for version in sorted({*resident, champion} - {1, _challenger(town, number)}):
        town.ledger.add_version(VersionRow(model="intent", version=version, state=VersionState.RESIDENT))
    _set_route(town, champion=champion, resident=resident)
    steps = replace(
        _real_steps(town),
        reconciler=SimpleNamespace(reconcile=lambda _: None, wake=lambda *_: None),
        comparison=SimpleNamespace(canary=canary),
    )
    runner._steps = steps
    return runner, number


def _idle(town: Town) -> tuple[CycleRunner, int]:
    """A runner that leads and has a closed cycle behind it."""
    runner, _, number = led(town, lambda _: None)
    town.ledger.close_cycle(number, "aborted")
    return runner, number


def _challenger(town: Town, number: int) -> int:
    version = decode(town.ledger.cycle(number).payload).challenger
    assert version is not None
    return version


def _route(ledger: Ledger) -> Route:
    route = ledger.route("intent")
    assert route is not None
    return route


def _set_route(town: Town, **changes: Any) -> None:
    route = _route(town.ledger)
    changes.setdefault("resident", tuple(sorted({*route.resident, changes.get("champion", 1)})))
    after = replace(route, epoch=route.epoch + 1, **changes)
    town.ledger.set_route(after, expected_epoch=route.epoch, actor="test", reason="test")


def _until(done: Callable[[], Any], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
