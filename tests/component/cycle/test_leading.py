"""A cycle is carried by the leader alone."""

import threading
import time

import pytest

from perennial.continual import cycle as cy
from perennial.continual.errors import LeaseLost
from perennial.ops.cycle.runner import CycleRunner, StepContext
from perennial.ops.ledger import Fence
from perennial.ops.store.event_feed import EventFeed
from tests.component.town import Town

pytestmark = [pytest.mark.component, pytest.mark.paired]


class Training:
    """Steps that only note what they were asked for, and end the cycle early."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.called = threading.Event()

    def execute(self, command: cy.Command, context: StepContext) -> cy.Event | None:
        self.commands.append(type(command).__name__)
        self.called.set()
        return cy.StepFailed(error="a test") if isinstance(command, cy.TrainChallenger) else None

    def watch_beside(self) -> None:
        """Nothing is on probation beside it."""

    def cancel(self) -> None:
        """Nothing is at work."""


def not_leading() -> Fence:
    raise LeaseLost("another process leads")


def runner(town: Town, steps: Training, fence: Fence | None) -> CycleRunner:
    lead = not_leading if fence is None else lambda: fence
    return CycleRunner(town.ledger, town.workspace, "intent", steps, EventFeed(), lead)


def carry(runner_: CycleRunner, seconds: float) -> None:
    runner_.start()
    time.sleep(seconds)
    runner_.stop()


def test_a_process_that_does_not_lead_leaves_a_cycle_alone(town: Town) -> None:
    steps = Training()
    waiting = runner(town, steps, None)
    number = waiting.fire("a test", actor="ann")
    assert number is not None
    carry(waiting, 0.4)
    assert steps.commands == []
    assert town.ledger.cycle(number).state == "training"


def test_a_leader_that_was_replaced_does_nothing_more_and_its_successor_goes_on(town: Town) -> None:
    stale = Fence(name="loop", epoch=town.ledger.acquire_lease("loop", "one"))
    steps = Training()
    first = runner(town, steps, stale)
    number = first.fire("a test", actor="ann")
    assert number is not None
    fresh = Fence(name="loop", epoch=town.ledger.acquire_lease("loop", "two"))
    carry(first, 0.4)
    assert steps.commands == []
    assert town.ledger.journal_of(number) == ()

    command = town.ledger.request_command("intent", "resume", {}, "ann")
    assert [c.id for c in town.ledger.take_commands("intent")] == [command], "the dead leader had taken it"
    second = runner(town, steps, fresh)
    second.start()
    assert steps.called.wait(5)
    for _ in range(100):
        if town.ledger.cycle(number).closed_at is not None:
            break
        time.sleep(0.05)
    second.stop()
    assert steps.commands[0] == "TrainChallenger"
    assert town.ledger.cycle(number).outcome == "failed"
    assert town.ledger.command(command).finished_at is not None
