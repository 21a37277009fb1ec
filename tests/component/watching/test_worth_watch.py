"""What learning would buy, out of a real log and a real ledger: the cycle opens for it, and for nothing twice."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perennial.continual.errors import PerennialError
from perennial.continual.policy import parse_policy
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.state import LABEL_QUEUE, QueueChoice, WorthState
from perennial.ops.views.status import model_status
from perennial.ops.watching import worth_watch
from perennial.ops.watching.accuracy import AccuracyWatch
from perennial.ops.watching.collector import collect
from perennial.ops.watching.trigger import Trigger
from perennial.ops.watching.watcher import Watcher
from perennial.ops.watching.worth_watch import WorthWatch
from tests.component.town import Town
from tests.component.town_loop import town_loop

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


def watch_of(town: Town, ledger: Any = None) -> WorthWatch:
    accuracy = AccuracyWatch(town.ledger, town.workspace, "intent", town.traffic)
    accuracy.look(1)
    return WorthWatch(ledger or town.ledger, town.workspace, "intent", town.traffic, accuracy)


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
    assert state.evidence == state.needed
    decision = trigger.decide(now)
    assert decision is not None
    assert decision.fire
    opening = trigger.opening()
    assert opening is not None
    assert opening.labels > 300
    assert list(opening.new_classes) == ["mortgage"]
    assert (opening.again, opening.cost_s) == (0, None)
    assert "no cycle tells the cost yet" in opening.sentence
    seen = model_status(sitting.ledger, "intent").worth
    assert seen is not None
    assert seen.found


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_points_are_told_where_labels_were_asked_for_at_random(make_town: MakeTown, share: float) -> None:
    town = make_town(policy={"kind": "gain"}, drift={"random_label_share": share})
    requests = town.ask(1_500, errors=0.05)
    wrong = [each for each in requests if each.answer != each.truth]
    town.label(requests if share else town.ask(300, new=1.0) + wrong)
    collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=town.now)
    state = looked(watch_of(town))
    opening = Trigger(town.ledger, town.workspace, "intent").opening()
    assert opening is not None
    if share:
        assert state.gain is not None
        assert state.gain < 0.1
        assert "unbiased" in state.assumption
        assert "learning should buy" in opening.sentence
        return
    assert state.found, "corrections alone: nearly each answer that is labelled would be better"
    assert (state.gain, state.low, state.high) == (None, None, None)
    assert "assumes that whether an answer gets a label" in state.assumption
    assert "what learning would buy on all is not known" in opening.sentence
    decision = Trigger(town.ledger, town.workspace, "intent").decide(datetime.now(UTC))
    assert decision is not None
    assert decision.fire
    assert "points" not in decision.reasons[0]


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


class Interrupted:
    """A ledger in which something happens right after the first call of one kind."""

    def __init__(self, ledger: Ledger, call: str, then: Callable[[], object]) -> None:
        self._ledger, self._call, self._then = ledger, call, then

    def __getattr__(self, name: str) -> Any:
        if name != self._call:
            return getattr(self._ledger, name)
        self._call = ""

        def interrupted(*args: Any, **options: Any) -> Any:
            answer = getattr(self._ledger, name)(*args, **options)
            self._then()
            return answer

        return interrupted


@pytest.mark.parametrize("call", ["examples", "example_rows_between"])
def test_what_is_erased_while_a_page_is_followed_leaves_no_trace(make_town: MakeTown, call: str) -> None:
    town = make_town()
    town.label(town.ask(500, new=0.3, callers=["ann", "bob", "eve"]))
    collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=town.now)

    def erase() -> None:
        town.traffic.erase("ann")
        town.ledger.erase_key("intent", "ann", actor="ann", erased_at=datetime.now(UTC))

    state = looked(watch_of(town, Interrupted(town.ledger, call, erase)))
    assert 200 < state.learnt < 450
    assert looked(watch_of(town)) == state


def test_a_label_that_is_corrected_is_not_compared_twice(make_town: MakeTown) -> None:
    town = make_town()
    requests = town.ask(200, new=0.3)
    town.label(requests)
    collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=town.now)
    watch = watch_of(town)
    before = looked(watch)
    town.now += timedelta(seconds=60)
    town.label(requests[:50], wrong=True)
    collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=town.now)
    assert town.ledger.contradiction_count("intent") > 0
    assert looked(watch) == before
    assert looked(watch_of(town)).compared == before.compared


def test_labels_of_a_version_that_the_ledger_lost_are_not_followed(make_town: MakeTown) -> None:
    town = make_town()
    town.label(town.ask(100))
    town.version = 9
    town.label(town.ask(50))
    collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=town.now)
    assert looked(watch_of(town)).learnt == 100


def test_a_watch_that_fails_keeps_no_policy_from_deciding(make_town: MakeTown) -> None:
    town = make_town(policy={"kind": "feedback_count", "at_least": 50})
    town.label(town.ask(300))
    town.workspace.reference("intent", 1).mkdir(parents=True)
    with pytest.raises((PerennialError, OSError)):
        watch_of(town)
    with town_loop(town) as loop:
        assert "feedback_count" in loop.check()
    opened = town.ledger.versions("intent")[-1]
    assert opened.lineage["labels_until"] == town.ledger.last_example_id("intent")


@pytest.mark.parametrize("kept", [QueueChoice.KEPT - 1, QueueChoice.KEPT])
def test_a_label_that_the_queue_may_have_asked_for_and_forgotten_does_not_count(make_town: MakeTown, kept: int) -> None:
    town = make_town()
    early = town.ask(10)
    town.now += timedelta(seconds=60)
    stamp = int(town.now.timestamp() * 1_000)
    choice = QueueChoice(prediction_id="", reason="uniform", probability=0.5, batch=7)
    chosen = tuple(replace(choice, prediction_id=f"{stamp:012x}{place:020x}") for place in range(kept))
    LABEL_QUEUE.keep(town.ledger, "intent", chosen)
    town.now += timedelta(seconds=60)
    late = town.ask(10)
    accuracy = AccuracyWatch(town.ledger, town.workspace, "intent", town.traffic)
    accuracy.look(1)
    assert accuracy.counts(early[0].prediction_id) is (kept < QueueChoice.KEPT)
    assert accuracy.counts(chosen[0].prediction_id)
    assert accuracy.counts(late[0].prediction_id)


def attempted(town: Town, outcome: str, *, accepted: bool | None, state: VersionState = VersionState.FAILED) -> None:
    """Version 2 learnt all labels in version 1's place, and its cycle is over."""
    cycle = town.ledger.open_cycle("intent", "gain", {}, state="training")
    town.ledger.add_version(
        VersionRow(
            model="intent",
            version=2,
            parent=1,
            cycle_id=cycle,
            state=state,
            card=version_card(labels=("lost_card",)),
            metrics={} if accepted is None else {"gate": {"accepted": accepted}},
            lineage={"last_example_id": town.ledger.last_example_id("intent"), "rows": 13_000},
        )
    )
    town.ledger.close_cycle(cycle, outcome, "a test")


@pytest.mark.parametrize(
    ("outcome", "accepted", "state"),
    [
        ("refused", False, VersionState.REFUSED),
        ("refused", True, VersionState.REMOVED),
        ("rolled_back", True, VersionState.RETIRED),
        ("aborted", None, VersionState.FAILED),
        ("failed", None, VersionState.FAILED),
        ("promoted", True, VersionState.RESIDENT),
    ],
)
def test_an_attempt_asks_for_new_evidence_however_it_ended(
    sitting: Town, outcome: str, accepted: bool | None, state: VersionState
) -> None:
    watch = watch_of(sitting)
    assert looked(watch).found
    trigger, now = Trigger(sitting.ledger, sitting.workspace, "intent"), datetime.now(UTC)

    def fires() -> bool:
        decision = trigger.decide(now)
        return decision is not None and decision.fire

    assert fires()
    attempted(sitting, outcome, accepted=accepted, state=state)
    assert not fires(), "what was found before it is answered, whether the watch can look or not"
    for each in (watch, watch_of(sitting)):
        seen = looked(each)
        assert (seen.found, seen.evidence, seen.answered) == (False, 0.0, 2)
        assert not fires()
    sitting.label(sitting.ask(60, new=0.3))
    collect(sitting.ledger, sitting.traffic, "intent", holdout_share=0.1, now=sitting.now)
    seen = looked(watch)
    assert 0.0 < seen.evidence < seen.needed
    assert not fires()
    sitting.label(sitting.ask(600, new=0.3))
    collect(sitting.ledger, sitting.traffic, "intent", holdout_share=0.1, now=sitting.now)
    assert looked(watch).found
    assert fires()
    opening = trigger.opening()
    assert opening is not None
    assert opening.again > 300


def test_what_an_attempt_had_learnt_is_no_finding_while_it_is_followed_anew(
    sitting: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempted(sitting, "rolled_back", accepted=True)
    monkeypatch.setattr(worth_watch, "_PAGE", 300)
    monkeypatch.setattr(worth_watch, "_MOST_PAGES", 1)
    watch = watch_of(sitting)
    assert [(state.found, state.evidence) for state in (looked(watch) for _ in range(3))] == [(False, 0.0)] * 3


@pytest.mark.parametrize(
    ("outcome", "accepted", "told"),
    [
        ("refused", False, "was refused by the gate"),
        ("refused", True, None),  # by a canary, a latency, a deadline or a step
        ("failed", None, None),
        ("aborted", None, "was aborted"),
        ("rolled_back", True, "was rolled back"),
        ("promoted", True, "was promoted and put back"),
    ],
)
def test_what_was_judged_on_these_labels_is_not_tried_again_on_them(
    sitting: Town, outcome: str, accepted: bool | None, told: str | None
) -> None:
    policy = parse_policy({"kind": "feedback_count", "at_least": 1})
    trigger, now = Trigger(sitting.ledger, sitting.workspace, "intent", policy), datetime.now(UTC)
    attempted(sitting, outcome, accepted=accepted)
    decision = trigger.decide(now)
    assert decision is not None
    assert decision.fire is (told is None)
    if told is None:
        return
    assert any(told in limit for limit in decision.held_by)
    sitting.label(sitting.ask(100))
    collect(sitting.ledger, sitting.traffic, "intent", holdout_share=0.1, now=sitting.now)
    decision = trigger.decide(now)
    assert decision is not None
    assert decision.fire, "a tenth of the labels that the champion has not learnt, however many it was trained on"


def test_no_cycle_opens_that_the_gate_must_refuse_for_want_of_proof(make_town: MakeTown) -> None:
    """A tenth of the labels is held out: a policy that counts the others alone would begin far too soon."""
    town = make_town(policy={"kind": "feedback_count", "at_least": 10})
    trigger, now = Trigger(town.ledger, town.workspace, "intent"), datetime.now(UTC)
    needed = town.workspace.model("intent").cycle.min_fresh_rows
    for share, proof in ((1e-9, 0), (0.5, needed)):
        town.label(town.ask(100, new=0.3))
        collect(town.ledger, town.traffic, "intent", holdout_share=share, now=town.now)
        decision = trigger.decide(now)
        assert decision is not None
        told = [each for each in decision.held_by if each.startswith("proof")]
        assert decision.reasons
        assert decision.fire == (proof == needed)
        assert told == ([] if decision.fire else [f"proof: 0 of {needed} held-out rows that the gate asks for"])


def test_proof_is_not_waited_for_where_the_gate_may_ask_for_none(make_town: MakeTown) -> None:
    town = make_town(policy={"kind": "feedback_count", "at_least": 10})
    town.ledger.describe_classes("intent", {"pension": "how to save for old age"}, "a test")
    town.label(town.ask(100, new=0.3))
    collect(town.ledger, town.traffic, "intent", holdout_share=1e-9, now=town.now)
    decision = Trigger(town.ledger, town.workspace, "intent").decide(datetime.now(UTC))
    assert decision is not None
    assert decision.fire
