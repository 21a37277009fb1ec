"""The loop's jobs with their runs, the audit log, the settings in force, and who may come in."""

from perennial.continual.errors import NotFound
from perennial.ops.commands.schedule import known_job, pause_job, request_job
from perennial.ops.console.desk import Desk, Shown, to
from perennial.ops.console.paging import ROWS, paged
from perennial.ops.console.visit import Done, Page, Visit
from perennial.ops.views.health import part_rows
from perennial.ops.views.overview import known_models
from perennial.ops.views.schedule import RunView, job_view
from perennial.ops.views.settings_in_force import settings_in_force, token_roles

__all__ = ["add_operations"]


def add_operations(desk: Desk) -> None:
    """Add the pages and their forms."""
    _add_jobs(desk)

    @desk.page("/console/audit")
    def audit(visit: Visit) -> Shown:
        before, model = visit.number("before"), visit.query.get("model", "")
        entries = desk.ledger.audit_entries(model or None, limit=ROWS + 1, before_seq=before or None)
        seen, beside = paged(list(reversed(entries)), "before", lambda row: row.seq, begun=bool(before))
        facts = {"entries": seen, "model": model, "models": known_models(desk.ledger), **beside}
        return Page("audit.html", facts)

    @desk.page("/console/settings", needs="operator")
    def settings(_: Visit) -> Shown:
        sections: dict[str, list[object]] = {}
        for row in settings_in_force(desk.workspace.settings):
            sections.setdefault(row.section, []).append(row)
        api = desk.workspace.settings.api
        facts = {"sections": sections, "tokens": token_roles(api.tokens), "accounts": api.accounts}
        return Page("settings.html", facts)


def _add_jobs(desk: Desk) -> None:
    @desk.page("/console/jobs")
    def jobs(_: Visit) -> Shown:
        views = [job_view(desk.ledger, row) for row in desk.ledger.jobs()]
        return Page("jobs.html", {"jobs": views, "parts": part_rows(desk.control.health())})

    @desk.page("/console/jobs/{job}")
    def job(_: Visit, job: str) -> Shown:
        row = known_job(desk.ledger, job)
        runs = [RunView.of(run) for run in desk.ledger.job_runs(row.name, ROWS)]
        return Page("job.html", {"job": job_view(desk.ledger, row), "runs": runs})

    @desk.form("/console/jobs/{job}/{act}", needs="operator")
    def ask(visit: Visit, job: str, act: str) -> Shown:
        if act == "run":
            request_job(desk.ledger, job, actor=visit.acting)
        elif act in {"pause", "resume"}:
            pause_job(desk.ledger, job, paused=act == "pause", actor=visit.acting)
        else:
            raise NotFound(f"a job can be run, paused and resumed, and not {act[:20]!r}")
        return Done(to=to(f"/console/jobs/{job}"), told="asked")
