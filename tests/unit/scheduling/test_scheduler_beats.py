"""One scheduler beat by beat, on an SQLite ledger: what it starts, what it waits for, and what it tells."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.ops.ledger import Fence, JobRunRow, Ledger, RunOutcome
from perennial.ops.scheduling import JobRun, JobSpec, Leader, LoopScheduler
from tests.component.databases import fresh_url

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Bench:
    """A ledger, a clock, and a leader."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(fresh_url("sqlite", folder))
        self.now = T0
        self.leader = Leader(self.ledger, holder="one")
        self.leader.step()
        self.ran: list[tuple[str, int]] = []
        self.claimed: list[tuple[JobRunRow, Fence]] = []

    def note(self, run: JobRun) -> None:
        self.ran.append((run.job, run.attempt))

    def spec(self, name: str, **facts: Any) -> JobSpec:
        given: dict[str, Any] = {"action": self.note, "interval_s": 60.0} | facts
        return JobSpec(name=name, **given)

    def scheduler(self, *specs: JobSpec, **facts: Any) -> LoopScheduler:
        made = LoopScheduler(self.ledger, specs, lambda: self.now, leader=self.leader, **facts)
        made.beat(self.claim)
        return made

    def claim(self, run: JobRunRow, fence: Fence) -> None:
        self.claimed.append((run, fence))

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.leader.stop()
    made.ledger.close()


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


class _BetweenTwo:
    """A lock before which another thread was faster."""

    def __init__(self, lock: Any, first: Callable[[], None]) -> None:
        self._lock, self._first = lock, first

    def __enter__(self) -> None:
        first, self._first = self._first, lambda: None
        first()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_jobs_that_go_while_a_place_is_looked_for_break_no_beat(bench: Bench) -> None:
    scheduler = bench.scheduler(bench.spec("watch:gone", group="gone"), bench.spec("watch:here", group="here"))
    bench.pass_s(60)
    assert scheduler.beat(bench.claim) == 2
    guard = scheduler._guard
    for job in ("watch:gone", "watch:here"):
        scheduler.add([bench.spec("watch:gone", group="gone")])
        scheduler._guard = _BetweenTwo(guard, lambda: _without(scheduler, "watch:gone"))  # type: ignore[assignment]
        assert scheduler._has_place(job)
        scheduler._guard = guard


def _without(scheduler: LoopScheduler, name: str) -> None:
    """As `remove` leaves it."""
    scheduler._specs = {job: spec for job, spec in scheduler._specs.items() if job != name}
    scheduler._facts = {job: facts for job, facts in scheduler._facts.items() if job != name}


def test_a_job_that_nobody_configures_any_more_holds_up_no_other(bench: Bench) -> None:
    bench.scheduler(bench.spec("a-old"), bench.spec("watch"))
    scheduler = bench.scheduler(bench.spec("watch"))
    bench.pass_s(60)
    bench.ledger.request_run("a-old")
    assert scheduler.beat(scheduler.execute) == 1
    assert bench.ran == [("watch", 1)]
    assert [(view.name, view.configured) for view in scheduler.list()] == [("a-old", False), ("watch", True)]


def test_a_claim_whose_answer_was_lost_is_carried_out_at_the_next_beat(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = bench.scheduler(bench.spec("watch"))
    bench.pass_s(60)
    claim = bench.ledger.claim_run

    def lost(*arguments: Any, **facts: Any) -> None:
        claim(*arguments, **facts)
        raise DependencyUnreachable("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "claim_run", lost)
        patch.setattr(bench.ledger, "transaction", nullcontext)  # kept, although its caller heard of an error
        with pytest.raises(DependencyUnreachable):
            scheduler.beat(scheduler.execute)
    assert scheduler.beat(scheduler.execute) == 1
    assert bench.ran == [("watch", 2)]


def test_a_run_that_the_ledger_did_not_take_the_end_of_runs_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = bench.scheduler(bench.spec("watch"))
    bench.pass_s(60)

    def away(*_: Any) -> None:
        raise DependencyUnreachable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "finish_run", away)
        assert scheduler.beat(scheduler.execute) == 1
    assert "job.run_not_noted" in caplog.messages
    assert scheduler.beat(scheduler.execute) == 1
    assert bench.ran == [("watch", 1), ("watch", 2)]
    assert scheduler.beat(scheduler.execute) == 0


def test_a_run_under_way_is_not_taken_over_from_its_own_process_when_a_beat_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = bench.scheduler(bench.spec("watch"))
    bench.pass_s(60)
    assert scheduler.beat(bench.claim) == 1

    def away() -> None:
        raise DependencyUnreachable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "jobs", away)
        with pytest.raises(DependencyUnreachable):
            scheduler.beat(bench.claim)
    assert scheduler.beat(bench.claim) == 0
    scheduler.execute(*bench.claimed[0])
    assert scheduler.beat(scheduler.execute) == 0
    assert bench.ran == [("watch", 1)]
    assert [(run.attempt, run.outcome) for run in bench.ledger.job_runs("watch")] == [(1, RunOutcome.DONE)]


def test_while_an_interrupted_run_is_carried_out_its_job_starts_nothing_else(bench: Bench) -> None:
    bench.scheduler(bench.spec("watch"))
    bench.pass_s(60)
    dead = bench.scheduler(bench.spec("watch"))
    assert len(bench.claimed) == 1, "claimed, and never carried out"
    assert dead.facts()["watch"].done is None
    bench.leader.stop()
    bench.leader.step()
    bench.claimed.clear()
    heir = bench.scheduler(bench.spec("watch"))
    assert [(run.job, run.attempt) for run, _ in bench.claimed] == [("watch", 2)]
    bench.pass_s(600)
    assert heir.beat(bench.claim) == 0
    heir.execute(*bench.claimed[0])
    assert heir.beat(bench.claim) == 1
    assert bench.ran == [("watch", 2)]


def test_an_interrupted_run_without_a_place_waits_and_its_job_with_it(bench: Bench) -> None:
    specs = [bench.spec("a"), bench.spec("b")]
    bench.scheduler(*specs)
    bench.pass_s(60)
    bench.scheduler(*specs, threads=2)
    assert len(bench.claimed) == 2
    bench.leader.stop()
    bench.leader.step()
    bench.claimed.clear()
    heir = bench.scheduler(*specs, threads=1)
    (first,) = bench.claimed
    bench.pass_s(600)
    assert heir.beat(bench.claim) == 0
    heir.execute(*first)
    assert heir.beat(bench.claim) == 1
    second = bench.claimed[1][0]
    assert (second.attempt, {first[0].job, second.job}) == (2, {"a", "b"})


def test_a_run_under_way_is_told_with_its_beginning_its_end_and_its_error(bench: Bench) -> None:
    errors = [RuntimeError("disk full")]

    def fail_once(run: JobRun) -> None:
        seen.append(scheduler.facts()["watch"].began)
        if errors:
            raise errors.pop()

    seen: list[float | None] = []
    before = time.monotonic()
    scheduler = bench.scheduler(bench.spec("watch", action=fail_once))
    facts = scheduler.facts()["watch"]
    assert (facts.began, facts.done, facts.error, facts.paused, facts.interval_s) == (None, None, "", False, 60.0)
    assert facts.since is not None
    assert facts.since >= before
    bench.pass_s(60)
    scheduler.beat(scheduler.execute)
    facts = scheduler.facts()["watch"]
    assert (facts.began, facts.done, facts.error) == (None, None, "RuntimeError: disk full")
    bench.pass_s(60)
    scheduler.beat(scheduler.execute)
    facts = scheduler.facts()["watch"]
    assert (facts.began, facts.error) == (None, "")
    assert facts.done is not None
    assert all(moment is not None and moment >= before for moment in seen)
    scheduler.pause("watch")
    scheduler.beat(scheduler.execute)
    assert scheduler.facts()["watch"].paused is True


def test_taking_over_again_under_the_same_lead_forgets_no_fact(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = bench.scheduler(bench.spec("watch"))
    bench.pass_s(60)
    scheduler.beat(scheduler.execute)
    done = scheduler.facts()["watch"].done

    def away() -> None:
        raise DependencyUnreachable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "jobs", away)
        with pytest.raises(DependencyUnreachable):
            scheduler.beat(scheduler.execute)
    scheduler.beat(scheduler.execute)
    assert scheduler.facts()["watch"].done == done
    bench.leader.stop()
    assert scheduler.beat(scheduler.execute) == 0
    bench.leader.step()
    scheduler.beat(scheduler.execute)
    assert scheduler.facts()["watch"].done is None


@pytest.mark.parametrize(("ran_s", "starts"), [(59.9, 0), (60.0, 1)])
def test_a_run_holds_the_place_of_another_for_a_minute_at_most(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, ran_s: float, starts: int
) -> None:
    clock = SimpleNamespace(monotonic=lambda: 1000.0)
    monkeypatch.setattr("perennial.ops.scheduling.scheduler.time", clock)
    scheduler = bench.scheduler(bench.spec("a"), bench.spec("b", interval_s=61.0), threads=1)
    bench.pass_s(60)
    assert scheduler.beat(bench.claim) == 1
    bench.pass_s(30)
    assert scheduler.beat(bench.claim) == 0, "claimed, and about to begin"
    scheduler._note("a", began=1000.0)
    clock.monotonic = lambda: 1000.0 + ran_s
    assert scheduler.beat(bench.claim) == starts


def test_a_due_time_of_a_wrong_clock_is_healed_and_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    scheduler = bench.scheduler(bench.spec("watch"))
    assert "job.due_healed" not in caplog.messages
    bench.pass_s(-3600)
    assert scheduler.beat(bench.claim) == 0
    assert caplog.messages.count("job.due_healed") == 1
    due = bench.ledger.jobs()[0].next_due
    assert timedelta(0) < due - (bench.now + timedelta(seconds=60)) <= timedelta(milliseconds=1)
    scheduler.beat(bench.claim)
    assert caplog.messages.count("job.due_healed") == 1


def test_a_run_of_a_job_that_was_taken_away_fails_with_the_reason(bench: Bench) -> None:
    bench.scheduler(bench.spec("watch"))
    bench.pass_s(60)
    bench.scheduler(bench.spec("watch"))
    ((run, fence),) = bench.claimed
    LoopScheduler(bench.ledger, [], leader=bench.leader).execute(run, fence)
    (ended,) = bench.ledger.job_runs("watch")
    assert (ended.outcome, ended.note) == (RunOutcome.FAILED, "no job of this name is configured any more")


@pytest.mark.parametrize(("shared", "threads", "workers"), [(1, 4, 64), (70, 4, 64), (70, 80, 80)])
def test_jobs_that_hang_keep_their_threads_and_a_lane_has_one(
    bench: Bench, shared: int, threads: int, workers: int
) -> None:
    specs = [bench.spec(f"job{number}") for number in range(shared)]
    own = [bench.spec(f"own{number}", lane="training") for number in range(3)]
    scheduler = LoopScheduler(bench.ledger, [*specs, *own], threads=threads, leader=bench.leader, poll_s=0.01)
    scheduler.start()
    pools = {lane: executor._pool._max_workers for lane, executor in scheduler._pool._executors.items()}
    scheduler.stop()
    assert pools == {"default": workers, "training": 1}


def test_a_stop_waits_for_the_run_under_way_and_may_come_at_any_time(bench: Bench) -> None:
    began, ended = threading.Event(), threading.Event()

    def slow(_: JobRun) -> None:
        began.set()
        time.sleep(0.3)
        ended.set()

    bench.leader.stop()
    scheduler = LoopScheduler(
        bench.ledger, [bench.spec("watch", action=slow, interval_s=0.05)], leader=bench.leader, poll_s=0.01
    )
    scheduler.stop()
    for _ in range(2):
        began.clear()
        ended.clear()
        scheduler.start()
        beats = scheduler._beats
        scheduler.start()
        assert scheduler._beats is beats
        assert began.wait(30)
        wait_until(lambda: not scheduler._pool.get_jobs())  # handed over: its library must not be stopped in between
        scheduler.stop()
        assert ended.is_set()
        assert (scheduler.leader.epoch, scheduler._beats, scheduler._pool) == (None, None, None)
        scheduler.stop()


@pytest.mark.parametrize(
    ("error", "level"),
    [(DependencyUnreachable("away"), logging.ERROR), (RuntimeError("unforeseen"), logging.CRITICAL)],
)
def test_a_beat_that_fails_is_told_and_the_next_one_comes(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    level: int,
) -> None:
    scheduler = LoopScheduler(bench.ledger, [bench.spec("watch")], leader=bench.leader, poll_s=0.01)
    broken = True
    beats = 0

    def beat() -> int:
        nonlocal beats
        beats += 1
        if broken:
            raise error
        return 0

    monkeypatch.setattr(scheduler, "beat", beat)
    scheduler.start()
    wait_until(lambda: beats > 2)
    at, message = scheduler.last_beat
    assert message == str(error)
    levels = {record.levelno for record in caplog.records if record.getMessage() == "scheduler.beat_failed"}
    assert levels == {level}
    broken = False
    wait_until(lambda: scheduler.last_beat[1] == "")
    assert scheduler.last_beat[0] > at
    scheduler.stop()


def test_between_two_beats_the_scheduler_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = LoopScheduler(bench.ledger, [bench.spec("watch")], leader=bench.leader, poll_s=3600.0)
    beats: list[int] = []
    monkeypatch.setattr(scheduler, "beat", lambda: beats.append(1))
    scheduler.start()
    wait_until(lambda: beats != [])
    time.sleep(0.1)
    assert len(beats) == 1
    scheduler.look()
    wait_until(lambda: len(beats) == 2)
    time.sleep(0.1)
    scheduler.stop()
    assert len(beats) == 2, "one look has one beat come"


def test_slow_jobs_of_one_group_leave_places_to_the_others(bench: Bench) -> None:
    slow = [bench.spec(f"a-slow{n}", group="a") for n in range(6)]
    quick = [bench.spec(f"quick{n}", group=f"b{n}") for n in range(3)]
    scheduler = bench.scheduler(*slow, *quick, threads=4)
    bench.pass_s(60)
    assert scheduler.beat(bench.claim) == 4
    assert sorted(run.job[:4] for run, _ in bench.claimed) == ["a-sl", "a-sl", "quic", "quic"]
    for run in [run for run in bench.claimed if run[0].job.startswith("quick")]:
        scheduler.execute(*run)
    assert scheduler.beat(bench.claim) == 1
    assert bench.claimed[-1][0].job.startswith("quick"), "the other slow ones go on waiting"


def test_a_group_that_is_alone_takes_all_places(bench: Bench) -> None:
    scheduler = bench.scheduler(*(bench.spec(f"job{n}", group="a") for n in range(6)), threads=4)
    bench.pass_s(60)
    assert scheduler.beat(bench.claim) == 4


def test_jobs_come_and_go_while_a_scheduler_leads(bench: Bench) -> None:
    scheduler = bench.scheduler(bench.spec("old"))
    scheduler.add([bench.spec("new")])
    assert scheduler.beat(bench.claim) == 0
    bench.pass_s(60)
    assert scheduler.beat(scheduler.execute) == 2
    assert set(bench.ran) == {("old", 1), ("new", 1)}
    scheduler.remove(["old"])
    bench.pass_s(60)
    bench.ran.clear()
    assert scheduler.beat(scheduler.execute) == 1
    assert bench.ran == [("new", 1)]
    assert set(scheduler.facts()) == {"new"}
    with pytest.raises(ConfigurationError, match="not all different"):
        scheduler.add([bench.spec("x"), bench.spec("x")])


def test_a_running_scheduler_has_a_thread_for_a_lane_that_comes_later(bench: Bench) -> None:
    ran = threading.Event()
    scheduler = LoopScheduler(bench.ledger, [bench.spec("old")], leader=bench.leader, poll_s=0.01)
    scheduler.start()
    try:
        scheduler.add([bench.spec("new", action=lambda _: ran.set(), interval_s=0.05, lane="later")])
        assert ran.wait(20)
    finally:
        scheduler.stop()


def test_a_job_that_is_wanted_starts_before_it_is_due_and_then_waits_a_whole_interval(bench: Bench) -> None:
    wanted = [False]
    scheduler = bench.scheduler(bench.spec("check", wanted=lambda: wanted[0]), bench.spec("other"))
    wanted[0] = True
    bench.pass_s(10)
    assert scheduler.beat(scheduler.execute) == 1
    wanted[0] = False
    bench.pass_s(55)
    assert scheduler.beat(scheduler.execute) == 1
    assert bench.ran[1:] == [("other", 1)], "the other's time came, and not yet this one's"
    bench.pass_s(5)
    assert scheduler.beat(scheduler.execute) == 1
    assert bench.ran[-1] == ("check", 1)


def test_a_job_that_is_paused_is_wanted_in_vain(bench: Bench) -> None:
    scheduler = bench.scheduler(bench.spec("check", wanted=lambda: True, paused=True))
    bench.pass_s(10)
    assert scheduler.beat(bench.claim) == 0
    assert bench.claimed == []
