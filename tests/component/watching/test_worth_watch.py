"""What learning would buy, out of a real log and a real ledger: the cycle opens for it, and for nothing twice."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from perennial.ops.ledger import VersionRow, VersionState, version_card
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.state import WorthState
from perennial.ops.views.status import model_status
from perennial.ops.watching import worth_watch
from perennial.ops.watching.accuracy import AccuracyWatch
from perennial.ops.watching.collector import collect
from perennial.ops.watching.trigger import Trigger
from perennial.ops.watching.watcher import Watcher
from perennial.ops.watching.worth_watch import WorthWatch
from tests.component.town import Town

pytestmark = pytest.mark.component

MakeTown = Callable[..., Town]


@pytest.fixture
def sitting(make_town: MakeTown) -> Town:
    """A town whose first traffic is unknown in part: that became the reference, so that nothing drifts."""
    town = make_town(policy={"kind": "gain", "limits": {"min_feedback": 50}})
    town.label(town.ask(600, new=0.3))
    Watcher(town.ledger, town.workspace, "intent", town.traffic, EventFeed()).watch()
    collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=town.now)
    return town


def watch_of(town: Town) -> WorthWatch:
    accuracy = AccuracyWatch(town.ledger, town.workspace, "intent", town.traffic)
    accuracy.look(1)
    return WorthWatch(town.ledger, town.workspace, "intent", town.traffic, accuracy)


def looked(watch: WorthWatch) -> WorthState:
    state = watch.look(1)
    assert state is not None
    return state


def test_a_loop_whose_first_traffic_was_unknown_does_not_sit_on_its_labels(sitting: Town) -> None:
    trigger = Trigger(sitting.ledger, sitting.workspace, "intent")
    now = datetime.now(UTC)
    before = trigger.decide(now)
    assert before is not None
    assert not before.fire
    state = looked(watch_of(sitting))
    assert state.found
    assert state.low is not None
    assert state.low > 0.1
    decision = trigger.decide(now)
    assert decision is not None
    assert decision.fire
    assert decision.reasons[0].startswith("gain: learning would buy +")
    opening = trigger.opening()
    assert opening is not None
    assert opening.labels > 300
    assert list(opening.new_classes) == ["mortgage"]
    assert (opening.again, opening.cost_s) == (0, None)
    assert "no cycle tells the cost yet" in opening.sentence
    seen = model_status(sitting.ledger, "intent").worth
    assert seen is not None
    assert seen.found


def test_labels_that_teach_nothing_open_nothing(make_town: MakeTown) -> None:
    town = make_town(policy={"kind": "gain"})
    town.label(town.ask(1_500, errors=0.1))
    collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=town.now)
    state = looked(watch_of(town))
    assert state.compared > 500
    assert not state.found


def test_a_restart_in_the_midst_leaves_the_same_finding(sitting: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = looked(watch_of(sitting))
    monkeypatch.setattr(worth_watch, "_PAGE", 37)
    monkeypatch.setattr(worth_watch, "_MOST_PAGES", 3)
    watch = watch_of(sitting)
    states = [looked(watch) for _ in range(8)]
    assert states[0].learnt < states[1].learnt < states[-1].learnt
    again = replace(states[-1], evidence=at_once.evidence)
    assert again == at_once
    assert states[-1].evidence == pytest.approx(at_once.evidence)


def test_what_was_erased_leaves_no_trace(make_town: MakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worth_watch, "_LOOKED_FOR_ERASED_S", 0.0)
    town = make_town()
    town.label(town.ask(500, new=0.3, callers=["ann", "bob", "eve"]))
    collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=town.now)
    watch = watch_of(town)
    before = looked(watch)
    town.traffic.erase("ann")
    town.ledger.erase_key("intent", "ann", actor="ann", erased_at=datetime.now(UTC))
    after, never = looked(watch), looked(watch_of(town))
    assert after.learnt < before.learnt
    assert after == never


def test_a_refused_attempt_asks_for_new_evidence(sitting: Town) -> None:
    watch = watch_of(sitting)
    assert looked(watch).found
    last = sitting.ledger.last_example_id("intent")
    cycle = sitting.ledger.open_cycle("intent", "gain", {}, state="training")
    sitting.ledger.add_version(
        VersionRow(
            model="intent",
            version=2,
            parent=1,
            state=VersionState.REFUSED,
            card=version_card(labels=("lost_card",)),
            lineage={"last_example_id": last, "rows": 400},
        )
    )
    sitting.ledger.close_cycle(cycle, "refused", "not better")
    trigger = Trigger(sitting.ledger, sitting.workspace, "intent")
    held = trigger.decide(datetime.now(UTC))
    assert held is not None
    assert any("refused: version 2" in limit for limit in held.held_by)
    sitting.label(sitting.ask(60, new=0.3))
    collect(sitting.ledger, sitting.traffic, "intent", holdout_share=0.1, now=sitting.now)
    state = looked(watch)
    assert 0.0 < state.evidence < state.needed
    assert not state.found
    opening = trigger.opening()
    assert opening is not None
    assert opening.again > 300
