"""What happens exactly at a policy's limits: times, counts, accuracies and the edges of a replay's stretches."""

from datetime import UTC, datetime, time, timedelta

import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.policy import (
    AllOf,
    AtLeastN,
    Drift,
    DriftState,
    EstimatedQuality,
    FeedbackCount,
    History,
    HistoryPoint,
    Limits,
    MeasuredQuality,
    MeasuredShare,
    QuietHours,
    Schedule,
    TriggerPolicy,
    decide,
    replay,
)
from perennial.continual.policy.cron import next_time
from tests.unit.policy.test_policy import T0, at, drifted, facts, fires, held

JUST = timedelta(microseconds=1)


def test_a_retraining_that_began_with_the_episode_has_answered_it() -> None:
    episode = {"drift": DriftState.ALERT, "drift_since": at(2)}
    assert not fires(Drift(), 9, **episode, cycles=(at(2),))
    assert fires(Drift(), 9, **episode, cycles=(at(2) - JUST,))
    assert not fires(Drift(), 9, **episode, cycles=(at(2) + JUST,))


@pytest.mark.parametrize(("proof", "needed", "holds"), [(19, 20, True), (20, 20, False), (0, 0, False), (0, 1, True)])
def test_what_the_gate_could_not_judge_is_not_begun(proof: int, needed: int, holds: bool) -> None:
    assert held(Limits(), proof=proof, proof_needed=needed) == ({"proof"} if holds else set())


def test_drift_asks_again_after_its_time_even_a_short_one() -> None:
    assert Drift(again_after_s=0.5).again_after_s == 0.5
    assert Drift().again_after_s is None
    episode = {"drift": DriftState.ALERT, "drift_since": at(1), "cycles": (at(2),)}
    assert not fires(Drift(), 9_000, **episode), "without again_after_s an episode is answered once"
    assert decide(TriggerPolicy(when=Drift()), facts(drift=DriftState.ALERT), T0).reasons == (
        "drift: alert (unnamed signals)",
    )


@pytest.mark.parametrize("interval_s", [0, -1, float("inf"), float("nan")])
def test_a_schedule_needs_a_time_that_passes(interval_s: float) -> None:
    with pytest.raises(ConfigurationError, match="must be positive"):
        Schedule(interval_s=interval_s)
    assert fires(Schedule(interval_s=0.5), 0.5 / 3600)
    assert not fires(Schedule(interval_s=0.5), 0.4 / 3600)


def test_accuracies_at_their_limit_do_not_fire_and_the_higher_limit_counts() -> None:
    at_limit = MeasuredShare(value=0.7, low=0.6, high=0.8, rows=50)
    assert not fires(MeasuredQuality(below=0.8), measured_quality=at_limit)
    assert fires(MeasuredQuality(below=0.801), measured_quality=at_limit)
    few = MeasuredShare(value=0.7, low=0.6, high=0.8, rows=49)
    assert not fires(MeasuredQuality(below=0.9), measured_quality=few)
    assert fires(MeasuredQuality(below=0.9, min_feedback=1), measured_quality=few)
    assert not fires(EstimatedQuality(drop=0.05), estimated_quality=0.86, reference_quality=0.9)
    assert fires(EstimatedQuality(drop=0.05, below=0.88), estimated_quality=0.86, reference_quality=0.9)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_an_accuracy_limit_lies_above_0_and_at_most_at_1(share: float) -> None:
    for kind in (EstimatedQuality, MeasuredQuality):
        with pytest.raises(ConfigurationError, match=r"must lie in \(0, 1\]"):
            kind(below=share)
        with pytest.raises(ConfigurationError, match=r"must lie in \(0, 1\]"):
            kind(drop=share)
        assert kind(below=1.0, drop=0.01).below == 1.0


def test_a_combination_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="asks for 1 of 0"):
        AllOf(policies=())
    with pytest.raises(ConfigurationError, match="asks for 0 of 1"):
        AtLeastN(n=0, policies=(Drift(),))
    assert FeedbackCount(at_least=1).at_least == 1


@pytest.mark.parametrize(
    ("line", "due"),
    [
        ("0 3 * * 1-5", "2026-03-03T03:00:00"),  # after Monday's
        ("0 3 * * 0", "2026-03-08T03:00:00"),
        ("0 3 * * 7", "2026-03-08T03:00:00"),
        ("0 3 * * sun", "2026-03-08T03:00:00"),
        ("0 3 * * 5-7", "2026-03-06T03:00:00"),
        ("0 3 * * 6-7", "2026-03-07T03:00:00"),
        ("0 3 * * 3,6", "2026-03-04T03:00:00"),
        ("0 3 * * 4/2", "2026-03-05T03:00:00"),
        ("0 3 * * 1-6/2", "2026-03-04T03:00:00"),
        ("0 3 * * *", "2026-03-03T03:00:00"),
        ("0 4 * * 1", "2026-03-02T04:00:00"),
    ],
)
def test_weekdays_are_crons_own(line: str, due: str) -> None:
    assert next_time(line, at(3)).isoformat() == f"{due}+00:00"


def test_a_step_over_weekdays_ends_on_saturday() -> None:
    """4/2 is Thursday and Saturday; 5/2 is Friday alone, since Sunday is 0."""
    assert next_time("0 3 * * 4/2", datetime(2026, 3, 5, 3, tzinfo=UTC)).isoformat() == "2026-03-07T03:00:00+00:00"
    assert next_time("0 3 * * 5/2", datetime(2026, 3, 6, 3, tzinfo=UTC)).isoformat() == "2026-03-13T03:00:00+00:00"
    assert next_time("0 3 * * 6/1", datetime(2026, 3, 7, 3, tzinfo=UTC)).isoformat() == "2026-03-14T03:00:00+00:00"


@pytest.mark.parametrize(
    "line", ["0 3 * * 8", "0 3 * * 6-8", "0 3 * * 5-3", "0 3 * * moonday", "99 3 * * 1", "0 3 * *"]
)
def test_a_cron_line_that_names_no_time_is_refused_where_it_is_written(line: str) -> None:
    with pytest.raises(ConfigurationError, match="cron line"):
        Schedule(cron=line)


def test_a_cron_line_of_a_day_that_never_comes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="names a day that never comes"):
        next_time("0 3 30 2 *", T0)


def test_a_cron_time_that_was_used_is_not_due_again() -> None:
    assert next_time("0 3 * * *", at(3) - JUST) == at(3)
    assert next_time("0 3 * * *", at(3)) == at(27)


def test_a_budget_forgets_what_began_a_day_ago() -> None:
    one = Limits(budget_per_day=1)
    assert held(one, 25, cycles=(at(1),)) == set()
    assert held(one, 25, cycles=(at(1) + JUST,)) == {"budget"}
    assert held(one, 25, cycles=(at(25),)) == {"budget"}


def test_a_retraining_that_a_wrong_clock_stamped_in_the_future_holds_nothing_back() -> None:
    limits = Limits(budget_per_day=1, cooldown_s=60)
    assert held(limits, 25, cycles=(at(26),)) == set()
    assert held(limits, 25, cycles=(at(9_000), at(25))) == {"budget", "cooldown"}
    assert fires(Schedule(interval_s=3600), 25, cycles=(at(9_000),))
    assert fires(Drift(), 25, drift=DriftState.ALERT, drift_since=at(24), cycles=(at(9_000),))


def test_limits_of_whoever_sets_none_hold_nothing() -> None:
    assert Limits() == Limits(budget_per_day=None, cooldown_s=0.0, quiet_hours=None, min_feedback=0, dry_run=False)
    assert held(Limits(), cycles=(at(0),)) == set()
    assert Limits(budget_per_day=1, cooldown_s=0.5, min_feedback=1).min_feedback == 1
    with pytest.raises(ConfigurationError, match="must not be negative"):
        Limits(min_feedback=-1)
    with pytest.raises(ConfigurationError, match="must not be negative"):
        Limits(cooldown_s=-0.5)


def test_what_holds_is_told_in_numbers() -> None:
    limits = Limits(
        budget_per_day=1, cooldown_s=7200, min_feedback=5, quiet_hours=QuietHours(start=time(0, 30), end=time(6))
    )
    given = facts(drift=DriftState.ALERT, cycles=(at(1),), unlearnt_feedback=4)
    assert decide(TriggerPolicy(when=Drift(again_after_s=1), limits=limits), given, at(2)).held_by == (
        "budget: 1 of 1 a day are spent",
        "cooldown: 3600 of 7200 s have passed",
        "quiet_hours: 00:30 to 06:00 UTC",
        "min_feedback: 4 of 5 rows of feedback",
    )


def test_quiet_hours_of_one_day_begin_at_their_start_and_end_at_their_end() -> None:
    hours = QuietHours(start=time(9), end=time(17))
    assert [hours.covers(at(hour)) for hour in (8.99, 9, 16.99, 17)] == [False, True, True, False]
    with pytest.raises(ConfigurationError, match="wall-clock"):
        QuietHours(start=time(9, tzinfo=UTC), end=time(17))
    with pytest.raises(ConfigurationError, match="wall-clock"):
        QuietHours(start=time(9), end=time(17, tzinfo=UTC))


@pytest.mark.parametrize(
    ("low", "value", "high", "labels"),
    [(-0.1, 0.5, 0.6, 1), (0.1, 0.5, 1.1, 1), (0.1, 0.5, 0.4, 1), (0.1, 0.5, 0.6, -1)],
)
def test_a_measured_share_that_is_none_is_refused(low: float, value: float, high: float, labels: int) -> None:
    with pytest.raises(DataError, match="is not one"):
        MeasuredShare(value=value, low=low, high=high, rows=labels)
    assert MeasuredShare(value=0.0, low=0.0, high=0.0, rows=0).rows == 0
    assert MeasuredShare(value=1.0, low=1.0, high=1.0, rows=0).high == 1.0


# replay


def _history(*points: HistoryPoint, changes: tuple[datetime, ...] = (), **facts: float) -> History:
    return History(champion_since=T0, points=points, changes=changes, **facts)  # type: ignore[arg-type]


def _times(history: History, policy: TriggerPolicy | None = None) -> list[tuple[datetime, bool]]:
    result = replay(policy or TriggerPolicy(when=Drift()), history)
    return [(each.at, each.false) for each in result.retrainings]


def test_a_change_at_the_time_of_a_retraining_is_answered_by_it_and_not_by_the_next() -> None:
    often = TriggerPolicy(when=Schedule(interval_s=3600))
    points = [HistoryPoint(at=at(hour), requests=10) for hour in (1, 2, 3)]
    assert _times(_history(*points, changes=(at(2),)), often) == [(at(1), True), (at(2), False), (at(3), True)]
    assert _times(_history(*points, changes=(T0,)), often)[0] == (at(1), True)
    found = replay(often, _history(*points, changes=(at(2),))).changes
    assert [(each.at, each.delay_s, each.delay_requests) for each in found] == [(at(2), 0.0, 0)]


def test_an_answer_that_comes_with_the_next_change_does_not_count_for_the_one_before() -> None:
    points = [HistoryPoint(at=at(hour), requests=10) for hour in range(1, 7)]
    late = TriggerPolicy(when=Schedule(interval_s=4 * 3600))
    found = replay(late, _history(*points, changes=(at(4), at(2)))).changes
    assert [(each.at, each.delay_s) for each in found] == [(at(2), None), (at(4), 0.0)]
    found = replay(late, _history(*points, changes=(at(2), at(5)))).changes
    assert [(each.delay_s, each.delay_requests) for each in found] == [(7200.0, 20), (None, None)]


def test_an_episode_that_began_with_the_retraining_is_over_in_a_replay() -> None:
    alert = {"drift": DriftState.ALERT}
    points = [
        HistoryPoint(at=at(1), drift_since=at(1), **alert),
        HistoryPoint(at=at(2), drift_since=at(1), **alert),
        HistoryPoint(at=at(3), drift_since=at(3) - JUST, **alert),
    ]
    again = TriggerPolicy(when=Drift(again_after_s=1))
    assert [moment for moment, _ in _times(_history(*points), again)] == [at(1), at(3)]


def test_an_alert_that_is_over_waits_for_its_labels_and_is_answered_once() -> None:
    alert = {"drift": DriftState.ALERT, "drift_since": at(2) - JUST, "alerted_since": at(2) - JUST}
    points = [
        HistoryPoint(at=at(1), feedback=40),
        HistoryPoint(at=at(2), **alert),
        *(HistoryPoint(at=at(hour), feedback=10, alerted_since=at(2) - JUST) for hour in range(3, 9)),
    ]
    enough = TriggerPolicy(when=Drift(), limits=Limits(min_feedback=30))
    assert [moment for moment, _ in _times(_history(*points), enough)] == [at(5)]


def test_a_replay_hands_the_recorded_facts_to_the_policy() -> None:
    low = MeasuredShare(value=0.5, low=0.4, high=0.6, rows=80)
    points = [HistoryPoint(at=at(1), estimated_quality=0.5, measured_quality=low)]
    for when in (EstimatedQuality(drop=0.1), MeasuredQuality(drop=0.1)):
        assert [moment for moment, _ in _times(_history(*points, reference_quality=0.9), TriggerPolicy(when=when))] == [
            at(1)
        ]
        assert _times(_history(*points), TriggerPolicy(when=when)) == []
    signals = HistoryPoint(at=at(1), drift=DriftState.ALERT, drift_signals=("confidence",))
    result = replay(TriggerPolicy(when=Drift()), _history(signals))
    assert result.retrainings[0].reasons == ("drift: alert (confidence)",)


def test_after_a_retraining_old_accuracies_count_again_from_the_next_change_on() -> None:
    """The recording is of a model that was never retrained: until the world changes, the new one stands as it began."""
    low = MeasuredShare(value=0.5, low=0.4, high=0.6, rows=80)
    points = [HistoryPoint(at=at(hour), measured_quality=low, estimated_quality=0.5) for hour in range(1, 6)]
    for when in (MeasuredQuality(drop=0.1), EstimatedQuality(drop=0.1)):
        history = _history(*points, changes=(at(0.5), at(3)), reference_quality=0.9)
        assert _times(history, TriggerPolicy(when=when)) == [(at(1), False), (at(3), False)]


def test_what_answers_is_fresh_once_trained_and_until_the_next_change() -> None:
    """The stretch that ends when the training does is still the old version's."""
    points = [drifted(hour, since=1 if hour < 4 else 4, kept=0.5) for hour in (1, 2, 3, 4, 5)]
    learnt = replay(TriggerPolicy(when=Drift()), _history(*points, changes=(at(0.5),), training_s=3600.0))
    assert [each.at for each in learnt.retrainings] == [at(1), at(4)]
    assert learnt.accuracy_policy == pytest.approx((0.5 * 2 + 0.9 * 3) / 5)
    changed = replay(TriggerPolicy(when=Drift()), _history(*points, changes=(at(0.5), at(4))))
    assert changed.accuracy_policy == pytest.approx((0.5 + 0.9 + 0.9 + 0.5 + 0.9) / 5)


def test_a_change_at_the_end_of_a_stretch_belongs_to_it_and_a_later_one_does_not() -> None:
    points = [drifted(hour, since=1, kept=0.5) for hour in (1, 2, 3)]
    result = replay(TriggerPolicy(when=Drift()), _history(*points, changes=(at(0.5), at(2.5))))
    assert result.accuracy_policy == pytest.approx((0.5 + 0.9 + 0.5) / 3)


def test_accuracies_are_weighted_by_requests_and_quiet_stretches_say_nothing() -> None:
    quiet = HistoryPoint(at=at(1))
    points = [
        quiet,
        HistoryPoint(at=at(2), requests=30, accuracy_kept=0.5),
        HistoryPoint(at=at(3), requests=10, accuracy_kept=0.9),
    ]
    assert replay(TriggerPolicy(when=Drift()), _history(*points)).accuracy_never == pytest.approx(0.6)
    unknown = HistoryPoint(at=at(4), requests=1)
    assert replay(TriggerPolicy(when=Drift()), _history(*points, unknown)).accuracy_never is None
    later = HistoryPoint(at=at(5), requests=1, accuracy_kept=0.9)
    assert replay(TriggerPolicy(when=Drift()), _history(*points, unknown, later)).accuracy_never is None
    assert replay(TriggerPolicy(when=Drift()), _history(quiet)).accuracy_never is None
    wrong = HistoryPoint(at=at(4), requests=40, accuracy_kept=0.0)
    assert replay(TriggerPolicy(when=Drift()), _history(*points, wrong)).accuracy_never == pytest.approx(0.3)


def test_what_retraining_saved_is_unknown_where_fresh_accuracies_are() -> None:
    points = [HistoryPoint(at=at(hour), requests=10, accuracy_kept=0.5) for hour in (1, 2)]
    result = replay(TriggerPolicy(when=Schedule(interval_s=3600)), _history(*points))
    assert (result.accuracy_never, result.accuracy_policy, result.accuracy_saved) == (0.5, None, None)


def test_labels_that_a_retraining_learnt_are_not_counted_again() -> None:
    points = [HistoryPoint(at=at(hour), feedback=5) for hour in range(1, 6)]
    policy = TriggerPolicy(when=FeedbackCount(at_least=10))
    assert [moment for moment, _ in _times(_history(*points), policy)] == [at(2), at(4)]


def test_labels_given_when_the_drift_began_count_and_a_warning_starts_no_new_count() -> None:
    def points(state: DriftState) -> list[HistoryPoint]:
        return [HistoryPoint(at=at(hour), feedback=5, drift=state, drift_since=at(2)) for hour in (1, 2, 3)]

    policy = TriggerPolicy(when=FeedbackCount(at_least=10))
    assert [moment for moment, _ in _times(_history(*points(DriftState.ALERT)), policy)] == [at(3)]
    assert [moment for moment, _ in _times(_history(*points(DriftState.WARNING)), policy)] == [at(2)]


def test_a_history_may_begin_with_its_champion_and_not_before() -> None:
    assert _history(HistoryPoint(at=T0)).points[0].at == T0
    assert _history().points == ()
    for later in ((), (HistoryPoint(at=at(1)),)):
        with pytest.raises(DataError, match="none before champion_since"):
            _history(HistoryPoint(at=T0 - JUST), *later)


def test_a_point_of_which_nothing_is_known_counts_nothing() -> None:
    assert HistoryPoint(at=T0) == HistoryPoint(at=T0, requests=0, feedback=0, drift=DriftState.OK, drift_signals=())
    assert _history().training_s == 0.0
    assert fires(FeedbackCount(at_least=1), unlearnt_feedback=1)
    assert not fires(FeedbackCount(at_least=1))
