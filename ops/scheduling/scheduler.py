"""The scheduler: our job rows say what is due, APScheduler's threads do it, and only the leader starts anything.

APScheduler 3 must not share a job store between processes and resets due times at a restart, so its store here is
memory and holds only the beat and the runs that were claimed already. A claim moves the job's due time in the ledger
by compare-and-swap and writes the slot's row, which is unique; whatever APScheduler's events do, in whichever order,
nothing depends on them.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from continual.errors import ConfigurationError, LeaseLost, PerennialError
from ops.ledger import Fence, JobRow, JobRunRow, Ledger, RunOutcome
from ops.ledger.store import utc_now
from ops.scheduling.jobs import JobSpec, as_run
from ops.scheduling.leader import Leader

__all__ = ["JobView", "LoopScheduler"]

_log = logging.getLogger(__name__)


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
        names = [spec.name for spec in jobs]
        if len(set(names)) != len(names):
            raise ConfigurationError(f"job names {sorted(names)} are not all different; rename one")
        self._ledger = ledger
        self._specs = {spec.name: spec for spec in jobs}
        self._clock = clock
        self._leader = leader or Leader(ledger)
        self._poll_s = poll_s
        self._threads = threads
        self._running: dict[str, int | None] = {}
        self._waiting: list[JobRunRow] = []
        self._guard = threading.Lock()
        self._beating = threading.Lock()
        self._epoch: int | None = None
        self._pool: Any = None
        self._stopping = False

    @property
    def leader(self) -> Leader:
        """This process's candidacy."""
        return self._leader

    def start(self) -> None:
        """Stand for election and run what is due while leading. Calling it again while it runs does nothing."""
        if self._pool is not None:
            return
        self._stopping = False
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler
        from apscheduler.triggers.interval import IntervalTrigger

        lanes = {spec.lane for spec in self._specs.values()} - {"default"}
        executors = {"default": ThreadPoolExecutor(self._threads), "_beat": ThreadPoolExecutor(2)}
        executors |= {lane: ThreadPoolExecutor(1) for lane in lanes}
        self._pool = BackgroundScheduler(
            executors=executors,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # it tells of every beat, and of each that was late
        every = IntervalTrigger(seconds=self._poll_s)
        self._pool.add_job(self._safe_beat, every, executor="_beat", id="_beat", max_instances=2)
        self._leader.start()
        self._pool.start()
        self._pool.modify_job("_beat", next_run_time=datetime.now(UTC))

    def stop(self) -> None:
        """Start nothing more, wait for the runs under way, and step down. Calling it again does nothing."""
        if self._pool is None:
            return
        self._pool.remove_job("_beat")
        with self._beating:  # APScheduler holds its locks while it waits for threads: a beat that adds a run would hang
            self._stopping = True
        self._pool.shutdown(wait=True)
        self._pool = None
        self._leader.stop()
        self._epoch = None

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
        facts = {"job": run.job, "slot": run.due.isoformat(), "attempt": run.attempt, "epoch": run.epoch}
        try:
            with self._ledger.fenced(fence):
                self._act(run, fence, facts)
        except LeaseLost as error:
            _log.warning("job_run_lost_lease", extra=facts | {"error": str(error)})
        except PerennialError as error:
            self._epoch = None  # it stays open in the ledger: take it over again
            _log.error("job_run_not_noted", extra=facts | {"error": str(error)})
        finally:
            with self._guard:
                self._running.pop(run.job, None)

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
            _log.exception("job_run_failed", extra=facts)
            self._ledger.finish_run(run.id, RunOutcome.FAILED, f"{type(error).__name__}: {error}")
        else:
            self._ledger.finish_run(run.id, RunOutcome.DONE, note or "")

    def _take_over(self, epoch: int) -> None:
        now = self._clock()
        for spec in self._specs.values():
            self._ledger.save_job(spec.name, spec.trigger, spec.first_due(now), paused=spec.paused)
        with self._guard:
            under_way = [run_id for run_id in self._running.values() if run_id is not None]
        self._waiting = list(self._ledger.reclaim_runs(epoch, but=under_way))
        self._epoch = epoch

    def _claims(self, epoch: int) -> Iterator[JobRunRow]:
        """Claim what is due, one by one; a job that runs, or has an interrupted run waiting, starts nothing else."""
        for run in tuple(self._waiting):
            if self._reserve(run.job, run.id):
                self._waiting.remove(run)
                yield run
        held_up = {run.job for run in self._waiting}
        now = self._clock()
        for row in self._ledger.jobs():
            spec = self._specs.get(row.name)
            if spec is None or row.name in held_up or not self._reserve(row.name, None):
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
        _log.warning("job_run_missed", extra={"job": row.name, "slot": slot.at.isoformat()})
        return None

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
        self._pool.add_job(self.execute, args=(run, fence), executor=lane, id=f"run-{run.id}-{run.attempt}")

    def _safe_beat(self) -> None:
        if not self._beating.acquire(blocking=False):
            return  # a slow beat stands for the ones that came meanwhile
        try:
            if not self._stopping:
                self.beat()
        except LeaseLost as error:
            _log.warning("scheduler_lost_lease", extra={"error": str(error)})
        except PerennialError as error:
            _log.error("scheduler_beat_failed", extra={"error": str(error)})
        finally:
            self._beating.release()

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
