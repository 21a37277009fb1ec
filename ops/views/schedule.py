"""What an operator sees of the loop's jobs, whichever process leads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from perennial.ops.ledger import JobRow, JobRunRow

__all__ = ["JobRuns", "JobView", "RunView", "job_view"]


class JobRuns(Protocol):
    """Where the runs of a job are read from."""

    def job_runs(self, name: str, limit: int | None = None) -> tuple[JobRunRow, ...]:
        """Return a job's runs, newest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One run of a job: for which slot, by which leader's epoch, how it ended, and its note, which is its log."""

    id: int
    slot: datetime
    attempt: int
    epoch: int
    started_at: datetime
    took_ms: float | None
    outcome: str | None
    note: str | None

    @classmethod
    def of(cls, row: JobRunRow) -> "RunView":
        """Return what an operator sees of the ledger's row."""
        took = None if row.finished_at is None else (row.finished_at - row.started_at).total_seconds()
        return cls(
            id=row.id,
            slot=row.due,
            attempt=row.attempt,
            epoch=row.epoch,
            started_at=row.started_at,
            took_ms=None if took is None else 1e3 * took,
            outcome=None if row.outcome is None else row.outcome.value,
            note=row.note,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One job: its times, when it is due, and its last run."""

    job: str
    trigger: Mapping[str, Any]
    next_due: datetime
    paused: bool
    requested_at: datetime | None
    last_run: RunView | None


def job_view(ledger: JobRuns, row: JobRow) -> JobView:
    """How one job stands."""
    last = next(iter(ledger.job_runs(row.name, 1)), None)
    return JobView(
        job=row.name,
        trigger=row.trigger,
        next_due=row.next_due,
        paused=row.paused,
        requested_at=row.requested_at,
        last_run=None if last is None else RunView.of(last),
    )
