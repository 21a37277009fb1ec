"""Drift: the signals over time, one window, what changed in it, and classes that the traffic asks for."""

from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.errors import DataError, NotFound
from perennial.ops.console.desk import Desk, Shown, to
from perennial.ops.console.visit import Done, Page, Raw, Visit
from perennial.ops.views.drift import DriftReport, drift_report
from perennial.ops.views.explanation import window_explained

__all__ = ["add_drift"]

_WINDOWS = 60
_SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; frame-ancestors 'none'"
)


def add_drift(desk: Desk) -> None:
    """Add the pages and their forms."""
    _add_windows(desk)
    _add_proposals(desk)


def _add_windows(desk: Desk) -> None:
    @desk.page("/console/models/{model}/drift")
    def drift(visit: Visit, model: str) -> Shown:
        rows = desk.ledger.drift_reports(model, _WINDOWS)
        reports = [drift_report(row) for row in reversed(rows)]
        number, task, seen = visit.number("report"), desk.task_of(model), None
        chosen = next((row for row in rows if not number or row.id == number), None)
        if number and chosen is None:
            chosen = desk.ledger.drift_report(model, number)
        if chosen is not None and visit.query.get("explain") == "1" and visit.may("labeller"):
            seen = window_explained(desk.ledger, desk.workspace, desk.traffic.log(model), model, chosen)
        facts = {
            "reports": reports,
            "signals": _series(reports),
            "chosen": None if chosen is None else drift_report(chosen),
            "seen": seen,
            "texts": visit.may("labeller"),
            "classes": task in {"text_classification", "replies"},
        }
        return Page("drift.html", {"model": model, "task": task, **facts})

    @desk.page("/console/models/{model}/drift/{report:int}/evidently", needs="labeller")
    def evidently(_: Visit, model: str, report: int) -> Shown:
        path = desk.ledger.drift_report(model, report).path
        place = None if path is None else Path(path).resolve()
        if place is None or not place.is_relative_to(desk.workspace.reports(model).resolve()) or not place.is_file():
            raise NotFound(f"no page was made of report {report} of {model}, or it was deleted since")
        return Raw(content=place.read_bytes(), kind="text/html; charset=utf-8", policy=_SANDBOX)


def _add_proposals(desk: Desk) -> None:
    @desk.page("/console/models/{model}/proposals", needs="labeller")
    def proposals(_: Visit, model: str) -> Shown:
        found = desk.control.class_proposals(model).look(dry_run=True)
        return Page("proposals.html", {"model": model, "task": desk.task_of(model), "found": found})

    @desk.form("/console/models/{model}/proposals", needs="labeller")
    def number_them(_: Visit, model: str) -> Shown:
        desk.control.class_proposals(model).look()
        return Done(to=f"/console/models/{model}/proposals")

    @desk.form("/console/models/{model}/proposals/accept", needs="labeller")
    def accept(visit: Visit, model: str) -> Shown:
        number, label = visit.given_number("number"), visit.form.get("label", "")
        if number is None:
            raise DataError("the form names no proposal; load the page again")
        desk.control.class_proposals(model).accept(number, label, now=datetime.now(UTC))
        return Done(to=to(f"/console/models/{model}/proposals"), told="accepted")


def _series(reports: list[DriftReport]) -> list[tuple[str, list[float | None], list[bool]]]:
    """Each signal's effect in its floors, window by window, and where it drifted; the strongest now come first."""
    windows = [{} if r.comparison is None else {s.signal: s for s in r.comparison.signals} for r in reports]
    found = []
    for name in dict.fromkeys(name for signals in windows for name in signals):
        own = [signals.get(name) for signals in windows]
        values = [seen.result.effect / seen.result.floor if seen and seen.result.floor else None for seen in own]
        found.append((name, values, [seen is not None and seen.drifted for seen in own]))
    return sorted(found, key=lambda each: -(each[1][-1] or 0.0))
