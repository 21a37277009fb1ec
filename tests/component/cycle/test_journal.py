"""Each step of a cycle has its intent in the journal before it and its outcome after it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from perennial.continual import cycle as cy
from perennial.continual.errors import DependencyUnreachable
from perennial.ops.cycle.runner import CycleRunner, StepContext
from perennial.ops.ledger import Fence
from perennial.ops.store.event_feed import EventFeed
from tests.component.town import Town

pytestmark = [pytest.mark.component, pytest.mark.paired]

_EVENTS: dict[str, Any] = {
    "TrainChallenger": cy.ChallengerTrained(),
    "ExportChallenger": cy.ChallengerExported(),
    "JudgeChallenger": cy.GateAccepted(),
    "PublishChallenger": cy.ChallengerLoaded(),
    "StartShadow": cy.ShadowAccepted(),
    "SetShare": cy.CanaryStepPassed(),
    "Promote": cy.Promoted(),
    "StartProbation": cy.ProbationFailed(reasons=("a test",)),
}


class Slow:
    """Steps of which each is not done yet, or not reachable, the first times that it is asked for."""

    def __init__(self, town: Town, *, waits: int = 2) -> None:
        self.town = town
        self.commands: Counter[str] = Counter()
        self.waits = waits

    def execute(self, command: cy.Command, context: StepContext) -> cy.Event | None:
        name = type(command).__name__
        self.commands[name] += 1
        if self.commands[name] <= self.waits and name in {"StartShadow", "SetShare", "StartProbation"}:
            return None
        if self.commands[name] == 1 and name == "PublishChallenger":
            raise DependencyUnreachable("Triton is being restarted")
        if isinstance(command, cy.Promote):
            self._promote(context.cycle.challenger or 0)
        return _EVENTS.get(name)

    def _promote(self, version: int) -> None:
        route = self.town.ledger.route("intent")
        assert route is not None
        after = replace(route, epoch=route.epoch + 1, champion=version, previous=1, resident=(1, version))
        self.town.ledger.set_route(after, expected_epoch=route.epoch, actor="test", reason="test")

    def watch_beside(self) -> None:
        """Nothing is on probation beside it."""

    def cancel(self) -> None:
        """Nothing is at work."""


def _runner(town: Town, steps: Slow) -> CycleRunner:
    fence = Fence(name="loop", epoch=town.ledger.acquire_lease("loop", "one"))
    return CycleRunner(town.ledger, town.workspace, "intent", steps, EventFeed(), lambda: fence)


def _entries(town: Town, cycle: int) -> list[str]:
    return [f"{row.step} {row.phase.value}" for row in town.ledger.journal_of(cycle)]


_ALL = {"shadow": True, "approval": "operator", "canary_shares": (0.1, 0.5)}


def test_every_step_is_journalled_once_on_each_side(make_town: Callable[..., Town]) -> None:
    town = make_town(cycle=_ALL)
    runner = _runner(town, Slow(town))
    number = runner.fire("a test", actor="ann")
    assert number is not None
    for _ in range(60):
        active = town.ledger.active_cycle("intent")
        if active is None:
            break
        if active.state == "approval" and "RequestApproval intent" in _entries(town, number):
            town.ledger.request_command("intent", "approve", {}, "ann")
        runner.advance()
    assert town.ledger.cycle(number).outcome == "rolled_back"
    entries = _entries(town, number)
    assert entries == [
        f"{step} {phase}"
        for step, phases in [
            *[(name, ("intent", "outcome")) for name in list(_EVENTS)[:5]],
            ("RequestApproval", ("intent",)),  # an operator's command is its outcome
            *[("SetShare", ("intent", "outcome"))] * 2,
            *[(name, ("intent", "outcome")) for name in ("Promote", "StartProbation", "RollBack")],
        ]
        for phase in phases
    ]


def test_a_step_that_a_killed_process_left_waiting_has_a_second_intent(make_town: Callable[..., Town]) -> None:
    town = make_town(cycle=_ALL | {"shadow": False, "approval": "automatic"})
    steps = Slow(town, waits=100)
    runner = _runner(town, steps)
    number = runner.fire("a test", actor="ann")
    assert number is not None
    while steps.commands["SetShare"] < 3:
        runner.advance()
    assert _entries(town, number)[-2:] == ["PublishChallenger outcome", "SetShare intent"]
    _runner(town, steps).advance()
    assert _entries(town, number)[-2:] == ["SetShare intent", "SetShare intent"]
