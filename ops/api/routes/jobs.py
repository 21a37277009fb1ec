"""The loop's jobs over HTTP: when they are due, how their runs ended, and what an operator may ask of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, FastAPI, Path

from perennial.ops.api.auth import operator, viewer
from perennial.ops.api.paging import NamePage, NumberPage
from perennial.ops.commands.schedule import known_job, pause_job, request_job
from perennial.ops.ledger import Ledger
from perennial.ops.views.schedule import JobView, RunView, job_view

__all__ = ["JobRun", "add_jobs"]

_Job = Annotated[str, Path(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """One run of a job: for which slot, how it ended, and its note, which is its log."""

    id: int
    slot: datetime
    attempt: int
    started_at: datetime
    took_ms: float | None
    outcome: str | None
    note: str | None


def add_jobs(api: FastAPI, ledger: Ledger) -> None:
    """Add the routes: a viewer may read, an operator may act."""

    @api.get("/v1/jobs", dependencies=[Depends(viewer)])
    def jobs(page: Annotated[NamePage, Depends()]) -> list[JobView]:
        """Every job with its last run, by name."""
        return [job_view(ledger, row) for row in page.of(ledger.jobs(), lambda row: row.name)]

    @api.get("/v1/jobs/{job}/runs", dependencies=[Depends(viewer)])
    def runs(job: _Job, page: Annotated[NumberPage, Depends()]) -> list[JobRun]:
        """Runs of a job, the newest first."""
        known_job(ledger, job)
        rows = page.cut(ledger.job_runs(job, page.rows, before_id=page.after), lambda row: row.id)
        views = [RunView.of(row) for row in rows]
        return [
            JobRun(
                id=row.id,
                slot=view.slot,
                attempt=view.attempt,
                started_at=view.started_at,
                took_ms=view.took_ms,
                outcome=view.outcome,
                note=view.note,
            )
            for row, view in zip(rows, views, strict=True)
        ]

    @api.post("/v1/jobs/{job}/runs", status_code=202)
    def run(job: _Job, actor: Annotated[str, Depends(operator)]) -> JobView:
        """Run a job at the leader's next beat, paused or not."""
        request_job(ledger, job, actor=actor)
        return job_view(ledger, known_job(ledger, job))

    @api.post("/v1/jobs/{job}/pause")
    def pause(job: _Job, actor: Annotated[str, Depends(operator)]) -> JobView:
        """Start a job at its times no more."""
        pause_job(ledger, job, paused=True, actor=actor)
        return job_view(ledger, known_job(ledger, job))

    @api.post("/v1/jobs/{job}/resume")
    def resume(job: _Job, actor: Annotated[str, Depends(operator)]) -> JobView:
        """Start a job at its times again."""
        pause_job(ledger, job, paused=False, actor=actor)
        return job_view(ledger, known_job(ledger, job))
