"""When a policy fires, what holds it back, and what a replay of it tells."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.policy import (
    AllOf,
    AnyOf,
    AtLeastN,
    Condition,
    Drift,
    DriftState,
    EstimatedQuality,
    Facts,
    FeedbackCount,
    History,
    HistoryPoint,
    LearningGain,
    Limits,
    MeasuredQuality,
    MeasuredShare,
    PastAttempt,
    QuietHours,
    Schedule,
    TriggerPolicy,
    decide,
    parse_policy,
    policy_values,
    replay,
)

T0 = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def facts(**given: Any) -> Facts:
    return Facts(champion_since=T0, **given)


def fires(when: Condition, hours: float = 0, **given: Any) -> bool:
    return decide(TriggerPolicy(when=when), facts(**given), at(hours)).fire


def test_a_schedule_fires_after_its_interval_since_the_last_cycle() -> None:
    daily = Schedule(interval_s=86_400)
    assert not fires(daily, 23.9)
    assert fires(daily, 24)
    assert not fires(daily, 24, cycles=(at(1),))
    assert fires(daily, 25, cycles=(at(1), at(0)))


def test_a_cron_schedule_fires_once_a_named_time_passed() -> None:
    weekly = Schedule(cron="0 3 * * 1")
    assert not fires(weekly, 2.9)
    assert fires(weekly, 3)
    assert not fires(weekly, 24 * 6, cycles=(at(3),))
    assert fires(weekly, 24 * 7 + 3, cycles=(at(3),))


def test_labels_fire_at_their_count() -> None:
    assert not fires(FeedbackCount(at_least=10), unlearnt_feedback=9)
    assert fires(FeedbackCount(at_least=10), unlearnt_feedback=10)


def test_drift_fires_at_its_level_once_an_episode() -> None:
    assert not fires(Drift(), drift=DriftState.WARNING)
    assert fires(Drift(), drift=DriftState.ALERT, drift_since=at(0))
    assert fires(Drift(level=DriftState.WARNING), drift=DriftState.WARNING)
    assert not fires(Drift(level=DriftState.WARNING), drift=DriftState.COOLDOWN)
    assert not fires(Drift(), 9, drift=DriftState.ALERT, drift_since=at(1), cycles=(at(2),))
    assert fires(Drift(), 9, drift=DriftState.ALERT, drift_since=at(3), cycles=(at(2),))


def test_drift_that_goes_on_fires_again_when_told_to() -> None:
    again = Drift(again_after_s=3600)
    episode = {"drift": DriftState.ALERT, "drift_since": at(1), "cycles": (at(2),)}
    assert not fires(again, 2.9, **episode)
    assert fires(again, 3, **episode)


def test_estimated_accuracy_fires_below_a_value_or_a_drop() -> None:
    assert fires(EstimatedQuality(below=0.8), estimated_quality=0.79)
    assert not fires(EstimatedQuality(below=0.8), estimated_quality=0.8)
    assert not fires(EstimatedQuality(below=0.8))
    assert fires(EstimatedQuality(drop=0.05), estimated_quality=0.84, reference_quality=0.9)
    assert not fires(EstimatedQuality(drop=0.05), estimated_quality=0.1)
    assert fires(EstimatedQuality(drop=0.05, below=0.5), estimated_quality=0.84, reference_quality=0.9)


def test_measured_accuracy_fires_only_when_it_surely_is_below() -> None:
    sure = MeasuredShare(value=0.7, low=0.6, high=0.79, rows=60)
    unsure = MeasuredShare(value=0.7, low=0.5, high=0.85, rows=60)
    few = MeasuredShare(value=0.5, low=0.4, high=0.6, rows=9)
    below = MeasuredQuality(below=0.8)
    assert fires(below, measured_quality=sure)
    assert not fires(below, measured_quality=unsure)
    assert not fires(below, measured_quality=few)
    assert not fires(below)
    assert fires(MeasuredQuality(drop=0.1), measured_quality=sure, reference_quality=0.9)


def test_combinations_count_their_members() -> None:
    members = (FeedbackCount(at_least=1), Drift(), EstimatedQuality(below=0.5))
    for holds in itertools.product((False, True), repeat=3):
        given = {
            "unlearnt_feedback": int(holds[0]),
            "drift": DriftState.ALERT if holds[1] else DriftState.OK,
            "estimated_quality": 0.4 if holds[2] else 0.6,
        }
        assert fires(AnyOf(policies=members), **given) == any(holds)
        assert fires(AllOf(policies=members), **given) == all(holds)
        for n in (1, 2, 3):
            assert fires(AtLeastN(n=n, policies=members), **given) == (sum(holds) >= n)


def test_a_combination_names_each_reason() -> None:
    policy = TriggerPolicy(when=AnyOf(policies=(FeedbackCount(at_least=1), Drift())))
    decision = decide(policy, facts(unlearnt_feedback=3, drift=DriftState.ALERT, drift_signals=("a", "b")), T0)
    assert decision.reasons == ("feedback_count: 3 rows of feedback not learnt (at least 1)", "drift: alert (a, b)")


# what holds back


def held(limits: Limits, hours: float = 0, **given: Any) -> set[str]:
    policy = TriggerPolicy(when=Drift(again_after_s=1), limits=limits)
    decision = decide(policy, facts(drift=DriftState.ALERT, **given), at(hours))
    assert decision.reasons
    assert decision.fire == (not decision.held_by)
    return {name.partition(":")[0] for name in decision.held_by}


def test_a_budget_counts_the_last_24_hours() -> None:
    two = Limits(budget_per_day=2)
    assert held(two, 30, cycles=(at(1), at(29))) == set()
    assert held(two, 24.9, cycles=(at(1), at(20))) == {"budget"}
    assert held(two, 25, cycles=(at(1), at(20))) == set()


def test_a_cooldown_counts_from_the_newest_cycle() -> None:
    assert held(Limits(cooldown_s=7200), 3.9, cycles=(at(2), at(1))) == {"cooldown"}
    assert held(Limits(cooldown_s=7200), 4, cycles=(at(2), at(1))) == set()


def test_quiet_hours_may_pass_midnight_and_live_in_a_zone() -> None:
    night = Limits(quiet_hours=QuietHours(start=time(22), end=time(6)))
    assert [bool(held(night, hours)) for hours in (0, 5.99, 6, 21.99, 22, 30)] == [
        True,
        True,
        False,
        False,
        True,
        False,
    ]
    berlin = QuietHours(start=time(9), end=time(17), zone="Europe/Berlin")
    assert berlin.covers(datetime(2026, 1, 5, 8, tzinfo=UTC))  # winter: one hour ahead
    assert not berlin.covers(datetime(2026, 1, 5, 7, 59, tzinfo=UTC))
    assert berlin.covers(datetime(2026, 7, 6, 7, tzinfo=UTC))  # summer: two
    assert not berlin.covers(datetime(2026, 7, 6, 15, tzinfo=UTC))


def test_missing_labels_and_a_dry_run_hold_back_and_every_limit_is_named() -> None:
    limits = Limits(min_feedback=5, dry_run=True, cooldown_s=60, budget_per_day=1)
    assert held(limits, 1, cycles=(at(1),), unlearnt_feedback=4) == {"min_feedback", "dry_run", "cooldown", "budget"}
    assert held(Limits(min_feedback=5), unlearnt_feedback=5) == set()


def test_nothing_is_held_when_nothing_is_wanted() -> None:
    decision = decide(TriggerPolicy(when=Drift(), limits=Limits(dry_run=True)), facts(), T0)
    assert (decision.fire, decision.reasons, decision.held_by) == (False, (), ())


def test_a_present_without_a_zone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no time zone"):
        decide(TriggerPolicy(when=Drift()), facts(), datetime(2026, 1, 1))  # noqa: DTZ001


# plain values

EVERY_KIND: dict[str, Any] = {
    "kind": "at_least_n",
    "n": 2,
    "policies": [
        {"kind": "schedule", "cron": "0 3 * * mon"},
        {"kind": "feedback_count", "at_least": 200},
        {
            "kind": "any",
            "policies": [
                {"kind": "drift", "level": "warning", "again_after_s": 60.0},
                {"kind": "schedule", "interval_s": 9.0},
            ],
        },
        {"kind": "all", "policies": [{"kind": "estimated_quality", "drop": 0.05}]},
        {"kind": "measured_quality", "below": 0.9, "min_feedback": 80},
    ],
    "limits": {
        "budget_per_day": 2,
        "cooldown_s": 3600.0,
        "quiet_hours": {"start": "22:00", "end": "06:00", "zone": "Europe/Berlin"},
        "min_feedback": 50,
        "dry_run": True,
    },
}


def test_a_policy_round_trips_through_plain_values() -> None:
    policy = parse_policy(EVERY_KIND)
    assert policy_values(policy) == EVERY_KIND
    assert parse_policy(policy_values(policy)) == policy
    assert policy_values(parse_policy({"kind": "drift"})) == {"kind": "drift"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "policy has kind None; allowed are all, any"),
        ({"kind": "moon"}, "kind 'moon'"),
        ({"kind": "drift", "colour": 1}, r"unknown fields \['colour'\]"),
        ({"kind": "drift", "level": "ok"}, "must be 'warning' or 'alert'"),
        ({"kind": "drift", "level": "hot"}, "level is 'hot'"),
        ({"kind": "drift", "again_after_s": 0}, "must be positive"),
        ({"kind": "feedback_count"}, "at_least"),
        ({"kind": "feedback_count", "at_least": 0}, "at least 1"),
        ({"kind": "feedback_count", "at_least": "many"}, "policy.at_least is 'many'; it must be a whole number"),
        ({"kind": "schedule"}, "either interval_s or cron"),
        ({"kind": "schedule", "cron": "never"}, "has 1 fields"),
        ({"kind": "schedule", "interval_s": -1}, "must be positive"),
        ({"kind": "estimated_quality"}, "below or drop"),
        ({"kind": "measured_quality", "below": 90}, r"must lie in \(0, 1\]"),
        ({"kind": "measured_quality", "below": 0.9, "min_feedback": 0}, "min_feedback 0"),
        ({"kind": "any", "policies": []}, "asks for 1 of 0"),
        ({"kind": "any", "policies": "drift"}, "must be a list"),
        ({"kind": "at_least_n", "n": 2, "policies": [{"kind": "drift"}]}, "asks for 2 of 1"),
        ({"kind": "all", "policies": [{"kind": "drift"}, {"kind": "sun"}]}, r"policies\[1\] has kind 'sun'"),
        ({"kind": "all", "policies": ["drift"]}, r"policies\[0\] is 'drift'; it must be a table"),
        ({"kind": "drift", "limits": {"budget": 1}}, "unknown fields"),
        ({"kind": "drift", "limits": 3}, "must be a table"),
        ({"kind": "drift", "limits": {"budget_per_day": 0}}, "at least 1"),
        ({"kind": "drift", "limits": {"cooldown_s": -1}}, "must not be negative"),
        ({"kind": "drift", "limits": {"quiet_hours": {"start": "22", "end": "x"}}}, "write HH:MM"),
        ({"kind": "drift", "limits": {"quiet_hours": {"start": "22:00"}}}, "end"),
        ({"kind": "drift", "limits": {"quiet_hours": {"start": "22:00", "end": "22:00"}}}, "two different times"),
        ({"kind": "drift", "limits": {"quiet_hours": {"start": "22:00", "end": "06:00", "zone": "Mars"}}}, "'Mars'"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_with_the_place(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_policy(values)


def test_a_measured_share_must_lie_in_its_interval() -> None:
    with pytest.raises(DataError, match="needs 0 <= low"):
        MeasuredShare(value=0.5, low=0.6, high=0.7, rows=1)


# replay


def drifted(hours: float, *, since: float | None, kept: float, requests: int = 100) -> HistoryPoint:
    return HistoryPoint(
        at=at(hours),
        requests=requests,
        feedback=10,
        drift=DriftState.OK if since is None else DriftState.ALERT,
        drift_since=None if since is None else at(since),
        accuracy_kept=kept,
        accuracy_fresh=0.9,
    )


def two_changes() -> History:
    """Changes at 2.5 h and 6.5 h, each noticed two points later; the old model never recovers."""
    points = [drifted(h, since=None, kept=0.9) for h in (1, 2)]
    points += [drifted(3, since=None, kept=0.7), drifted(4, since=4, kept=0.7)]
    points += [drifted(h, since=4, kept=0.7) for h in (5, 6)]
    points += [drifted(7, since=4, kept=0.5), drifted(8, since=8, kept=0.5), drifted(9, since=8, kept=0.5)]
    return History(champion_since=T0, points=tuple(points), changes=(at(2.5), at(6.5)), reference_quality=0.9)


def test_a_replay_tells_retrainings_delay_and_accuracy_saved() -> None:
    result = replay(TriggerPolicy(when=Drift()), two_changes())
    assert [(each.at, each.request, each.false) for each in result.retrainings] == [
        (at(4), 400, False),
        (at(8), 800, False),
    ]
    assert [(found.delay_s, found.delay_requests) for found in result.changes] == [(5400, 200), (5400, 200)]
    assert result.false_retrainings == 0
    assert result.requests == 900
    assert result.accuracy_never == pytest.approx((0.9 * 2 + 0.7 * 4 + 0.5 * 3) / 9)
    # fresh at 5 and 6 after the first retraining, and at 9 after the second; kept at 3, 4, 7 and 8
    assert result.accuracy_saved == pytest.approx((0.2 * 2 + 0.4) / 9)


def test_a_replay_counts_retrainings_for_nothing() -> None:
    result = replay(TriggerPolicy(when=Schedule(interval_s=3600)), two_changes())
    assert [each.false for each in result.retrainings] == [True, True, False, True, True, True, False, True, True]
    assert result.false_retrainings == 7


def test_a_replay_of_a_dry_run_retrains_never_and_tells_what_held() -> None:
    result = replay(TriggerPolicy(when=Drift(), limits=Limits(dry_run=True)), two_changes())
    assert (result.retrainings, result.held) == ((), {"dry_run": 6})
    assert result.accuracy_saved == 0
    assert [found.delay_s for found in result.changes] == [None, None]


def test_a_replay_waits_for_the_rows_that_the_gate_asks_for() -> None:
    points = tuple(HistoryPoint(at=at(hours), requests=10, feedback=9, proof=4) for hours in range(1, 8))
    policy = TriggerPolicy(when=FeedbackCount(at_least=9))
    waits = replay(policy, History(champion_since=T0, points=points, proof_needed=10))
    assert [each.at for each in waits.retrainings] == [at(3), at(6)]
    assert waits.held == {"proof": 5}
    untold = replay(policy, History(champion_since=T0, points=points))
    assert len(untold.retrainings) == 7
    assert untold.held == {}, "a past that tells nothing of proof holds nothing back"


def test_a_replay_waits_for_its_training_and_obeys_its_budget() -> None:
    late = History(
        champion_since=T0,
        points=two_changes().points,
        changes=two_changes().changes,
        training_s=3600,
    )
    result = replay(TriggerPolicy(when=Drift(), limits=Limits(budget_per_day=1)), late)
    assert len(result.retrainings) == 1
    assert result.held == {"budget": 2}
    assert result.changes[1].delay_s is None
    assert result.accuracy_saved == pytest.approx(0.2 / 9)


def test_a_replay_without_accuracies_says_nothing_about_them() -> None:
    points = (HistoryPoint(at=at(1), requests=5, drift=DriftState.ALERT, drift_since=at(1)),)
    result = replay(TriggerPolicy(when=Drift()), History(champion_since=T0, points=points))
    assert len(result.retrainings) == result.false_retrainings == 1
    assert (result.accuracy_never, result.accuracy_policy, result.accuracy_saved) == (None, None, None)


def test_a_history_out_of_order_is_refused() -> None:
    with pytest.raises(DataError, match="in order of time"):
        History(champion_since=T0, points=(HistoryPoint(at=at(2)), HistoryPoint(at=at(1))))


def test_a_replay_counts_only_labels_since_the_drift_began_as_the_loop_does() -> None:
    points = tuple(
        HistoryPoint(
            at=at(hour),
            requests=10,
            feedback=30,
            drift=DriftState.ALERT if hour >= 5 else DriftState.OK,
            drift_since=at(4) if hour >= 5 else None,
        )
        for hour in range(1, 9)
    )
    policy = TriggerPolicy(when=Drift(), limits=Limits(min_feedback=100))
    result = replay(policy, History(champion_since=T0, points=points, changes=(at(4),)))
    assert [each.at for each in result.retrainings] == [at(7)], "120 labels at hour 4 taught nothing of the change"
    assert result.held == {"min_feedback": 2}


def test_settings_of_earlier_releases_are_read_under_the_present_names() -> None:
    former = {
        "kind": "any",
        "policies": [
            {"kind": "label_count", "at_least": 200},
            {"kind": "estimated_accuracy", "drop": 0.1},
            {"kind": "measured_accuracy", "below": 0.8, "min_labels": 70},
        ],
        "limits": {"min_labels": 5},
    }
    policy = parse_policy(former)
    assert policy == TriggerPolicy(
        when=AnyOf(
            policies=(
                FeedbackCount(at_least=200),
                EstimatedQuality(drop=0.1),
                MeasuredQuality(below=0.8, min_feedback=70),
            )
        ),
        limits=Limits(min_feedback=5),
    )
    assert parse_policy(policy_values(policy)) == policy
    with pytest.raises(ConfigurationError, match="min_labels"):
        parse_policy({"kind": "drift", "limits": {"min_labels": 5, "min_feedback": 6}})


def test_what_learning_would_buy_opens_a_cycle_once_it_is_found() -> None:
    policy = parse_policy({"kind": "any", "policies": [{"kind": "drift"}, {"kind": "gain"}]})
    gain = LearningGain(value=0.142, low=0.101, high=0.183, rows=300, found=False)
    now = datetime(2026, 1, 2, tzinfo=UTC)
    facts = Facts(champion_since=datetime(2026, 1, 1, tzinfo=UTC), gain=gain)
    assert not decide(policy, facts, now).fire
    decision = decide(policy, replace(facts, gain=replace(gain, found=True)), now)
    assert decision.reasons == ("gain: learning would buy +14.2 points [+10.1, +18.3] on 300 labelled answers",)
    decision = decide(policy, replace(facts, gain=replace(gain, value=None, low=None, high=None, found=True)), now)
    assert decision.fire
    assert "points" not in decision.reasons[0]


@pytest.mark.parametrize(
    ("growth", "since", "held"), [(0.1, 39, True), (0.1, 40, False), (0.0, 0, True), (0.0, 1, False)]
)
def test_what_was_turned_away_is_not_repeated_on_the_same_labels(growth: float, since: int, held: bool) -> None:
    policy = TriggerPolicy(when=FeedbackCount(at_least=1), limits=Limits(refused_growth=growth))
    past = PastAttempt(version=7, learnt=400, since=since, began=T0, end="refused by the gate")
    decision = decide(policy, facts(unlearnt_feedback=500, turned_away=past), at(1))
    assert decision.fire is not held
    assert all("version 7 was refused by the gate on 400 of these" in each for each in decision.held_by)


@pytest.mark.parametrize(("since", "fire"), [(39, False), (40, True)])
def test_a_drift_whose_version_was_refused_opens_another_cycle_once_new_labels_have_come(
    since: int, fire: bool
) -> None:
    past = PastAttempt(version=7, learnt=400, since=since, began=T0, end="refused by the gate")
    given = facts(unlearnt_feedback=500, cycles=(T0,), drift=DriftState.ALERT, drift_since=at(-1), turned_away=past)
    assert not decide(TriggerPolicy(when=Drift()), given, at(2)).reasons, "one cycle answers an episode"
    decision = decide(TriggerPolicy(when=Drift()), replace(given, in_vain=(T0,)), at(2))
    assert (decision.fire, bool(decision.reasons)) == (fire, True)
    later = replace(given, cycles=(T0, at(1)), in_vain=(T0,))
    assert not decide(TriggerPolicy(when=Drift()), later, at(2)).reasons, "the one after it has answered"


def test_a_drift_whose_cycle_failed_opens_another_one_on_the_same_labels_after_the_cooldown() -> None:
    policy = TriggerPolicy(when=Drift(again_after_s=60.0), limits=Limits(cooldown_s=3600.0))
    given = facts(cycles=(at(0), at(1)), in_vain=(at(0), at(1)), drift=DriftState.ALERT, drift_since=at(-1))
    assert decide(policy, given, at(1.9)).held_by == ("cooldown: 3240 of 3600 s have passed",)
    assert decide(policy, given, at(2)).fire
    answered = replace(given, in_vain=(at(0),))
    assert not decide(TriggerPolicy(when=Drift()), answered, at(2)).reasons
    assert decide(policy, answered, at(2)).fire, "the episode goes on after what answered it"


@pytest.mark.parametrize(("began", "fire"), [(-1, False), (1, True)])
def test_a_drift_that_began_after_what_was_turned_away_is_something_new(began: float, fire: bool) -> None:
    policy = TriggerPolicy(when=FeedbackCount(at_least=1))
    past = PastAttempt(version=7, learnt=400, since=3, began=T0, end="rolled back")
    given = facts(unlearnt_feedback=500, turned_away=past, drift=DriftState.ALERT, drift_since=at(began))
    assert decide(policy, given, at(2)).fire is fire
