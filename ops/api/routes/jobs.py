"""The loop's jobs over HTTP: when they are due, how their runs ended, and what an operator may ask of them."""

from typing import Annotated

from fastapi import Depends, FastAPI, Path

from perennial.ops.api.auth import operator, viewer
from perennial.ops.api.paging import NamePage, NumberPage
from perennial.ops.commands.schedule import known_job, pause_job, request_job
from perennial.ops.ledger import Ledger
from perennial.ops.views.schedule import JobView, RunView, job_view

__all__ = ["add_jobs"]

_Job = Annotated[str, Path(min_length=1, max_length=200)]


def add_jobs(api: FastAPI, ledger: Ledger) -> None:
    """Add the routes: a viewer may read, an operator may act."""

    @api.get("/v1/jobs", dependencies=[Depends(viewer)])
    def jobs(page: Annotated[NamePage, Depends()]) -> list[JobView]:
        """Every job with its last run, by name."""
        return [job_view(ledger, row) for row in page.of(ledger.jobs(), lambda row: row.name)]

    @api.get("/v1/jobs/{job}/runs", dependencies=[Depends(viewer)])
    def runs(job: _Job, page: Annotated[NumberPage, Depends()]) -> list[RunView]:
        """Runs of a job, the newest first."""
        known_job(ledger, job)
        rows = page.cut(ledger.job_runs(job, page.rows, before_id=page.after), lambda row: row.id)
        return [RunView.of(row) for row in rows]

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
