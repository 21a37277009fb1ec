"""Traffic and labels in, drift verdicts, accuracies and the policy's word out."""

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from perennial.continual.drift.compare import measure_all, same_mix
from perennial.continual.drift.novelty import NoveltyState
from perennial.continual.drift.settings import Signal
from perennial.continual.errors import DataError, NotFound
from perennial.continual.policy import DriftState
from perennial.continual.records import Origin, Route
from perennial.ops.ledger import VersionRow, VersionState, version_card
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.state import WATCH, ErrorState, ModelAccuracy
from perennial.ops.watching import windows
from perennial.ops.watching.accuracy import AccuracyWatch
from perennial.ops.watching.budget import WatchBudget
from perennial.ops.watching.collector import Collected, collect
from perennial.ops.watching.error_watch import ErrorWatch
from perennial.ops.watching.history import PastReader
from perennial.ops.watching.trigger import Trigger
from perennial.ops.watching.watcher import Watcher
from perennial.ops.watching.windows import TrafficAhead, chosen_report, explained, reported_window
from tests.component.town import KNOWN, AnsweredRequest, Town
from tests.component.triton_fixtures import write_bundle

pytestmark = pytest.mark.component

MakeTown = Callable[..., Town]


def watch(town: Town) -> list[str]:
    """Watch what came, and return each window's level."""
    watcher = Watcher(town.ledger, town.workspace, "intent", town.traffic, EventFeed())
    return [signal.level.value for signal in watcher.watch()]


def accuracy(town: Town) -> ModelAccuracy:
    return AccuracyWatch(town.ledger, town.workspace, "intent", town.traffic).look(1)


def errors(town: Town) -> ErrorState:
    follower = AccuracyWatch(town.ledger, town.workspace, "intent", town.traffic)
    follower.look(1)
    return ErrorWatch(town.ledger, "intent", town.traffic, follower, 100_000).look(1)


def learn(town: Town) -> None:
    collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=town.now)


def replace_id(request: AnsweredRequest, number: int = 0xFFFF) -> AnsweredRequest:
    """The same answer under an id that no router gave out."""
    return replace(request, prediction_id=f"{request.prediction_id[:-4]}{number:04x}")


def trigger(town: Town) -> Trigger:
    return Trigger(town.ledger, town.workspace, "intent")


# ---- windows ----


def test_a_reference_that_an_erasure_took_away_is_taken_anew(town: Town) -> None:
    town.ask(650, batch=64)
    watch(town)
    folder = town.workspace.reference("intent", 1)
    shutil.rmtree(folder)
    town.ask(450, batch=64)
    assert len(watch(town)) == 3
    assert folder.is_dir()
    state = WATCH.read(town.ledger, "intent")
    assert state is not None
    assert state.sequential is not None
    assert state.sequential["doubt"]["state"]["seen"] == 300, "what was followed beside another reference is gone"


def test_every_row_is_watched_once_although_batches_share_a_microsecond(town: Town) -> None:
    town.ask(650, batch=64)
    assert watch(town) == ["ok"] * 4
    state = WATCH.read(town.ledger, "intent")
    assert state is not None
    assert (state.requests, state.windows) == (600, 4)
    seen: list[str] = []
    after = None
    while (cut := TrafficAhead(town.traffic, 1, after=after).next(50)) is not None:
        assert cut.window.ids is not None
        seen += cut.window.ids.tolist()
        after = cut.end
    assert len(seen) == len(set(seen)) == 650


LOUD = ("partner", "partner", "partner", *(f"person {number}" for number in range(60)))


def test_a_window_of_requests_that_repeat_one_another_is_the_same_when_it_is_cut_again(town: Town) -> None:
    for rows in (900, 350, 2_500):  # passes that see one window, none, and several
        town.ask(rows, callers=LOUD, retried=0.3, batch=50)
        watch(town)
    reports = town.ledger.drift_reports("intent")
    assert len(reports) >= 10
    assert sum(report.payload["requests"] for report in reports) > 1.2 * sum(report.rows for report in reports)
    for report in reports:
        seen = reported_window(town.ledger, town.workspace, town.traffic, report)
        floors = {signal.signal: signal.result.floor for signal in seen.comparison.signals}
        again = measure_all(
            floors,
            seen.reference,
            seen.window,
            seed=seen.comparison.seed,
            permutations=seen.comparison.permutations,
            alike=same_mix(seen.reference, seen.window, seen.comparison.seed) if seen.comparison.matched else None,
        )
        measured = {signal.signal: signal.result for signal in seen.comparison.signals}
        texts_are_known = {name for name in again if name is not Signal.UNKNOWN_WORDS}
        assert {name: again[name] for name in texts_are_known} == {name: measured[name] for name in texts_are_known}


def test_a_backlog_is_watched_in_parts(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_MOST_ROWS", 450)
    town.ask(1_400, callers=LOUD[3:], batch=50)
    ahead = TrafficAhead(town.traffic, 1, after=None, rows=450)
    cut = 0
    while ahead.next(100) is not None:
        cut += 1
    assert cut == 5  # a part ends with all rows of its last moment
    passes = [len(watch(town)) for _ in range(4)]
    assert passes[0] > 0
    assert sum(passes) == 12


def test_the_watch_goes_on_after_the_rows_that_it_counts_from_were_erased(town: Town) -> None:
    town.ask(900, callers=LOUD, batch=50)
    before = len(watch(town))
    state = WATCH.read(town.ledger, "intent")
    assert state is not None
    assert state.counting_from is not None
    gone = [state.counting_from["id"], state.cursor_id]
    gone += [report.payload["counting_from"]["id"] for report in town.ledger.drift_reports("intent")[:-1]]
    town.ledger.erase_key("intent", "partner", prediction_ids=gone)
    left = json.dumps([report.payload for report in town.ledger.drift_reports("intent")])
    left += json.dumps(asdict(WATCH.read(town.ledger, "intent") or state))
    assert not [name for name in gone if name in left]
    town.ask(400, callers=LOUD, batch=50)
    assert len(watch(town)) >= 3
    assert before >= 4


def test_while_processors_are_short_rows_are_passed_over_and_a_drift_is_found_all_the_same(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoveltyState, "begun", lambda *_, **__: None)  # which would alert without a suspicion
    now, used = [0.0], itertools.count(0.0, 10.0)  # each pass takes all that the budget has, and more
    budget = WatchBudget(0.02, cores=2, clock=lambda: now[0], used=lambda: next(used), idle=lambda: 0.0)
    watcher = Watcher(town.ledger, town.workspace, "intent", town.traffic, EventFeed(), budget=budget)

    def watched(*, after_s: float) -> list[str]:
        now[0] += after_s
        return [signal.level.value for signal in watcher.watch()]

    town.ask(400)
    assert watched(after_s=0.0) == ["ok", "ok"]
    town.ask(1_500)
    assert watched(after_s=5.0) == []
    assert watched(after_s=15.0) == ["ok"]  # so long it is never without a look
    state = WATCH.read(town.ledger, "intent")
    assert state is not None
    assert (state.passed_over, state.requests) == (900, 1_400)
    assert state.used_share > 0
    town.ask(800, new=0.5)
    assert watched(after_s=20.0) == ["warning"]
    assert watched(after_s=0.1)[0] == "alert"  # a suspicion is settled at once
    newest, *_ = town.ledger.drift_reports("intent")
    assert len(reported_window(town.ledger, town.workspace, town.traffic, newest).window) == newest.rows == 100


def test_a_budget_leaves_nothing_out_while_processors_are_idle(town: Town) -> None:
    budget = WatchBudget(1e-6, cores=1, idle=lambda: 0.9)
    watcher = Watcher(town.ledger, town.workspace, "intent", town.traffic, EventFeed(), budget=budget)
    town.ask(1_400)
    assert len(watcher.watch()) == 12


def test_a_drift_is_reported_explained_and_kept_apart_from_calm_windows(town: Town) -> None:
    town.ask(400)
    assert watch(town) == ["ok", "ok"]
    town.ask(200, new=0.5)
    assert watch(town) == ["alert", "alert"]
    assert watch(town) == []
    newest, before, *calm = town.ledger.drift_reports("intent")
    assert [r.payload["report_wanted"] for r in (newest, before, *calm)] == [False, True, False, True]
    alarms = [r.payload["sequential"]["doubt"]["alarms"] for r in (newest, before, *calm)]
    assert sum(alarms[:2]) >= 1
    assert alarms[2:] == [0, 0]

    explanation = explained(town.ledger, town.workspace, town.traffic, chosen_report(town.ledger, "intent", None))
    assert explanation.groups[0].rows >= 30
    assert set(explanation.groups[0].words) <= {"interest", "mortgage", "house", "lender", "deposit"}
    assert explanation.to_json() == explained(town.ledger, town.workspace, town.traffic, newest).to_json()
    assert explained(town.ledger, town.workspace, town.traffic, calm[0]).summary == "nothing drifted in 100 rows"
    town.traffic.prune(town.now - timedelta(seconds=20))
    with pytest.raises(
        DataError, match=r"are gone from the traffic log: erased, or older than traffic\.retention_days"
    ):
        explained(town.ledger, town.workspace, town.traffic, newest)
    with pytest.raises(NotFound, match="intent has no drift report 99"):
        chosen_report(town.ledger, "intent", 99)


def test_a_drift_is_dated_by_the_first_window_of_its_episode_and_ends_with_it(town: Town) -> None:
    def dated() -> list[tuple[str, str | None]]:
        return [
            (report.state, report.payload["drift_since"]) for report in reversed(town.ledger.drift_reports("intent"))
        ]

    town.ask(400)
    town.ask(200, new=0.5)
    assert watch(town) == ["ok", "ok", "alert", "alert"]
    first = town.ledger.drift_reports("intent")[1]
    assert first.window_from is not None
    began = first.window_from.isoformat()
    assert dated() == [("ok", None), ("ok", None), ("alert", began), ("alert", began)]
    state = WATCH.read(town.ledger, "intent")
    assert state is not None
    assert state.since == first.window_from

    town.ask(1000)
    assert watch(town)[-1] == "ok"
    assert dated()[-1] == ("ok", None)
    state = WATCH.read(town.ledger, "intent")
    assert state is not None
    assert state.since is None


def test_a_champion_that_was_rolled_back_to_is_watched_against_the_reference_it_had(town: Town) -> None:
    def champion(version: int, epoch: int) -> None:
        route = Route(model="intent", epoch=epoch, champion=version, resident=(1, 2))
        town.ledger.set_route(route, expected_epoch=epoch - 1, actor="operator", reason="test")

    town.ask(300)
    assert watch(town) == ["ok"]
    folder = town.workspace.reference("intent", 1)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}

    town.ledger.add_version(
        VersionRow(model="intent", version=2, state=VersionState.PUBLISHED, card=version_card(labels=KNOWN))
    )
    champion(2, 2)
    assert watch(town) == []
    champion(1, 3)
    assert watch(town) == []
    town.now = datetime.now(UTC) + timedelta(minutes=1)
    town.ask(100)
    assert watch(town) == ["ok"], "one window is enough: no rows are taken for a new reference"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept


# ---- labels ----


def test_a_label_whose_request_never_came_is_given_up_after_a_week_and_not_before(town: Town) -> None:
    (request,) = town.ask(1)
    stray = replace_id(request)
    town.label([stray])
    came = datetime.now(UTC)

    def collected(now: datetime) -> Collected:
        return collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=now)

    assert collected(came + timedelta(days=6, hours=23)) == Collected(waiting=1)
    assert collected(came + timedelta(days=7, hours=1)) == Collected(unmatched=1)
    assert collected(came + timedelta(days=8)) == Collected(), "it is off the list"
    assert town.ledger.label_counts("intent") == {}


def test_labels_of_no_request_keep_back_none_that_came_later(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, second) = town.ask(2)
    town.label([replace_id(first, 0xFFF0 + number) for number in range(12)])
    came = datetime.now(UTC)

    def collected(now: datetime) -> Collected:
        return collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=now)

    assert collected(came + timedelta(minutes=2)) == Collected(waiting=12)
    town.label([second])
    monkeypatch.setattr("perennial.ops.watching.collector._PAGE", 5)
    monkeypatch.setattr("perennial.ops.watching.collector._PASS_S", 0.0)
    assert collected(came + timedelta(minutes=10)) == Collected(joined=1, waiting=12), "in one page, by one look"


def test_a_label_that_comes_weeks_after_its_request_is_learnt(town: Town) -> None:
    requests = town.ask(1)
    town.now += timedelta(days=30)
    town.label(requests)
    late = datetime.now(UTC) + timedelta(days=30)
    assert collect(town.ledger, town.traffic, "intent", holdout_share=0.1, now=late) == Collected(joined=1)


# ---- accuracy ----


def test_accuracy_is_silent_before_there_is_enough_to_tell(town: Town) -> None:
    town.ask(40)
    found = accuracy(town)
    assert (found.estimated, found.measured, found.reference) == (None, None, None)


def test_estimated_and_measured_accuracy_agree_on_calm_traffic_and_name_what_they_assume(town: Town) -> None:
    requests = town.ask(700, errors=0.1)
    watch(town)
    town.label(requests)
    found = accuracy(town)
    assert found.estimated is not None
    assert found.measured is not None
    assert found.reference is not None
    assert found.estimated.value == pytest.approx(0.95, abs=0.03)  # half of the wrong guesses of two topics are right
    assert found.measured.low < 0.95 < found.measured.high
    assert "blind to a change of concept" in found.estimated.assumption
    assert "does not depend on the answer" in found.measured.assumption
    assert ModelAccuracy.of(town.ledger, "intent", 1) == replace(found, at=found.at)
    facts = trigger(town).facts()
    assert facts is not None
    assert facts.measured_quality is not None
    assert facts.measured_quality.rows == found.measured.rows
    assert facts.estimated_quality == found.estimated.value
    assert facts.reference_quality == found.reference.value


def test_late_and_corrected_labels_count_as_they_read_now(town: Town) -> None:
    requests = town.ask(300, errors=0.0)
    watch(town)
    town.label(requests[:100], wrong=True)
    first = accuracy(town).measured
    town.now += timedelta(days=3)  # the same people look again
    town.label(requests[:100])
    town.label(requests[100:])
    second = accuracy(town).measured
    assert first is not None
    assert second is not None
    assert (first.value, second.value, second.rows, second.contested) == (0.0, 1.0, 300, 0)


def test_people_who_contradict_each_other_widen_the_interval_and_settle_nothing(town: Town) -> None:
    requests = town.ask(300, errors=0.0)
    watch(town)
    town.label(requests, origin=Origin.FEEDBACK)
    town.label(requests[:60], origin=Origin.LABELLER, wrong=True)
    measured = accuracy(town).measured
    assert measured is not None
    assert (measured.value, measured.rows, measured.contested) == (1.0, 240, 60)
    assert measured.low < 0.81
    assert measured.high == 1.0


def complaints(requests: list[AnsweredRequest]) -> list[AnsweredRequest]:
    """Most of the wrong answers and few of the right ones: what reaches a help desk by itself."""
    return [a for i, a in enumerate(requests) if a.answer != a.truth or i % 10 == 0]


def test_a_random_share_measures_what_complaints_cannot(make_town: MakeTown) -> None:
    town = make_town(drift={"random_label_share": 0.5, "accuracy_rows": 2_000})
    requests = town.ask(1_000, errors=0.2)
    watch(town)
    town.label([a for a in requests if AccuracyWatch.counts(AccuracyWatch(*_parts(town)), a.prediction_id)])
    town.label(complaints(requests))
    measured = accuracy(town).measured
    assert measured is not None
    assert measured.low < 0.9 < measured.high
    assert measured.high - measured.low < 0.08
    assert "unbiased" in measured.assumption


def test_the_labelling_queues_random_choices_measure_and_its_doubtful_ones_do_not_alarm(town: Town) -> None:
    requests = town.ask(1_000, errors=0.2)
    watch(town)
    doubtful = [a for a in requests[300:] if a.answer != a.truth][:60]
    by_chance = [a for i, a in enumerate(requests[300:]) if i % 5 == 0 and a not in doubtful]
    queue = [{"id": a.prediction_id, "reason": "uncertain", "p": 1.0} for a in doubtful]
    queue += [{"id": a.prediction_id, "reason": "uniform", "p": 0.2} for a in by_chance]
    town.ledger.put_state("intent", "label_queue", queue)
    town.label(requests[:200])
    town.label([*doubtful, *by_chance])
    measured = accuracy(town).measured
    assert measured is not None
    assert measured.low < 0.9 < measured.high
    assert "unbiased" in measured.assumption
    assert errors(town).since is None


def _parts(town: Town) -> tuple:  # type: ignore[type-arg]
    return town.ledger, town.workspace, "intent", town.traffic


# ---- labelled errors ----


def test_a_change_of_concept_is_seen_in_labels_alone_and_asks_for_a_retraining(town: Town) -> None:
    requests = town.ask(600)
    assert watch(town) == ["ok"] * 4
    town.label(requests)
    learn(town)
    calm = errors(town)
    assert calm.since is None
    assert trigger(town).decide(town.now).fire is False  # type: ignore[union-attr]

    changed = town.ask(200)
    watch(town)
    town.label(changed, wrong=True)  # the texts stay; their meaning moves
    learn(town)
    alarmed = errors(town)
    assert alarmed.since is not None
    assert request_at(changed[0]) - timedelta(seconds=200) <= alarmed.since <= request_at(changed[-1])
    assert errors(town) == alarmed, "a repeated pass counts nothing twice"
    more = town.ask(200)
    watch(town)
    town.label(more, wrong=True)
    learn(town)
    assert errors(town).since == alarmed.since, "a lasting change is one episode with one beginning"
    facts = trigger(town).facts()
    assert facts is not None
    assert (facts.drift, facts.drift_signals) == (DriftState.ALERT, ("labelled_errors",))
    decision = trigger(town).decide(town.now)
    assert decision is not None
    assert decision.fire
    assert decision.reasons == ("drift: alert (labelled_errors)",)


def request_at(request: AnsweredRequest) -> datetime:
    return datetime.fromtimestamp(int(request.prediction_id[:12], 16) / 1000, UTC)


def test_the_error_watch_starts_anew_with_a_new_champion(town: Town) -> None:
    requests = town.ask(400)
    watch(town)
    town.label(requests)
    assert errors(town).bound is not None
    route = Route(model="intent", epoch=2, champion=2, previous=1, resident=(1, 2))
    town.ledger.set_route(route, expected_epoch=1, actor="loop", reason="test")
    assert ErrorState.of(town.ledger, "intent", 2) is None


# ---- what a policy does with it ----


def test_only_labels_since_the_drift_began_count_towards_the_minimum(make_town: MakeTown) -> None:
    town = make_town(policy={"kind": "drift", "limits": {"min_labels": 50}})
    calm = town.ask(400)
    town.label(calm)
    learn(town)
    watch(town)
    drifted = town.ask(200, new=0.5)
    assert watch(town)[-1] == "alert"
    held = trigger(town).decide(town.now)
    assert held is not None
    assert held.held_by == ("min_feedback: 0 of 50 rows of feedback",)
    town.label(drifted)
    learn(town)
    assert trigger(town).decide(town.now).fire  # type: ignore[union-attr]


def test_an_alert_stands_until_a_version_learns_after_it_although_the_windows_calm_down(make_town: MakeTown) -> None:
    """Where few of the labels that come are new, an episode is over before there are enough."""
    town = make_town(policy={"kind": "drift", "limits": {"min_labels": 50, "cooldown_s": 0.0}})
    town.ask(400)
    drifted = town.ask(300, new=0.5)
    assert watch(town)[-1] == "alert"
    town.ask(1000)
    assert watch(town)[-1] == "ok"
    town.label(drifted)
    learn(town)
    decision = trigger(town).decide(town.now)
    assert decision is not None
    assert decision.fire
    assert decision.reasons == ("drift: alert (over, and not answered yet)",)

    for outcome, gate, held in IN_VAIN:
        ended(town, outcome, gate)
        stands = trigger(town).decide(town.now)
        assert stands is not None
        assert stands.reasons == decision.reasons, f"{outcome}, gate {gate}: no version has learnt"
        assert [each.partition(":")[0] for each in stands.held_by] == held
    for outcome in ANSWERS:
        state = WATCH.read(town.ledger, "intent")
        assert state is not None
        WATCH.keep(town.ledger, "intent", state.changed(alerted_since=datetime.now(UTC).isoformat()))
        assert trigger(town).facts().drift is DriftState.ALERT  # type: ignore[union-attr]
        ended(town, outcome, True)
        assert trigger(town).facts().drift is DriftState.OK, outcome  # type: ignore[union-attr]
        assert trigger(town).decide(town.now).reasons == ()  # type: ignore[union-attr]


IN_VAIN: list[tuple[str, bool | None, list[str]]] = [
    ("failed", None, []),  # a cluster that is away, a full disk: the same labels may be tried again
    ("failed", True, []),
    ("refused", None, []),  # its engine differed
    ("refused", False, ["refused"]),  # by the gate: the same labels would be refused again
    ("refused", True, []),  # by a canary, a latency, a deadline or a step
    ("failed", None, []),
]
ANSWERS = ("promoted", "rolled_back", "aborted")  # a version learnt, and served or was stopped by somebody


def ended(town: Town, outcome: str, gate: bool | None) -> None:
    """A cycle begins, and ends so; its version learnt what there is."""
    cycle, number = town.ledger.open_cycle("intent", "drift", {}), town.ledger.next_version("intent")
    told = {"last_example_id": town.ledger.last_example_id("intent")}
    judged = {} if gate is None else {"gate": {"accepted": gate}}
    town.ledger.add_version(
        VersionRow(model="intent", version=number, parent=1, cycle_id=cycle, lineage=told, metrics=judged)
    )
    town.ledger.close_cycle(cycle, outcome)


def test_a_past_without_a_later_version_replays_with_changes_as_given(make_town: MakeTown) -> None:
    town = make_town(policy={"kind": "drift", "limits": {"min_labels": 20}})
    town.label(town.ask(500))
    learn(town)
    changed_at = town.now
    for _ in range(5):
        town.label(town.ask(100, new=0.5))
        learn(town)
    reader = PastReader(*_parts(town))
    past = reader.read()
    assert (past.kept, past.fresh, past.answered_anew, past.changes_from) == (1, None, 0, "labels")
    (change,) = past.history.changes
    assert abs((change - changed_at).total_seconds()) < 30
    from perennial.continual.policy import parse_policy, replay

    result = replay(parse_policy(town.policy), past.history)
    assert [each.false for each in result.retrainings] == [False]
    assert result.changes[0].delay_requests is not None
    assert result.changes[0].delay_requests <= 400
    assert result.accuracy_saved is None, "nothing is known of a version that never was"
    often = replay(parse_policy({"kind": "feedback_count", "at_least": 40}), past.history)
    assert often.false_retrainings >= 1
    assert often.held.get("proof", 0) >= 2, "the loop would wait for held-out rows too"
    given = reader.read(changes=[changed_at, changed_at + timedelta(seconds=150)])
    assert (given.changes_from, len(given.history.changes)) == ("given", 2)
    with pytest.raises(DataError, match="a replay needs at least 300"):
        reader.read(since=town.now - timedelta(seconds=50))


def test_a_watch_that_a_wrong_clock_set_ahead_goes_on(town: Town) -> None:
    town.ask(300)
    assert watch(town) == ["ok"]
    state = WATCH.read(town.ledger, "intent")
    assert state is not None
    ahead = (datetime.now(UTC) + timedelta(days=3650)).isoformat()
    wrong = dict.fromkeys(("cursor", "drift_since", "like_until", "alerted_since"), ahead)
    WATCH.keep(town.ledger, "intent", state.changed(**wrong, cursor_id="f" * 32))
    now = town.now
    town.now = datetime.now(UTC) + timedelta(days=3650)
    town.ask(50)  # logged while the clock was wrong: no window of the present ends with these
    town.now = max(now, datetime.now(UTC) + timedelta(minutes=1))
    assert watch(town) == []
    healed = WATCH.read(town.ledger, "intent")
    assert healed is not None
    for name in wrong:
        assert datetime.fromisoformat(getattr(healed, name)) < datetime.now(UTC) + timedelta(minutes=10), name
    town.ask(100)
    assert watch(town) == ["ok"]


def test_what_another_version_answered_is_answered_anew_by_the_first_one(make_town: MakeTown) -> None:
    town = make_town()
    write_bundle(town.workspace.bundle("intent", 1), 1, labels=KNOWN)
    write_bundle(town.workspace.bundle("intent", 2), 2, labels=KNOWN, shift=1)
    town.label(town.ask(400))
    town.version = 2
    asked = town.ask(400)
    town.label(asked)
    learn(town)
    town.ledger.add_version(
        VersionRow(model="intent", version=2, state=VersionState.CHAMPION, card=version_card(labels=KNOWN))
    )
    later = Route(model="intent", epoch=2, champion=2, previous=1, resident=(1, 2))
    town.ledger.set_route(later, expected_epoch=1, actor="operator", reason="better")
    past = PastReader(*_parts(town)).read()
    assert (past.kept, past.fresh, past.answered_anew) == (1, 2, 400)
    last = past.history.points[-1]
    about_cards = np.mean([each.truth == "lost_card" for each in asked[-100:]])
    assert last.accuracy_kept == pytest.approx(about_cards), "the first version calls everything a lost card"
    assert last.accuracy_fresh != last.accuracy_kept, "the later one nothing"


# ---- catching up ----


def test_after_an_outage_the_newest_come_first_and_the_gap_is_sampled_and_told(town: Town) -> None:
    town.ask(400, batch=50)
    watch(town)
    town.ask(4_000, batch=50)  # nobody watched meanwhile
    town.ask(500, new=0.8, batch=50)
    Watcher(town.ledger, town.workspace, "intent", town.traffic, EventFeed(), backlog=2_500).watch()
    reports = town.ledger.drift_reports("intent")
    sampled = [report for report in reports if report.payload.get("sampled")]
    assert len(sampled) == 5
    assert not any(report.payload["signal"]["alert"] for report in sampled)
    for report in sampled:
        assert len(reported_window(town.ledger, town.workspace, town.traffic, report).window) == report.rows == 100
    watched = [report for report in reports if not report.payload.get("sampled")]
    assert len(watched) == 2 + 20, "the newest 2,000 requests"
    assert any(report.payload["signal"]["alert"] for report in watched[:5])
    assert sampled[0].window_to < watched[-3].window_from
    state = WATCH.read(town.ledger, "intent")
    assert state is not None
    assert state.cursor == watched[0].window_to.isoformat()
    assert watch(town) == []


def test_a_backlog_within_bounds_is_watched_in_its_order(town: Town) -> None:
    town.ask(400, batch=50)
    watch(town)
    town.ask(1_500, batch=50)
    Watcher(town.ledger, town.workspace, "intent", town.traffic, EventFeed(), backlog=2_500).watch()
    assert not any(report.payload.get("sampled") for report in town.ledger.drift_reports("intent"))


def test_a_row_that_was_written_late_belongs_to_its_window(town: Town) -> None:
    town.ask(500, batch=50)
    watch(town)
    now = town.now
    town.now -= timedelta(seconds=75)  # within the last window
    town.ask(1)
    town.now = now
    report = town.ledger.drift_reports("intent", limit=1)[0]
    seen = reported_window(town.ledger, town.workspace, town.traffic, report)
    assert len(seen.window) == report.rows
    town.ask(120, batch=50)
    assert len(watch(town)) == 1
