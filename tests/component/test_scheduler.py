"""Jobs at their times, each slot once, whatever dies."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scheduler import drill
from perennial.continual.errors import ConfigurationError, LeaseLost, NotFound
from perennial.ops.ledger import Fence, JobRunRow, Ledger, RunOutcome
from perennial.ops.scheduling import Catch, JobRun, JobSpec, Leader, LoopScheduler
from tests.component.databases import BACKENDS, fresh_url

pytestmark = [pytest.mark.component, pytest.mark.alone]

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY_S = 86_400.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture(params=BACKENDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url(request.param, tmp_path)) as opened:
        yield opened


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url("sqlite", tmp_path)) as opened:
        yield opened


class Bench:
    """Schedulers without threads: a beat claims, and the claimed runs are carried out here, in order."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger = ledger
        self.clock = clock
        self.slots: list[tuple[str, datetime, int]] = []
        self._leaders: list[Leader] = []

    def note(self, run: JobRun) -> str:
        self.slots.append((run.job, run.slot, run.attempt))
        return "noted"

    def scheduler(self, *specs: JobSpec, holder: str = "one") -> LoopScheduler:
        leader = Leader(self.ledger, holder=holder)
        leader.step()
        self._leaders.append(leader)
        return LoopScheduler(self.ledger, specs, self.clock, leader=leader)

    def beat(self, scheduler: LoopScheduler) -> int:
        return scheduler.beat(scheduler.execute)

    def close(self) -> None:
        for leader in self._leaders:
            leader.stop()


@pytest.fixture
def bench(ledger: Ledger) -> Iterator[Bench]:
    made = Bench(ledger, Clock())
    yield made
    made.close()


def nothing(run: JobRunRow, fence: Fence) -> None:
    """Stand in for a process that died right after its claim."""


def test_a_job_runs_at_its_times_once_and_its_runs_are_remembered(bench: Bench) -> None:
    scheduler = bench.scheduler(JobSpec(name="watch", action=bench.note, interval_s=60))
    assert bench.beat(scheduler) == 0
    for _ in range(3):
        bench.clock.pass_s(60)
        assert [bench.beat(scheduler), bench.beat(scheduler)] == [1, 0]
    assert bench.slots == [("watch", T0 + timedelta(seconds=60 * n), 1) for n in (1, 2, 3)]
    assert [(run.outcome, run.note) for run in bench.ledger.job_runs("watch")] == [(RunOutcome.DONE, "noted")] * 3


def test_only_the_leader_starts_anything(bench: Bench) -> None:
    spec = JobSpec(name="watch", action=bench.note, interval_s=60)
    first, second = bench.scheduler(spec), bench.scheduler(spec, holder="two")
    bench.beat(first)
    bench.clock.pass_s(61)
    assert [bench.beat(second), bench.beat(first)] == [0, 1]


def test_a_day_long_interval_survives_a_restart_every_six_hours(bench: Bench) -> None:
    for _ in range(10):
        scheduler = bench.scheduler(JobSpec(name="retrain", action=bench.note, interval_s=DAY_S))
        bench.beat(scheduler)
        scheduler.leader.stop()
        bench.clock.pass_s(6 * 3600)
    assert [slot for _, slot, _ in bench.slots] == [T0 + timedelta(days=1), T0 + timedelta(days=2)]


def test_a_changed_trigger_moves_the_next_time_and_an_unchanged_one_does_not(bench: Bench) -> None:
    bench.beat(bench.scheduler(JobSpec(name="a", action=bench.note, interval_s=DAY_S)))
    bench.clock.pass_s(60)
    again = bench.scheduler(JobSpec(name="a", action=bench.note, interval_s=DAY_S))
    assert bench.ledger.jobs()[0].next_due == T0 + timedelta(days=1)
    again.leader.stop()
    for leader in bench._leaders:
        leader.stop()
    changed = bench.scheduler(JobSpec(name="a", action=bench.note, interval_s=30))
    bench.beat(changed)
    assert bench.ledger.jobs()[0].next_due == bench.clock.now + timedelta(seconds=30)


def test_a_run_that_its_leader_did_not_survive_runs_again_under_the_next(bench: Bench) -> None:
    spec = JobSpec(name="watch", action=bench.note, interval_s=60)
    dead = bench.scheduler(spec)
    bench.beat(dead)
    bench.clock.pass_s(60)
    assert dead.beat(nothing) == 1
    dead.leader.stop()
    heir = bench.scheduler(spec, holder="two")
    bench.clock.pass_s(30)
    assert bench.beat(heir) == 1
    assert bench.slots == [("watch", T0 + timedelta(seconds=60), 2)]
    assert bench.beat(heir) == 0


def test_a_claim_whose_answer_was_lost_is_taken_over_by_the_same_leader(bench: Bench) -> None:
    scheduler = bench.scheduler(JobSpec(name="watch", action=bench.note, interval_s=60))
    bench.beat(scheduler)
    due = bench.ledger.jobs()[0].next_due
    bench.clock.pass_s(60)
    bench.ledger.claim_run(  # the write that was kept although its caller saw an error
        "watch", expected_due=due, slot=due, next_due=due + timedelta(seconds=60), epoch=1
    )

    def unreachable(run: JobRunRow, fence: Fence) -> None:
        raise LeaseLost("the connection broke")

    bench.clock.pass_s(60)
    with pytest.raises(LeaseLost):
        scheduler.beat(unreachable)
    restarted = LoopScheduler(
        bench.ledger,
        [JobSpec(name="watch", action=bench.note, interval_s=60)],
        bench.clock,
        leader=scheduler.leader,
    )
    bench.beat(restarted)
    bench.beat(restarted)
    assert [(slot, attempt) for _, slot, attempt in bench.slots] == [(due, 2), (due + timedelta(seconds=60), 2)]


def test_a_failed_run_says_why_and_the_next_slot_runs(bench: Bench) -> None:
    def fail(run: JobRun) -> None:
        raise RuntimeError("disk full")

    scheduler = bench.scheduler(JobSpec(name="watch", action=fail, interval_s=60))
    bench.beat(scheduler)
    for _ in range(2):
        bench.clock.pass_s(60)
        bench.beat(scheduler)
    runs = bench.ledger.job_runs("watch")
    assert [(run.outcome, run.note) for run in runs] == [(RunOutcome.FAILED, "RuntimeError: disk full")] * 2


def test_a_paused_job_waits_and_an_operator_can_run_it_all_the_same(bench: Bench) -> None:
    scheduler = bench.scheduler(JobSpec(name="watch", action=bench.note, interval_s=60))
    bench.beat(scheduler)
    scheduler.pause("watch")
    bench.clock.pass_s(600)
    assert bench.beat(scheduler) == 0
    scheduler.run_now("watch")
    scheduler.run_now("watch")
    assert [bench.beat(scheduler), bench.beat(scheduler)] == [1, 0]
    scheduler.resume("watch")
    assert [bench.beat(scheduler), bench.beat(scheduler)] == [1, 0]
    assert len(bench.slots) == 2
    (view,) = scheduler.list()
    assert (view.name, view.paused, view.configured) == ("watch", False, True)
    assert view.next_due > bench.clock.now
    assert view.last_run is not None
    with pytest.raises(NotFound):
        scheduler.run_now("unknown")
    with pytest.raises(NotFound):
        scheduler.pause("unknown")


def test_a_slot_beyond_its_grace_is_noted_as_missed(bench: Bench) -> None:
    scheduler = bench.scheduler(JobSpec(name="report", action=bench.note, interval_s=DAY_S, misfire_grace_s=600))
    bench.beat(scheduler)
    bench.clock.pass_s(DAY_S + 3600)
    assert bench.beat(scheduler) == 0
    assert [run.outcome for run in bench.ledger.job_runs("report")] == [RunOutcome.MISSED]
    bench.clock.pass_s(DAY_S - 3500)
    assert bench.beat(scheduler) == 1


def test_a_clock_that_jumps_back_runs_no_slot_twice(bench: Bench) -> None:
    scheduler = bench.scheduler(JobSpec(name="watch", action=bench.note, interval_s=60))
    bench.beat(scheduler)
    for seconds in (60, -55, 55, 60, -3600, 3600, 60):
        bench.clock.pass_s(seconds)
        bench.beat(scheduler)
    slots = [slot for _, slot, _ in bench.slots]
    assert len(slots) == len(set(slots))
    assert slots[0] == T0 + timedelta(seconds=60)


def test_two_jobs_of_one_name_are_refused(sqlite: Ledger) -> None:
    spec = JobSpec(name="watch", action=lambda _: None, interval_s=60)
    with pytest.raises(ConfigurationError, match="not all different"):
        LoopScheduler(sqlite, [spec, spec])


def test_a_started_scheduler_runs_in_its_threads_and_never_overlaps_a_job(sqlite: Ledger) -> None:
    inside, most, ran = 0, 0, []
    guard = threading.Lock()

    def slow(run: JobRun) -> None:
        nonlocal inside, most
        with guard:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with guard:
            inside -= 1
            ran.append(run.slot)

    spec = JobSpec(name="watch", action=slow, interval_s=0.02, catch=Catch.EACH, lane="train")
    scheduler = LoopScheduler(sqlite, [spec], leader=Leader(sqlite, poll_s=0.02), poll_s=0.02)
    scheduler.start()
    wait_until(lambda: len(ran) >= 5)
    scheduler.stop()
    done = len(ran)
    time.sleep(0.2)
    assert len(ran) == done
    assert most == 1
    assert ran == sorted(set(ran))
    assert all(run.outcome is RunOutcome.DONE for run in sqlite.job_runs("watch"))
    assert scheduler.leader.epoch is None


def lead(scheduler: LoopScheduler) -> None:
    """PostgreSQL frees a lock a moment after its holder let go."""
    wait_until(lambda: scheduler.leader.step() is not None)


def wait_until(true: Callable[[], bool], limit_s: float = 30) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_tick_runs_exactly_once_while_leaders_are_killed(backend: str, tmp_path: Path) -> None:
    found = drill(fresh_url(backend, tmp_path), ticks=24, kills=2, interval_s=0.1, limit_s=100)
    assert found["once"] == found["ticks"] >= 24
    assert (found["doubled"], found["lost"]) == (0, 0)
    assert found["leaders"] >= 3
    assert found["failover_ms_max"] < 2000
    assert found["audit_intact"]


@pytest.mark.parametrize("years", [10, 1, 0.01])
@pytest.mark.parametrize("timed", [{"interval_s": 60.0}, {"cron": "* * * * *"}])
def test_a_clock_that_was_wrong_once_silences_no_job(bench: Bench, years: float, timed: dict[str, Any]) -> None:
    scheduler = bench.scheduler(JobSpec(name="watch", action=bench.note, **timed))
    bench.beat(scheduler)
    bench.clock.pass_s(years * 365 * DAY_S)
    assert bench.beat(scheduler) == 1
    bench.clock.pass_s(-years * 365 * DAY_S)
    for restarted in (False, True):
        if restarted:
            scheduler.leader.stop()
        heir = bench.scheduler(JobSpec(name="watch", action=bench.note, **timed)) if restarted else scheduler
        lead(heir)
        ran = 0
        for _ in range(13):  # two intervals and a tolerance of a tenth
            bench.clock.pass_s(10)
            ran += bench.beat(heir)
        assert ran >= 1
    slots = [slot for _, slot, _ in bench.slots]
    assert len(slots) == len(set(slots))


def test_steps_of_a_clock_never_silence_a_job_for_longer_than_an_interval(bench: Bench) -> None:
    scheduler = bench.scheduler(JobSpec(name="watch", action=bench.note, interval_s=60.0))
    silent_s = 0.0
    for step in [1, -7, 30, -3600, 5, -0.5, 40, 86_400, -86_400, -60, 60, -1, 900, -900] * 6:
        bench.clock.pass_s(step)
        for _ in range(14):
            bench.clock.pass_s(5)
            silent_s = 0.0 if bench.beat(scheduler) else silent_s + 5
            assert silent_s <= 2 * 66 + 5
    slots = [slot for _, slot, _ in bench.slots]
    assert len(slots) == len(set(slots))


def test_a_fence_asks_no_clock(bench: Bench) -> None:
    first = bench.scheduler(JobSpec(name="watch", action=bench.note, interval_s=60.0))
    bench.beat(first)
    fence = first.leader.fence()
    for step in (10 * 365 * DAY_S, -20 * 365 * DAY_S):
        bench.clock.pass_s(step)
        bench.ledger.check_fence(fence)
        assert first.leader.step() == fence.epoch
    first.leader.stop()
    heir = bench.scheduler(JobSpec(name="watch", action=bench.note, interval_s=60.0))
    lead(heir)
    with pytest.raises(LeaseLost):
        bench.ledger.check_fence(fence)


def test_no_more_jobs_begin_at_once_than_there_are_threads_and_each_has_its_turn(sqlite: Ledger) -> None:
    clock = Clock()
    shared = [JobSpec(name=f"shared{n}", action=str, interval_s=10) for n in range(5)]
    own = JobSpec(name="own", action=str, interval_s=10, lane="training")
    leader = Leader(sqlite)
    leader.step()
    scheduler = LoopScheduler(sqlite, [*shared, own], clock, leader=leader, threads=2)
    scheduler.beat()
    ran: list[str] = []
    claimed: list[tuple[JobRunRow, Fence]] = []
    for _ in range(3):
        clock.pass_s(11)
        claimed.clear()
        scheduler.beat(lambda run, fence: claimed.append((run, fence)))
        names = [run.job for run, _ in claimed]
        assert "own" in names
        assert len(names) == 3
        ran += names
        for run, fence in claimed:
            scheduler.execute(run, fence)
    assert set(ran) == {"own", *(spec.name for spec in shared)}
    leader.stop()


def test_jobs_that_hang_are_told_and_stop_no_other_job(sqlite: Ledger) -> None:
    free, ran = threading.Event(), threading.Event()
    hang = [JobSpec(name=f"hang{n}", action=lambda _: str(free.wait(60)), interval_s=0.01) for n in range(6)]
    other = JobSpec(name="other", action=lambda _: ran.set(), interval_s=0.05)
    scheduler = LoopScheduler(sqlite, [*hang, other], leader=Leader(sqlite, poll_s=0.02), poll_s=0.02, threads=7)
    scheduler.start()
    try:
        wait_until(lambda: all(scheduler.facts()[spec.name].began is not None for spec in hang))
        ran.clear()
        assert ran.wait(20)
        facts = scheduler.facts()
        later = time.monotonic() + 120
        assert all(facts[spec.name].silent(later) for spec in hang)
        assert not facts["other"].silent(time.monotonic())
        assert facts["other"].done is not None
    finally:
        free.set()
        scheduler.stop()


def test_a_stop_waits_for_a_job_that_hangs_no_longer_than_told_and_names_it(sqlite: Ledger) -> None:
    free, ran = threading.Event(), threading.Event()

    def scheduler_of(action: Callable[[JobRun], str | None]) -> LoopScheduler:
        hang = JobSpec(name="hang", action=action, interval_s=0.01, lane="own")
        other = JobSpec(name="other", action=lambda _: ran.set(), interval_s=0.01)
        return LoopScheduler(sqlite, [hang, other], leader=Leader(sqlite, poll_s=0.02), poll_s=0.02)

    first = scheduler_of(lambda _: str(free.wait(120)))
    heir = scheduler_of(lambda _: "done by the heir")
    try:
        first.start()
        wait_until(lambda: first.facts()["hang"].began is not None)
        assert ran.wait(20)
        began = time.monotonic()
        assert first.stop(within_s=0.3) == ("hang",)
        assert time.monotonic() - began < 20
        assert first.leader.epoch is None
        assert first.stop() == ()
        heir.start()
        wait_until(lambda: any(run.attempt == 2 and run.outcome is RunOutcome.DONE for run in sqlite.job_runs("hang")))
    finally:
        free.set()
        assert heir.stop() == ()
