"""The scheduler: our job rows say what is due, APScheduler's threads do it, and only the leader starts anything.

APScheduler 3 must not share a job store between processes and resets due times at a restart, so its store here is
memory and holds only the runs that were claimed already. A claim moves the job's due time in the ledger by
compare-and-swap and writes the slot's row, which is unique; whatever APScheduler's events do, in whichever order,
nothing depends on them. The beat waits by the monotonic clock and a run is due at once by any clock, so that a clock
that was set forward and back again silences nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from perennial.continual.errors import ConfigurationError, LeaseLost, PerennialError
from perennial.ops.ledger import Fence, JobRow, JobRunRow, Ledger, RunOutcome
from perennial.ops.ledger.store import utc_now
from perennial.ops.scheduling.job_facts import JobFacts
from perennial.ops.scheduling.jobs import JobSpec, as_run
from perennial.ops.scheduling.leader import Leader

__all__ = ["STOP_S", "JobView", "LoopScheduler"]

_log = logging.getLogger(__name__)
_AT_ONCE = datetime(1970, 1, 2, tzinfo=UTC)  # due by any clock
_HUNG_S = 60.0  # a run that takes longer holds no place that another job waits for
_MOST_THREADS = 64
STOP_S = 10.0  # for the runs under way when the scheduler is stopped
_LOOK_S = 0.02
_HAND_OUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job as a person wants to see it. `configured` is false for a row that no job claims any more."""

    name: str
    trigger: dict[str, Any]
    next_due: datetime
    paused: bool
    configured: bool
    last_run: JobRunRow | None


class LoopScheduler:
    """Runs jobs at their times, each slot once, in whichever process leads.

    What it promises: a slot starts once under one leader; a slot that a leader's death interrupted runs again under
    the next one with the same slot and a higher attempt; no due time is lost by a restart. A job never overlaps itself.
    """

    def __init__(
        self,
        ledger: Ledger,
        jobs: Sequence[JobSpec],
        clock: Callable[[], datetime] = utc_now,
        *,
        leader: Leader | None = None,
        poll_s: float = 0.25,
        threads: int = 4,
    ) -> None:
        self._ledger = ledger
        self._specs = _by_name(jobs)
        self._clock = clock
        self._leader = leader or Leader(ledger)
        self._poll_s = poll_s
        self._threads = threads
        self._running: dict[str, int | None] = {}
        self._facts = {spec.name: JobFacts(interval_s=spec.interval_s) for spec in jobs}
        self._beat_at = time.monotonic()
        self._beat_error = ""
        self._waiting: list[JobRunRow] = []
        self._guard = threading.Lock()
        self._epoch: int | None = None  # under which the jobs were taken over; None when that is to be done again
        self._led: int | None = None
        self._pool: Any = None
        self._lanes: set[str] = set()  # that have a thread
        self._beats: threading.Thread | None = None
        self._stopping, self._look = threading.Event(), threading.Event()
        self._abandoned = False

    @property
    def leader(self) -> Leader:
        """This process's candidacy."""
        return self._leader

    def start(self) -> None:
        """Stand for election and run what is due while leading. Calling it again while it runs does nothing."""
        if self._pool is not None:
            return
        self._stopping.clear()
        self._abandoned = False
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        self._lanes = {"default"}
        # more threads than places: those that hang keep theirs, and `_claims` lets no more than `threads` work at once
        self._pool = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(max(self._threads, _MOST_THREADS))},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # it tells of every run, and of each that was late
        self._open_lanes(spec.lane for spec in self._specs.values())
        self._leader.start()
        self._pool.start()
        self._beats = threading.Thread(target=self._beat_on, name="scheduler-beat", daemon=True)
        self._beats.start()

    def leave(self) -> None:
        """Start nothing more; the runs under way go on, and so does the leadership."""
        self._stopping.set()
        self._look.set()

    def look(self) -> None:
        """Have the next beat come at once: a job may be wanted now."""
        self._look.set()

    def stop(self, *, within_s: float = STOP_S) -> tuple[str, ...]:
        """Start nothing more, give the runs under way `within_s` to end, and step down.

        Returns the jobs whose runs go on all the same; their threads end with the process only. Such a run stays open
        in the ledger, and the next leader repeats it. Calling it again does nothing.
        """
        if self._pool is None:
            return ()
        end = time.monotonic() + within_s
        self.leave()
        if self._beats is not None:
            self._beats.join(within_s)  # before the pool ends: a beat that adds a run to one that ends would hang
        while (hung := self._under_way()) and time.monotonic() < end:
            time.sleep(_LOOK_S)
        self._hand_out()
        self._abandoned = bool(hung)
        self._pool.shutdown(wait=not hung)
        self._pool = self._beats = None
        led = self._leader.stop(within_s=max(_LOOK_S, end - time.monotonic()))
        self._epoch = None
        if not led:
            _log.error("leader.hangs_at_stop")
        if hung:
            _log.error("job.hangs_at_stop", extra={"jobs": list(hung), "waited_s": within_s})
        return hung

    def _under_way(self) -> tuple[str, ...]:
        with self._guard:
            return tuple(sorted(self._running))

    def add(self, jobs: Sequence[JobSpec]) -> None:
        """Run these jobs too, from the next beat on; one of a known name takes that one's place.

        Raises:
            ConfigurationError: two of them have one name.
        """
        added = _by_name(jobs)
        self._open_lanes(spec.lane for spec in jobs)
        with self._guard:
            self._specs = {**self._specs, **added}
            now = time.monotonic()
            self._facts |= {name: JobFacts(interval_s=spec.interval_s, since=now) for name, spec in added.items()}
            self._epoch = None  # their rows are written when the jobs are taken over again

    def remove(self, names: Iterable[str]) -> None:
        """Start these jobs no more; runs under way end. What the ledger knows of them stays."""
        gone = set(names)
        with self._guard:
            self._specs = {name: spec for name, spec in self._specs.items() if name not in gone}
            self._facts = {name: facts for name, facts in self._facts.items() if name not in gone}

    def facts(self) -> Mapping[str, JobFacts]:
        """Return what this process saw of each job since it leads; times are of the monotonic clock."""
        with self._guard:
            return dict(self._facts)

    @property
    def last_beat(self) -> tuple[float, str]:
        """When the last beat ended well, by the monotonic clock, and what the last one failed with."""
        return self._beat_at, self._beat_error

    def run_now(self, name: str) -> None:
        """Ask the leader, here or elsewhere, to run a job at its next beat, even a paused one.

        Raises:
            NotFound: the job does not exist.
        """
        self._ledger.request_run(name)

    def pause(self, name: str) -> None:
        """Start a job no more at its times. When resumed, slots that passed count by the job's `catch`."""
        self._ledger.pause_job(name, paused=True)

    def resume(self, name: str) -> None:
        """Let a paused job start again."""
        self._ledger.pause_job(name, paused=False)

    def list(self) -> tuple[JobView, ...]:
        """Return every job in the ledger with its last run, by name."""
        return tuple(self._view(row) for row in self._ledger.jobs())

    def beat(self, submit: Callable[[JobRunRow, Fence], None] | None = None) -> int:
        """Start what is due, if this process leads, and return how many runs started.

        Raises:
            LeaseLost: another leader took over meanwhile; what was claimed before that is left to it.
        """
        epoch = self._leader.epoch
        if epoch is None:
            self._epoch = None
            return 0
        fence = self._leader.fence()
        started = 0
        try:
            with self._ledger.fenced(fence):
                if epoch != self._epoch:
                    self._take_over(epoch)
                for run in self._claims(epoch):
                    (submit or self._submit)(run, fence)
                    started += 1
        except PerennialError:
            self._epoch = None  # the ledger may hold a claim that we did not hear of: take over again
            raise
        return started

    def execute(self, run: JobRunRow, fence: Fence) -> None:
        """Carry out a claimed run in this thread and note how it ended."""
        if self._abandoned:
            return  # it had waited behind one that hangs, and this process is about to end
        self._note(run.job, began=time.monotonic())
        facts = {"job": run.job, "slot": run.due.isoformat(), "attempt": run.attempt, "epoch": run.epoch}
        try:
            with self._ledger.fenced(fence):
                self._act(run, fence, facts)
        except LeaseLost as error:
            _log.warning("job.lost_lease", extra=facts | {"error": str(error)})
        except PerennialError as error:
            self._epoch = None  # it stays open in the ledger: take it over again
            _log.error("job.run_not_noted", extra=facts | {"error": str(error)})
        finally:
            with self._guard:
                self._running.pop(run.job, None)
            self._note(run.job, began=None)

    def _act(self, run: JobRunRow, fence: Fence, facts: dict[str, Any]) -> None:
        spec = self._specs.get(run.job)
        if spec is None:
            self._ledger.finish_run(run.id, RunOutcome.FAILED, "no job of this name is configured any more")
            return
        try:
            note = spec.action(as_run(run, fence, self._ledger))
        except LeaseLost:
            raise
        except Exception as error:  # whatever an action raises must end its own run only
            _log.exception("job.run_failed", extra=facts)
            self._note(run.job, error=f"{type(error).__name__}: {error}")
            self._ledger.finish_run(run.id, RunOutcome.FAILED, f"{type(error).__name__}: {error}")
        else:
            self._note(run.job, done=time.monotonic(), error="")
            self._ledger.finish_run(run.id, RunOutcome.DONE, note or "")

    def _hand_out(self) -> None:
        """Let APScheduler 3.11 give every claimed run to a thread: ended meanwhile, it loses one and says so."""
        end = time.monotonic() + _HAND_OUT_S
        while self._pool.get_jobs() and time.monotonic() < end:
            time.sleep(0.01)

    def _open_lanes(self, lanes: Iterable[str]) -> None:
        """A thread for each lane that has none yet."""
        if self._pool is None:
            return
        from apscheduler.executors.pool import ThreadPoolExecutor

        for lane in sorted(set(lanes) - self._lanes):
            self._pool.add_executor(ThreadPoolExecutor(1), lane)
            self._lanes.add(lane)

    def _take_over(self, epoch: int) -> None:
        now, specs = self._clock(), self._specs
        for spec in specs.values():
            row = self._ledger.save_job(spec.name, spec.trigger, spec.first_due(now), paused=spec.paused)
            if epoch != self._led:
                self._note(spec.name, since=time.monotonic(), done=None, paused=row.paused)
        self._led = epoch
        with self._guard:
            under_way = [run_id for run_id in self._running.values() if run_id is not None]
        self._waiting = list(self._ledger.reclaim_runs(epoch, but=under_way))
        with self._guard:
            self._epoch = epoch if specs is self._specs else None  # those that came meanwhile are taken over next

    def _claims(self, epoch: int) -> Iterator[JobRunRow]:
        """Claim what is due, one by one; a job that runs, or has an interrupted run waiting, starts nothing else."""
        for run in tuple(self._waiting):
            if self._has_place(run.job) and self._reserve(run.job, run.id):
                self._waiting.remove(run)
                yield run
        held_up = {run.job for run in self._waiting}
        now = self._clock()
        # what was asked for, then what has waited longest: a job that finds no place comes first at a later beat
        for row in sorted(self._ledger.jobs(), key=lambda row: (row.requested_at is None, row.next_due)):
            spec = self._specs.get(row.name)
            if spec is None:
                continue
            self._note(row.name, paused=row.paused)
            if row.name in held_up or not self._has_place(row.name) or not self._reserve(row.name, None):
                continue
            claimed = None
            try:
                claimed = self._claim(spec, row, now, epoch)
            finally:
                self._settle(row.name, claimed)
            if claimed is not None:
                yield claimed

    def _claim(self, spec: JobSpec, row: JobRow, now: datetime, epoch: int) -> JobRunRow | None:
        if row.requested_at is not None:
            return self._ledger.claim_request(row.name, requested_at=row.requested_at, epoch=epoch)
        if (healed := spec.healed(row.next_due, now)) is not None:
            if self._ledger.move_due(row.name, expected_due=row.next_due, next_due=healed):
                facts = {"job": row.name, "due": row.next_due.isoformat(), "now_due": healed.isoformat()}
                _log.warning("job.due_healed", extra=facts)
            return None
        slot = None if row.paused else spec.slot(row.next_due, now)
        if slot is None:
            return None
        with self._ledger.transaction():
            run = self._ledger.claim_run(
                row.name, expected_due=row.next_due, slot=slot.at, next_due=slot.next_due, epoch=epoch
            )
            if run is None or not slot.expired:
                return run
            self._ledger.finish_run(run.id, RunOutcome.MISSED, f"later than {spec.misfire_grace_s} s")
        _log.warning("job.run_missed", extra={"job": row.name, "slot": slot.at.isoformat()})
        return None

    def _has_place(self, job: str) -> bool:
        """Whether a job of the shared lane may begin: too many at once would take the processor from each other."""
        with self._guard:  # jobs come and go meanwhile
            now, specs = time.monotonic(), self._specs
            if job not in specs or specs[job].lane != "default":
                return True
            shared = (name for name in self._running if name in specs and specs[name].lane == "default")
            began = {name: self._facts[name].began for name in shared}  # None: claimed, and about to begin
        busy = [name for name, at in began.items() if at is None or now - at < _HUNG_S]
        if len(busy) >= self._threads:
            return False
        group = specs[job].group
        alone = len({spec.group for spec in specs.values()}) < 2
        mine = sum(specs[name].group == group for name in busy)
        return alone or not group or mine < max(1, self._threads // 2)

    def _note(self, job: str, **facts: Any) -> None:
        with self._guard:
            if job in self._facts:
                self._facts[job] = replace(self._facts[job], **facts)

    def _reserve(self, job: str, run_id: int | None) -> bool:
        with self._guard:
            if job in self._running:
                return False
            self._running[job] = run_id
            return True

    def _settle(self, job: str, run: JobRunRow | None) -> None:
        with self._guard:
            if run is None:
                self._running.pop(job, None)
            else:
                self._running[job] = run.id

    def _submit(self, run: JobRunRow, fence: Fence) -> None:
        spec = self._specs.get(run.job)
        lane = "default" if spec is None else spec.lane
        self._pool.add_job(self.execute, "date", args=(run, fence), executor=lane, run_date=_AT_ONCE)

    def _beat_on(self) -> None:
        while not self._stopping.is_set():
            try:
                self.beat()
            except LeaseLost as error:
                _log.warning("scheduler.lost_lease", extra={"error": str(error)})
            except Exception as error:  # whatever it is, the next beat must come
                self._beat_error = str(error)
                level = logging.ERROR if isinstance(error, PerennialError) else logging.CRITICAL
                _log.log(level, "scheduler.beat_failed", extra={"error": str(error)})
            else:
                self._beat_at, self._beat_error = time.monotonic(), ""
            self._look.wait(self._poll_s)
            self._look.clear()

    def _view(self, row: JobRow) -> JobView:
        runs = self._ledger.job_runs(row.name, 1)
        return JobView(
            name=row.name,
            trigger=dict(row.trigger),
            next_due=row.next_due,
            paused=row.paused,
            configured=row.name in self._specs,
            last_run=runs[0] if runs else None,
        )


def _by_name(jobs: Sequence[JobSpec]) -> dict[str, JobSpec]:
    """The jobs by name.

    Raises:
        ConfigurationError: two have one name.
    """
    names = [spec.name for spec in jobs]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"job names {sorted(names)} are not all different; rename one")
    return {spec.name: spec for spec in jobs}
