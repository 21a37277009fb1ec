"""What an operator may ask of a job: a run now, a pause, its end."""

from typing import Protocol

from perennial.continual.errors import NotFound
from perennial.continual.preparation import shown
from perennial.ops.ledger import JobRow
from perennial.ops.ledger.ports import Audit, Transactions

__all__ = ["JobLedger", "known_job", "pause_job", "request_job"]


class JobLedger(Audit, Transactions, Protocol):
    """Where jobs stand."""

    def jobs(self) -> tuple[JobRow, ...]:
        """Return every job."""
        ...

    def request_run(self, name: str) -> None:
        """Have the leader run a job once more."""
        ...

    def pause_job(self, name: str, *, paused: bool) -> None:
        """Start a job at its times no more, or again."""
        ...


def known_job(ledger: JobLedger, name: str) -> JobRow:
    """Return a job.

    Raises:
        NotFound: there is none of this name.
    """
    jobs = {row.name: row for row in ledger.jobs()}
    if name not in jobs:
        known = ", ".join(jobs) or "none yet: the first `perennial serve` writes them down"
        raise NotFound(f"job {shown(name)} does not exist; there are {known}")
    return jobs[name]


def request_job(ledger: JobLedger, name: str, *, actor: str) -> None:
    """Have the leader run a job at its next beat, paused or not."""
    known_job(ledger, name)
    with ledger.transaction():
        ledger.request_run(name)
        ledger.audit(actor, "job.requested", None, {"job": name})


def pause_job(ledger: JobLedger, name: str, *, paused: bool, actor: str) -> None:
    """Pause a job or let it go on; nothing is noted where it stands so already."""
    if known_job(ledger, name).paused is paused:
        return
    with ledger.transaction():
        ledger.pause_job(name, paused=paused)
        detail = {"job": name, "before": {"paused": not paused}, "after": {"paused": paused}}
        ledger.audit(actor, "job.paused" if paused else "job.resumed", None, detail)
