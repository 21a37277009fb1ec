"""A probation of days keeps nobody from a retraining, and goes on beside it: killed, paused or rolled back."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perennial.continual import cycle as cy
from perennial.continual.cycle import decode
from perennial.continual.records import Route
from perennial.continual.rollout import LiveEvidence
from perennial.continual.route import corrected, pinned, promoted, rolled_back
from perennial.ops.cycle.runner import CycleRunner, StepContext
from perennial.ops.cycle.steps import LoopSteps
from perennial.ops.ledger import Fence, VersionRow, VersionState
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.route_changes import change_route
from perennial.ops.store.state import PROBATION
from perennial.ops.views.rollout import rollout_view
from tests.component.cycle.test_faults import _real_steps
from tests.component.town import Town

pytestmark = [pytest.mark.component, pytest.mark.paired]

WORSE = LiveEvidence(gains=5, losses=60, ties=900)
GOOD = LiveEvidence(gains=20, losses=20, ties=960)


class Watching:
    """Real probations; of the other steps nothing is ever done."""

    def __init__(self, town: Town) -> None:
        self.now = LiveEvidence()
        real = _real_steps(town)
        comparison = replace(real.comparison, evidence=self)
        self.real: LoopSteps = replace(real, comparison=comparison, reconciler=self)  # type: ignore[arg-type]

    def read(self, **_: Any) -> LiveEvidence:
        return self.now

    def disputed(self, **_: Any) -> tuple[str, ...]:
        return ()

    def reconcile(self, _: str) -> None:
        """There is no server."""

    def wake(self, _model: str, _version: int) -> None:
        """Nor one to wake."""

    def execute(self, command: cy.Command, context: StepContext) -> cy.Event | None:
        done = isinstance(command, cy.StartProbation | cy.RollBack | cy.AbortChallenger | cy.ReleaseOld)
        return self.real.execute(command, context) if done else None

    def watch_beside(self) -> None:
        self.real.watch_beside()

    def cancel(self) -> None:
        """Nothing is at work."""


class Street:
    """A model whose version 2 took version 1's place and is on probation."""

    def __init__(self, town: Town) -> None:
        self.town, self.ledger = town, town.ledger
        self.steps = Watching(town)
        self.runner = self.restarted()
        number = self.runner.fire("a test", actor="ann")
        assert number is not None
        self.first = number
        self.new = decode(self.ledger.cycle(number).payload).challenger or 0
        self.change(pinned(self.new))
        self.change(promoted(self.new, resident=2))
        cycle = decode(self.ledger.cycle(number).payload)
        self.ledger.save_cycle(number, "probation", cy.encode(replace(cycle, state=cy.CycleState.PROBATION)))

    def restarted(self) -> CycleRunner:
        fence = Fence(name="loop", epoch=self.ledger.acquire_lease("loop", "one"))
        return CycleRunner(self.ledger, self.town.workspace, "intent", self.steps, EventFeed(), lambda: fence)

    def change(self, change: Callable[[Route], Route]) -> None:
        change_route(self.ledger, self.town.workspace, "intent", change, actor="ann", reason="a test")

    def correct(self, *, keeping: bool = True) -> int:
        """Put a copy without erased rows in the champion's place, as an erasure does; the version before may go too."""
        of, copy = self.champion, self.ledger.next_version("intent")
        lineage = {"reason": f"erasure from version {of}", "erased": "0f"}
        self.ledger.add_version(VersionRow(model="intent", version=copy, parent=of, lineage=lineage))
        self.change(pinned(copy))
        self.change(corrected(copy, of=of, resident=2))
        gone = {of} if keeping else {of, 1}
        kept = tuple(version for version in (1, of, copy) if version not in gone)
        self.change(lambda route: replace(route, previous=1 if keeping else None, resident=kept))
        self.ledger.set_version_state("intent", of, VersionState.REMOVED)
        return copy

    def told(self, action: str) -> list[Any]:
        return [entry.detail for entry in self.ledger.audit_entries() if entry.action == action]

    @property
    def champion(self) -> int:
        route = self.ledger.route("intent")
        assert route is not None
        return route.champion

    def state(self, cycle: int) -> str:
        return self.ledger.cycle(cycle).state


@pytest.fixture
def street(make_town: Callable[..., Town]) -> Street:
    return Street(make_town())


def test_the_policy_waits_for_the_least_time_of_a_probation_and_no_longer(make_town: Callable[..., Town]) -> None:
    street = Street(make_town(cycle={"probation_least_s": 30.0}))
    assert street.runner.fire("drift", actor="policy") is None


def test_a_retraining_begins_during_a_probation_which_goes_on_beside_it(street: Street) -> None:
    assert not street.runner.advance()
    assert street.state(street.first) == "probation"
    second = street.runner.fire("drift", actor="ann")
    assert second is not None
    first = street.ledger.cycle(street.first)
    assert (first.outcome, street.state(second)) == ("promoted", "training")
    assert first.note == f"version {street.new} is champion; its probation goes on beside the next cycle"
    view = rollout_view(street.ledger, "intent")
    assert view.probation is not None
    assert (view.probation.champion, view.probation.previous, view.probation.cycle) == (street.new, 1, street.first)
    street.runner.advance()
    view = rollout_view(street.ledger, "intent")
    assert view.probation_live is not None
    assert (view.probation_live.phase, view.probation_live.champion) == ("probation", 1)
    assert street.runner.fire("more drift", actor="ann") is None, "one retraining at a time"


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("paused", [False, True])
def test_evidence_against_it_rolls_back_and_ends_the_cycle_that_started_from_it(
    street: Street, killed: bool, paused: bool
) -> None:
    second = street.runner.fire("drift", actor="ann")
    assert second is not None
    runner = street.restarted() if killed else street.runner
    if paused:
        street.ledger.request_command("intent", "pause", {}, "ann")
    runner.advance()
    street.steps.now = WORSE
    while street.state(second) == "training":
        runner.advance()
    runner.advance()
    assert (street.champion, street.ledger.cycle(second).outcome) == (1, "aborted")
    states = {row.version: row.state for row in street.ledger.versions("intent")}
    assert states[street.new] is VersionState.RETIRED
    assert PROBATION.read(street.ledger, "intent") is None
    (told,) = street.told("probation.rolled_back")
    assert (told["cycle"], told["version"], told["to"]) == (street.first, street.new, 1)
    assert told["note"].startswith("worse: ")


def test_evidence_for_it_ends_the_probation_and_leaves_the_cycle_alone(street: Street) -> None:
    second = street.runner.fire("drift", actor="ann")
    assert second is not None
    street.steps.now = GOOD
    street.runner.advance()
    assert PROBATION.read(street.ledger, "intent") is None
    assert (street.champion, street.state(second)) == (street.new, "training")


@pytest.mark.parametrize("beside", [False, True])
def test_a_probation_decides_nothing_while_a_person_is_erased(street: Street, beside: bool) -> None:
    """The champion that is being corrected stays."""
    if beside:
        second = street.runner.fire("drift", actor="ann")
        assert second is not None
        street.ledger.close_cycle(second, "aborted")
    token, _ = street.ledger.begin_erasure("intent", "somebody")
    street.steps.now = WORSE
    street.runner.advance()
    assert street.champion == street.new
    street.ledger.end_erasure("intent", token)
    street.runner.advance()
    street.runner.advance()
    assert street.champion == 1


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("abort", [False, True])
def test_a_probation_goes_on_with_the_copy_that_an_erasure_made(street: Street, times: int, abort: bool) -> None:
    for _ in range(times):
        copy = street.correct()
    if abort:
        street.ledger.request_command("intent", "abort", {}, "ann")
    street.runner.advance()
    assert (street.state(street.first), street.champion) == ("probation", copy)
    facts = {"cycle": street.first, "version": copy, "instead_of": street.new}
    assert street.told("probation.corrected") == [facts]
    street.steps.now = LiveEvidence() if abort else WORSE
    while street.ledger.cycle(street.first).outcome is None:
        street.runner.advance()
    assert (street.champion, street.ledger.cycle(street.first).outcome) == (1, "rolled_back")
    states = {row.version: row.state for row in street.ledger.versions("intent")}
    assert (states[street.new], states[copy]) == (VersionState.REMOVED, VersionState.RETIRED)


@pytest.mark.parametrize("evidence", [LiveEvidence(), GOOD])
def test_a_good_version_that_an_erasure_corrects_ends_its_probation_as_promoted(
    make_town: Callable[..., Town], evidence: LiveEvidence
) -> None:
    street = Street(make_town(cycle={"probation_least_s": 0.0}))
    copy = street.correct(keeping=evidence is GOOD)
    street.steps.now = evidence
    while street.ledger.cycle(street.first).outcome is None:
        street.runner.advance()
    closed = street.ledger.cycle(street.first)
    note = f"version {copy} is champion; version 1, with which it was compared, is gone"
    if evidence is GOOD:
        note = f"version {copy} held through probation"
    assert (street.champion, closed.outcome, closed.note) == (copy, "promoted", note)
    states = {row.version: row.state for row in street.ledger.versions("intent")}
    assert states[street.new] is VersionState.REMOVED


def test_a_probation_beside_the_cycles_goes_on_with_the_corrected_copy(street: Street) -> None:
    second = street.runner.fire("drift", actor="ann")
    assert second is not None
    street.ledger.close_cycle(second, "aborted")
    copy = street.correct()
    street.runner.advance()
    kept = PROBATION.read(street.ledger, "intent")
    assert kept is not None
    assert (kept.champion, kept.previous) == (copy, 1)
    assert street.told("probation.corrected") == [{"cycle": street.first, "version": copy, "instead_of": street.new}]
    street.steps.now = WORSE
    street.runner.advance()
    assert (street.champion, PROBATION.read(street.ledger, "intent")) == (1, None)


def test_its_age_ends_it_and_an_operators_rollback_too(street: Street) -> None:
    street.runner.fire("drift", actor="ann")
    kept = PROBATION.read(street.ledger, "intent")
    assert kept is not None
    assert datetime.fromisoformat(kept.until) - datetime.fromisoformat(kept.since) == timedelta(days=7)
    PROBATION.keep(street.ledger, "intent", replace(kept, until=datetime.now(UTC).isoformat()))
    street.runner.advance()
    assert PROBATION.read(street.ledger, "intent") is None
    PROBATION.keep(street.ledger, "intent", kept)
    street.change(rolled_back(to=1))
    street.steps.now = WORSE
    street.runner.advance()
    assert (street.champion, PROBATION.read(street.ledger, "intent")) == (1, None)


def test_an_operator_may_ask_for_a_retraining_during_a_probation(street: Street) -> None:
    command = street.ledger.request_command("intent", "retrain", {}, "ann")
    while street.ledger.command(command).outcome is None:
        street.runner.advance()
    assert street.ledger.command(command).outcome == "done"
    assert street.state(street.first) == "promoted"


def test_a_probation_ends_when_the_version_before_it_was_erased(street: Street) -> None:
    street.change(lambda route: replace(route, previous=None, resident=(street.new,)))
    street.runner.advance()
    street.runner.advance()
    assert street.ledger.cycle(street.first).outcome == "promoted"
