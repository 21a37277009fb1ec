"""Which slot of a job is due: arithmetic only."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perennial.continual.errors import ConfigurationError
from perennial.ops.ledger import Fence, JobRunRow
from perennial.ops.scheduling import Catch, JobSpec
from perennial.ops.scheduling.jobs import as_run

T0 = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday


def spec(**facts: Any) -> JobSpec:
    return JobSpec(name="watch:intent", action=lambda _: None, **facts)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_a_job_is_not_due_before_its_time() -> None:
    assert spec(interval_s=60).slot(after(60), after(59.9)) is None


def test_a_slot_that_comes_in_time_moves_the_due_time_by_one_interval() -> None:
    slot = spec(interval_s=60).slot(T0, after(0.2))
    assert slot is not None
    assert (slot.at, slot.next_due, slot.skipped, slot.expired) == (T0, after(60), 0, False)


@pytest.mark.parametrize("late_s", [60, 61, 330, 86_400 * 400])
def test_slots_that_passed_become_one_run_and_the_rhythm_is_kept(late_s: float) -> None:
    slot = spec(interval_s=60).slot(T0, after(late_s))
    assert slot is not None
    assert slot.skipped == late_s // 60
    assert slot.at <= after(late_s) < slot.next_due
    assert (slot.next_due - T0) % timedelta(seconds=60) == timedelta(0)


def test_each_slot_that_passed_runs_when_the_job_wants_it() -> None:
    due, ran = T0, []
    while (slot := spec(interval_s=60, catch=Catch.EACH).slot(due, after(330))) is not None:
        ran.append(slot.at)
        due = slot.next_due
    assert ran == [after(60 * i) for i in range(6)]


def test_a_run_later_than_its_grace_is_expired_and_without_a_grace_never() -> None:
    late = after(3600 * 5)
    assert spec(interval_s=86_400).slot(T0, late).expired is False  # type: ignore[union-attr]
    assert spec(interval_s=86_400, misfire_grace_s=300).slot(T0, late).expired is True  # type: ignore[union-attr]
    assert spec(interval_s=86_400, misfire_grace_s=300).slot(T0, after(299)).expired is False  # type: ignore[union-attr]


def test_a_cron_line_means_what_cron_means_by_it() -> None:
    first = {
        "30 2 * * *": datetime(2026, 3, 2, 2, 30, tzinfo=UTC),
        "0 0 * * 0": datetime(2026, 3, 8, tzinfo=UTC),  # Sunday
        "0 0 * * 7": datetime(2026, 3, 8, tzinfo=UTC),
        "0 0 * * 3": datetime(2026, 3, 4, tzinfo=UTC),
        "0 0 * * 5-7": datetime(2026, 3, 6, tzinfo=UTC),
        "0 0 * * 2,4": datetime(2026, 3, 3, tzinfo=UTC),
        "0 0 * * sat": datetime(2026, 3, 7, tzinfo=UTC),
        "*/15 * * * *": datetime(2026, 3, 2, 0, 15, tzinfo=UTC),
    }
    assert {line: spec(cron=line).first_due(T0) for line in first} == first


def test_a_cron_job_that_was_missed_runs_once_and_goes_on_at_the_next_time() -> None:
    nightly = spec(cron="30 2 * * *")
    slot = nightly.slot(after(9000), after(86_400 * 3))
    assert slot is not None
    assert (slot.at, slot.next_due) == (after(9000), after(86_400 * 3 + 9000))
    assert not slot.expired


def test_a_cron_job_with_a_grace_runs_for_the_slot_that_is_not_too_late() -> None:
    nightly = spec(cron="30 2 * * *", misfire_grace_s=3600)
    kept = nightly.slot(after(9000), after(86_400 * 3 + 9000 + 1800))
    assert kept is not None
    assert (kept.at, kept.expired) == (after(86_400 * 3 + 9000), False)
    lost = nightly.slot(after(9000), after(86_400 * 3))
    assert lost is not None
    assert (lost.expired, lost.next_due) == (True, after(86_400 * 3 + 9000))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "either interval_s or cron"),
        ({"interval_s": 1, "cron": "* * * * *"}, "either interval_s or cron"),
        ({"interval_s": 0}, "must lie in"),
        ({"interval_s": 1, "misfire_grace_s": 0}, "must be positive"),
        ({"cron": "* * * *"}, "has 4 fields"),
        ({"cron": "61 * * * *"}, "cannot be read"),
        ({"cron": "0 0 * * 9"}, "cannot be read"),
        ({"cron": "0 0 31 2 *"}, "never comes"),
    ],
)
def test_a_job_that_cannot_be_is_refused_with_the_reason(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        spec(**facts)


def test_a_job_name_is_plain() -> None:
    with pytest.raises(ConfigurationError, match="must match"):
        JobSpec(name="Watch it", action=lambda _: None, interval_s=1)


@pytest.mark.parametrize(
    ("interval_s", "ahead_s", "wrong"),
    [(60, 60, False), (60, 66, False), (60, 66.001, True), (0.5, 0.6, False), (0.5, 0.601, True), (60, -5, False)],
)
def test_a_due_time_further_ahead_than_an_interval_and_a_tenth_is_a_wrong_clocks(
    monkeypatch: pytest.MonkeyPatch, interval_s: float, ahead_s: float, wrong: bool
) -> None:
    bounds: list[int] = []

    def seven(below: int) -> int:
        bounds.append(below)
        return 7

    monkeypatch.setattr("secrets.randbelow", seven)
    healed = spec(interval_s=interval_s).healed(after(ahead_s), T0)
    assert healed == (after(interval_s) + timedelta(microseconds=8) if wrong else None)
    assert bounds == [1000] * wrong


def test_a_cron_job_is_due_no_later_than_its_next_time_and_a_tenth() -> None:
    nightly = spec(cron="0 0 * * *")
    next_night, tenth = datetime(2026, 3, 3, tzinfo=UTC), timedelta(hours=1.2)
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert nightly.healed(next_night + tenth, now) is None
    healed = nightly.healed(next_night + tenth + timedelta(seconds=1), now)
    assert healed is not None
    assert timedelta() < healed - next_night <= timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("interval_s", "allowed"), [(0.01, True), (0.00999, False), (315_360_000, True), (315_360_001, False)]
)
def test_an_interval_lies_between_a_hundredth_of_a_second_and_ten_years(interval_s: float, allowed: bool) -> None:
    if allowed:
        assert spec(interval_s=interval_s).interval_s == interval_s
        return
    with pytest.raises(ConfigurationError, match="must lie in"):
        spec(interval_s=interval_s)


@pytest.mark.parametrize(("late_s", "expired"), [(60, False), (60.001, True)])
@pytest.mark.parametrize("catch", list(Catch))
def test_the_grace_ends_after_its_last_moment(catch: Catch, late_s: float, expired: bool) -> None:
    slot = spec(interval_s=600, misfire_grace_s=60, catch=catch).slot(T0, after(late_s))
    assert slot is not None
    assert (slot.at, slot.next_due, slot.expired) == (T0, after(600), expired)


def test_a_cron_job_that_stands_for_earlier_times_says_so_and_one_in_time_does_not() -> None:
    hourly = spec(cron="0 * * * *", misfire_grace_s=600)
    late = hourly.slot(T0, after(3600 * 5 + 60))
    prompt = hourly.slot(T0, after(60))
    assert late is not None
    assert prompt is not None
    assert (late.at, late.next_due, late.skipped, late.expired) == (after(3600 * 5), after(3600 * 6), 1, False)
    assert (prompt.at, prompt.next_due, prompt.skipped, prompt.expired) == (T0, after(3600), 0, False)
    at_its_last_moment = hourly.slot(T0, after(600))
    assert at_its_last_moment is not None
    assert (at_its_last_moment.at, at_its_last_moment.expired) == (T0, False)


def test_what_an_action_gets_is_what_was_claimed() -> None:
    ledger: Any = object()
    fence = Fence(name="loop", epoch=3)
    row = JobRunRow(
        id=5, job="watch:intent", due=T0, epoch=3, attempt=2, outcome=None, note="", started_at=T0, finished_at=None
    )
    run = as_run(row, fence, ledger)
    assert (run.run_id, run.job, run.slot, run.attempt, run.fence) == (5, "watch:intent", T0, 2, fence)
    assert run.ledger is ledger


def test_a_trigger_is_the_interval_or_the_cron_line() -> None:
    assert spec(interval_s=60).trigger == {"interval_s": 60}
    assert spec(cron="30 2 * * *").trigger == {"cron": "30 2 * * *"}


@pytest.mark.parametrize("catch", list(Catch))
@pytest.mark.parametrize("timed", [{"interval_s": 3600}, {"cron": "0 * * * *"}])
def test_a_slot_is_due_at_its_very_moment(timed: dict[str, Any], catch: Catch) -> None:
    slot = spec(**timed, catch=catch).slot(T0, T0)
    assert slot is not None
    assert (slot.at, slot.next_due, slot.skipped, slot.expired) == (T0, after(3600), 0, False)
