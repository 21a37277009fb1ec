"""A step waits as long as it waits, whatever becomes of the wall clock."""

from datetime import UTC, datetime, timedelta

import pytest

from perennial.ops.cycle.waiting import StepWait, Waited

T0 = datetime(2026, 3, 1, tzinfo=UTC)
DAY_S = 86_400.0


class Clocks:
    """A wall clock that is set, and one that only goes on."""

    def __init__(self) -> None:
        self.wall, self.steady_s = T0, 1_000.0
        self.wait = StepWait(now=lambda: self.wall, steady=lambda: self.steady_s)

    def pass_s(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.steady_s += seconds

    def set_by(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)

    def waited(self, entered: datetime = T0) -> Waited:
        return self.wait.look(1, entered)


@pytest.mark.parametrize("jump_s", [900 * DAY_S, -900 * DAY_S, 3_600.0, -3_600.0])
def test_a_clock_that_is_set_changes_no_wait_that_was_watched(jump_s: float) -> None:
    clocks = Clocks()
    assert clocks.waited() == Waited()
    clocks.pass_s(100)
    clocks.set_by(jump_s)
    assert clocks.waited() == Waited(waited_s=100, watched_s=100)
    clocks.pass_s(DAY_S)
    assert clocks.waited() == Waited(waited_s=100 + DAY_S, watched_s=100 + DAY_S)


def test_a_restart_counts_what_was_waited_before_it() -> None:
    clocks = Clocks()
    clocks.pass_s(500)
    assert clocks.waited() == Waited(waited_s=500, watched_s=0)
    clocks.pass_s(40)
    assert clocks.waited() == Waited(waited_s=540, watched_s=40)


def test_a_clock_that_is_ahead_at_the_start_and_put_right_soon_ends_no_wait() -> None:
    clocks = Clocks()
    clocks.set_by(900 * DAY_S)
    assert not clocks.waited().outlasts(DAY_S)
    clocks.pass_s(30)
    assert not clocks.waited().outlasts(DAY_S)
    clocks.set_by(-900 * DAY_S)
    assert clocks.waited() == Waited(waited_s=30, watched_s=30)
    clocks.pass_s(100)
    assert clocks.waited() == Waited(waited_s=130, watched_s=130)


def test_a_time_ahead_counts_as_now_and_a_new_date_keeps_what_was_waited() -> None:
    clocks = Clocks()
    ahead = T0 + timedelta(days=900)
    assert clocks.waited(ahead) == Waited()
    clocks.pass_s(70)
    assert clocks.waited(ahead).waited_s == 70
    clocks.wait.dated_anew(1, clocks.wall)
    assert clocks.waited(clocks.wall) == Waited(waited_s=70, watched_s=70)


def test_another_step_begins_anew() -> None:
    clocks = Clocks()
    clocks.waited()
    clocks.pass_s(100)
    assert clocks.waited(clocks.wall) == Waited()
    assert clocks.wait.look(2, clocks.wall) == Waited()


def test_a_deadline_that_passed_while_nobody_looked_waits_for_a_minute_or_for_itself() -> None:
    assert not Waited(waited_s=2 * DAY_S, watched_s=59).outlasts(DAY_S)
    assert Waited(waited_s=2 * DAY_S, watched_s=60).outlasts(DAY_S)
    assert not Waited(waited_s=100, watched_s=4).outlasts(5)
    assert Waited(waited_s=100, watched_s=5).outlasts(5)
    assert not Waited(waited_s=5, watched_s=5).outlasts(5)
