"""Training of several models takes turns, and nothing else waits for it: cycles of three models on one ledger."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from perennial.continual import cycle as cy
from perennial.continual.errors import TrainingFailed
from perennial.continual.records import Route
from perennial.ops.cycle.lane import TrainingLane
from perennial.ops.cycle.runner import CycleRunner, StepContext
from perennial.ops.ledger import Fence, VersionRow, VersionState, version_card
from perennial.ops.settings import Settings
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.workspace import Workspace
from perennial.ops.views.status import model_status
from tests.component.town import Town

pytestmark = [pytest.mark.component, pytest.mark.paired]
NAMES = ("intent", "sales", "help")


class Work:
    """Steps whose trainings last until they are let go, cancelled, or told to fail."""

    def __init__(self, at_work: set[str], model: str) -> None:
        self._at_work, self._model = at_work, model
        self.most, self.done = 0, list[str]()
        self.let_go, self.hung = threading.Event(), threading.Event()
        self._cancelled = threading.Event()

    def execute(self, command: cy.Command, context: StepContext) -> cy.Event | None:
        self.done.append(type(command).__name__)
        if not isinstance(command, cy.TrainChallenger):
            return cy.StepFailed(error="a test") if isinstance(command, cy.ExportChallenger) else None
        self._cancelled.clear()
        self._at_work.add(self._model)
        self.most = max(self.most, len(self._at_work))
        try:
            while not (self.let_go.is_set() or self._cancelled.wait(0.02)):
                if self.hung.is_set():
                    raise TrainingFailed("training took longer than its limit")
        finally:
            self._at_work.discard(self._model)
        return cy.ChallengerTrained()

    def watch_beside(self) -> None:
        """Nothing is on probation beside it."""

    def cancel(self) -> None:
        self._cancelled.set()


class Street:
    """Runners of three models that share a lane of so many places."""

    def __init__(self, town: Town, places: int = 1) -> None:
        self.ledger = town.ledger
        settings = town.workspace.settings
        models = dict.fromkeys(NAMES, settings.models["intent"])
        workspace = Workspace(Settings(state=settings.state, repository=settings.repository, models=models))
        fence = Fence(name="loop", epoch=town.ledger.acquire_lease("loop", "test"))
        at_work, lane = set[str](), TrainingLane(places)
        self.work = {name: Work(at_work, name) for name in NAMES}
        for name in NAMES[1:]:
            self.ledger.register_model(name, {})
            self.ledger.add_version(
                VersionRow(model=name, version=1, state=VersionState.CHAMPION, card=version_card(labels=("a", "b")))
            )
            first = Route(model=name, epoch=1, champion=1, resident=(1,))
            self.ledger.set_route(first, expected_epoch=0, actor="operator", reason="first version")
        self.runners = {
            name: CycleRunner(self.ledger, workspace, name, self.work[name], EventFeed(), lambda: fence, lane)
            for name in NAMES
        }

    @contextmanager
    def running(self, *fired: str) -> "Iterator[Street]":
        """Carry the cycles of these models, fired one after the other."""
        for runner in self.runners.values():
            runner.start()
        try:
            for place, name in enumerate(fired):
                assert self.runners[name].fire("a test", actor="ann") is not None
                self.until(lambda name=name, place=place: self.turn(name) == [*fired[:place]])  # type: ignore[misc]
            yield self
        finally:
            for runner in self.runners.values():
                runner.stop()

    def turn(self, model: str) -> list[str] | None:
        """Behind whom a model waits, nobody while it is at work; None while it wants no place."""
        training = model_status(self.ledger, model).training
        return None if training is None else list(training.behind)

    def command(self, model: str, kind: str) -> None:
        self.ledger.request_command(model, kind, {}, "ann")

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not true():
            assert time.monotonic() < end, {name: self.turn(name) for name in NAMES}
            time.sleep(0.02)

    def closed(self, model: str) -> bool:
        return self.ledger.active_cycle(model) is None


@pytest.fixture
def street(town: Town) -> Street:
    return Street(town)


def test_one_trains_and_the_others_wait_in_the_order_they_came(street: Street) -> None:
    with street.running(*NAMES):
        assert street.work["sales"].done == street.work["help"].done == []
        street.work["intent"].let_go.set()
        street.until(lambda: street.closed("intent"))  # exporting is heavy too: the place is free after it
        street.until(lambda: street.turn("sales") == [] and street.turn("help") == ["sales"])
        street.work["sales"].let_go.set()
        street.until(lambda: street.turn("help") == [])
        street.work["help"].let_go.set()
        street.until(lambda: street.closed("help"))
    assert {work.most for work in street.work.values()} == {1}
    assert [street.turn(name) for name in NAMES] == [None, None, None]


def test_a_waiting_model_is_aborted_at_once_and_loses_its_turn(street: Street) -> None:
    with street.running(*NAMES):
        street.command("sales", "abort")
        street.until(lambda: street.closed("sales"))
        street.until(lambda: street.turn("help") == ["intent"])
        assert street.turn("intent") == []
    assert street.work["sales"].done == ["AbortChallenger"]


@pytest.mark.parametrize("end", ["abort", "pause", "hang"])
def test_a_place_is_freed_by_whatever_ends_the_work(street: Street, end: str) -> None:
    with street.running("intent", "sales"):
        if end == "hang":
            street.work["intent"].hung.set()
        else:
            street.command("intent", end)
        if end == "pause":
            street.work["intent"].let_go.set()  # a pause holds the cycle after the present step
        street.until(lambda: street.turn("sales") == [])
        assert street.turn("intent") is None


def test_a_stopped_runner_frees_its_place(street: Street) -> None:
    with street.running("intent", "sales"):
        street.runners["intent"].stop()
        street.until(lambda: street.turn("sales") == [])


def test_a_rollback_and_a_probation_wait_for_nobody(street: Street) -> None:
    cycle = cy.new_cycle(model="help", champion=1, plan=cy.CyclePlan(probation=True))
    for event in (
        cy.TriggerFired(reason="a test", challenger=2),
        cy.ChallengerTrained(),
        cy.ChallengerExported(),
        cy.GateAccepted(),
        cy.ChallengerLoaded(),
        cy.Promoted(),
    ):
        cycle, _ = cy.handle(cycle, event)
    assert cycle.state is cy.CycleState.PROBATION
    with street.running("intent", "sales"):
        ledger = street.ledger
        ledger.add_version(
            VersionRow(model="help", version=2, state=VersionState.CHAMPION, card=version_card(labels=("a", "b")))
        )
        number = ledger.open_cycle("help", "a test", cy.encode(cycle), state=cycle.state.value)
        promoted = Route(model="help", epoch=2, champion=2, previous=1, resident=(1, 2))
        ledger.set_route(promoted, expected_epoch=1, actor="loop", reason="a test")
        street.until(lambda: "StartProbation" in street.work["help"].done)
        street.command("help", "abort")
        street.until(lambda: "RollBack" in street.work["help"].done)
        street.until(lambda: ledger.cycle(number).outcome is not None)
        assert street.turn("intent") == []
        assert street.turn("sales") == ["intent"]


def test_a_lane_of_two_places_lets_two_work(town: Town) -> None:
    wide = Street(town, places=2)
    for runner in wide.runners.values():
        runner.start()
    try:
        for name in NAMES:
            wide.runners[name].fire("a test", actor="ann")
        wide.until(lambda: sum(wide.turn(name) == [] for name in NAMES) == 2)
        wide.until(lambda: sum(len(wide.turn(name) or ()) == 2 for name in NAMES) == 1)
        wide.until(lambda: max(work.most for work in wide.work.values()) == 2)
    finally:
        for runner in wide.runners.values():
            runner.stop()
    assert max(work.most for work in wide.work.values()) == 2


def test_a_model_whose_loop_asks_no_more_holds_up_nobody() -> None:
    now = [0.0]
    lane = TrainingLane(1, clock=lambda: now[0])
    assert lane.ask("a").works
    assert lane.ask("b").behind == ("a",)
    assert lane.ask("c").behind == ("a", "b")
    lane.leave("a")
    now[0] = 11.0
    assert lane.ask("c").works
    assert lane.ask("b").behind == ("c",)
