"""The scheduler's state of record: jobs, their runs, and the leader's lease."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select, update

from perennial.continual.errors import LeaseLost, NotFound
from perennial.ops.ledger import schema
from perennial.ops.ledger.rows import Fence, JobRow, JobRunRow, RunOutcome
from perennial.ops.ledger.store import Store

__all__ = ["JobStore"]

_JOB = schema.job
_RUN = schema.job_run
_LEASE = schema.lease


class JobStore(Store):
    """The part of the ledger that the scheduler lives on."""

    def acquire_lease(self, name: str, holder: str) -> int:
        """Start a new epoch of a lease and return it: every fence of an earlier epoch is void from now on.

        Call it only while holding the lock that elects the leader. Not idempotent: a retry starts another epoch.
        """
        with self._write() as connection:
            now = self._clock()
            first = self._insert(_LEASE).values(name=name, epoch=1, holder=holder, acquired_at=now)
            facts = {"epoch": _LEASE.c.epoch + 1, "holder": holder, "acquired_at": now}
            statement = first.on_conflict_do_update(index_elements=["name"], set_=facts).returning(_LEASE.c.epoch)
            return int(connection.execute(statement).scalar_one())

    def lease(self, name: str) -> tuple[int, str] | None:
        """Return a lease's epoch and holder, or None before the first acquisition."""
        with self._read() as connection:
            row = connection.execute(select(_LEASE).where(_LEASE.c.name == name)).first()
        return None if row is None else (row.epoch, row.holder)

    def check_fence(self, fence: Fence) -> None:
        """Make sure that a fence still holds, for a side effect outside the ledger.

        Raises:
            LeaseLost: another leader took over.
        """
        held = self.lease(fence.name)
        if held is None or held[0] != fence.epoch:
            now = "nobody" if held is None else f"{held[1]} at epoch {held[0]}"
            raise LeaseLost(f"lease {fence.name} is held by {now}, not at epoch {fence.epoch}; nothing was done")

    def save_job(self, name: str, trigger: Mapping[str, Any], first_due: datetime, *, paused: bool = False) -> JobRow:
        """Make a job known and return its row. A known job with the same trigger keeps its due time and pause.

        That is what lets a day-long interval survive restarts. A changed trigger takes `first_due` as the next time.
        """
        with self._write() as connection:
            row = {"name": name, "trigger": dict(trigger), "paused": paused, "next_due": first_due}
            connection.execute(self._insert(_JOB).values(row).on_conflict_do_nothing())
            stored = connection.execute(select(_JOB).where(_JOB.c.name == name).with_for_update()).mappings().one()
            if stored["trigger"] != dict(trigger):
                facts = {"trigger": dict(trigger), "next_due": first_due}
                connection.execute(update(_JOB).where(_JOB.c.name == name).values(facts))
                return JobRow(**dict(stored) | facts)
            return JobRow(**stored)

    def jobs(self) -> tuple[JobRow, ...]:
        """Return every job, by name."""
        with self._read() as connection:
            return tuple(JobRow(**row) for row in connection.execute(select(_JOB).order_by(_JOB.c.name)).mappings())

    def move_due(self, name: str, *, expected_due: datetime, next_due: datetime) -> bool:
        """Correct a job's due time, and return whether this call did; another's claim comes first."""
        with self._write() as connection:
            step = update(_JOB).where(_JOB.c.name == name, _JOB.c.next_due == expected_due)
            return connection.execute(step.values(next_due=next_due)).rowcount == 1

    def pause_job(self, name: str, *, paused: bool) -> None:
        """Stop or go on starting a job at its times. A retry changes nothing.

        Raises:
            NotFound: the job does not exist.
        """
        with self._write() as connection:
            if connection.execute(update(_JOB).where(_JOB.c.name == name).values(paused=paused)).rowcount == 0:
                raise NotFound(f"job {name!r} is not in the ledger; see `perennial schedule list`")

    def request_run(self, name: str) -> None:
        """Ask the leader to run a job now, paused or not. Asking again before it starts changes nothing.

        Raises:
            NotFound: the job does not exist.
        """
        with self._write() as connection:
            wish = update(_JOB).where(_JOB.c.name == name)
            if connection.execute(wish.values(requested_at=self._clock())).rowcount == 0:
                raise NotFound(f"job {name!r} is not in the ledger; see `perennial schedule list`")

    def claim_run(
        self, name: str, *, expected_due: datetime, slot: datetime, next_due: datetime, epoch: int
    ) -> JobRunRow | None:
        """Take one slot of a job, or return None when somebody else did.

        The job moves from `expected_due` to `next_due` in the same transaction, and a slot exists once, so that it
        cannot be started twice.
        """
        with self._write() as connection:
            step = update(_JOB).where(_JOB.c.name == name, _JOB.c.next_due == expected_due, _JOB.c.paused.is_(False))
            if connection.execute(step.values(next_due=next_due)).rowcount == 0:
                return None
            row = {"job": name, "due": slot, "attempt": 1, "epoch": epoch, "started_at": self._clock()}
            statement = self._insert(_RUN).values(row).on_conflict_do_nothing().returning(_RUN)
            claimed = connection.execute(statement).mappings().first()
        return None if claimed is None else _run(claimed)

    def claim_request(self, name: str, *, requested_at: datetime, epoch: int) -> JobRunRow | None:
        """Take an operator's wish to run a job now, or return None when somebody else did."""
        with self._write() as connection:
            step = update(_JOB).where(_JOB.c.name == name, _JOB.c.requested_at == requested_at)
            if connection.execute(step.values(requested_at=None)).rowcount == 0:
                return None
            row = {"job": name, "due": requested_at, "attempt": 1, "epoch": epoch, "started_at": self._clock()}
            statement = self._insert(_RUN).values(row).on_conflict_do_nothing().returning(_RUN)
            claimed = connection.execute(statement).mappings().first()
        return None if claimed is None else _run(claimed)

    def reclaim_runs(self, epoch: int, *, but: Collection[int] = ()) -> tuple[JobRunRow, ...]:
        """Take over the runs that were started and not finished, one attempt further, oldest slot first.

        `but` are the ids of the runs that this epoch has under way.
        """
        with self._write() as connection:
            lost = update(_RUN).where(_RUN.c.finished_at.is_(None), _RUN.c.epoch <= epoch, _RUN.c.id.not_in(but))
            facts = {"epoch": epoch, "attempt": _RUN.c.attempt + 1, "started_at": self._clock()}
            rows = connection.execute(lost.values(facts).returning(_RUN)).mappings().all()
        return tuple(sorted((_run(row) for row in rows), key=lambda run: (run.due, run.job)))

    def finish_run(self, run_id: int, outcome: RunOutcome, note: str = "") -> bool:
        """Note how a run ended, and return whether this call did. The first outcome stays."""
        with self._write() as connection:
            statement = update(_RUN).where(_RUN.c.id == run_id, _RUN.c.finished_at.is_(None))
            facts = {"finished_at": self._clock(), "outcome": outcome, "note": note}
            return connection.execute(statement.values(facts)).rowcount == 1

    def job_runs(self, name: str, limit: int | None = None, *, before_id: int | None = None) -> tuple[JobRunRow, ...]:
        """Return a job's runs before `before_id`, the one that was taken last first."""
        statement = select(_RUN).where(_RUN.c.job == name).order_by(_RUN.c.id.desc()).limit(limit)
        if before_id is not None:
            statement = statement.where(_RUN.c.id < before_id)
        with self._read() as connection:
            return tuple(_run(row) for row in connection.execute(statement).mappings())

    def last_success(self, name: str) -> datetime | None:
        """Return when the newest run of a job that ended well did so; None where none is known."""
        done = select(_RUN.c.finished_at).where(_RUN.c.job == name, _RUN.c.outcome == RunOutcome.DONE)
        with self._read() as connection:
            newest: datetime | None = connection.scalar(done.order_by(_RUN.c.due.desc()).limit(1))
        return newest

    def forget_runs(self, before: datetime) -> int:
        """Remove finished runs that ended before a time, but for each job's last success; return how many."""
        with self._write() as connection:
            last = [self._last_done(connection, name) for name in connection.scalars(select(_JOB.c.name))]
            old = _RUN.delete().where(_RUN.c.finished_at < before, _RUN.c.id.not_in([run for run in last if run]))
            return connection.execute(old).rowcount

    def _last_done(self, connection: Connection, name: str) -> int | None:
        done = select(_RUN.c.id).where(_RUN.c.job == name, _RUN.c.outcome == RunOutcome.DONE)
        newest: int | None = connection.scalar(done.order_by(_RUN.c.due.desc()).limit(1))
        return newest


def _run(row: RowMapping) -> JobRunRow:
    outcome = None if row["outcome"] is None else RunOutcome(row["outcome"])
    return JobRunRow(**dict(row) | {"outcome": outcome})
