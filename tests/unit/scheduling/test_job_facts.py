"""When a job counts as silent."""

import pytest

from perennial.ops.scheduling.job_facts import JobFacts


@pytest.mark.parametrize(
    ("interval_s", "limit_s"), [(10.0, 70.0), (30.0, 90.0), (31.0, 93.0), (600.0, 1800.0), (0.5, 60.5), (None, None)]
)
def test_three_intervals_and_at_least_a_minute_beyond_one_pass_before_a_job_is_silent(
    interval_s: float | None, limit_s: float | None
) -> None:
    assert JobFacts(interval_s=interval_s).limit_s == limit_s


@pytest.mark.parametrize(
    ("since", "done", "age_s"),
    [(None, None, None), (40.0, None, 60.0), (None, 70.0, 30.0), (40.0, 70.0, 30.0), (70.0, 40.0, 30.0)],
)
def test_a_job_is_waited_for_since_it_was_seen_first_or_ended_well_last(
    since: float | None, done: float | None, age_s: float | None
) -> None:
    assert JobFacts(interval_s=1.0, since=since, done=done).age_s(100.0) == age_s


def test_a_job_is_silent_beyond_its_limit_and_neither_at_it_nor_while_it_is_paused() -> None:
    seen = JobFacts(interval_s=30.0, since=10.0)
    assert [seen.silent(now) for now in (10.0, 99.0, 100.0, 100.5)] == [False, False, False, True]
    assert JobFacts(interval_s=30.0, since=10.0, paused=True).silent(1e9) is False


def test_a_job_of_the_calendar_and_one_that_nobody_waits_for_are_never_silent() -> None:
    assert JobFacts(interval_s=None, since=0.0).silent(1e9) is False
    assert JobFacts(interval_s=30.0).silent(1e9) is False


def test_a_job_that_nothing_is_known_of_runs_and_failed_never() -> None:
    fresh = JobFacts(interval_s=1.0)
    assert (fresh.since, fresh.paused, fresh.began, fresh.done, fresh.error) == (None, False, None, None, "")
