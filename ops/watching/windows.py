"""Windows cut out of the traffic log, and cut again later for whoever wants to know more."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perennial.continual.drift.compare import DriftComparison
from perennial.continual.drift.explain import Explanation, explain
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.window import Window
from perennial.continual.errors import DataError, NotFound
from perennial.continual.tasks import task_named
from perennial.ops.ledger import DriftReportRow
from perennial.ops.ledger.ports import DriftReports
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog

__all__ = ["ReportedWindow", "chosen_report", "explained", "reported_window", "window_after", "window_of"]

_LOOKED_AT = 200  # newest windows among which one may have drifted
_OF_EVERY_TASK = ("at", "prediction_id", "version", "embedding")  # of the log's columns, those that a window has


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedWindow:
    """A window that was compared, with what it was compared with and what came out."""

    report: DriftReportRow
    reference: ReferenceProfile
    window: Window
    comparison: DriftComparison


def window_of(table: pa.Table, task: str) -> Window:
    """Whole rows of a task's log as drift looks at them: the task says what in them was asked and answered."""
    kind = task_named(task)
    watched = kind.watched({name: table[name].to_pylist() for name in kind.log_columns})
    return Window.from_columns({**{name: table[name] for name in _OF_EVERY_TASK}, **watched})


def window_after(
    traffic: TrafficLog,
    version: int,
    since: datetime | None,
    after_id: str,
    rows: int,
    *,
    until: datetime | None = None,
) -> Window | None:
    """Return the next `rows` answers of a version after a row, named by its time and id; None when there are fewer.

    Rows logged in one microsecond are told apart by their ids, so that none is lost or seen twice.
    """
    table = traffic.read(since=since, until=until, version=version)
    if since is not None:
        later = pc.and_(pc.equal(table["at"], since), pc.greater(table["prediction_id"], after_id))
        table = table.filter(pc.or_(pc.greater(table["at"], since), later))
    if table.num_rows < rows:
        return None
    table = table.slice(0, rows)
    return window_of(table, traffic.task)


def reported_window(workspace: Workspace, traffic: TrafficLog, report: DriftReportRow) -> ReportedWindow:
    """Cut the window of a drift report again.

    Raises:
        DataError: its requests have been pruned, or its version's reference is gone.
    """
    folder = workspace.reference(report.model, report.version)
    if not folder.is_dir():
        raise DataError(f"report {report.id} is of version {report.version}, whose reference in {folder} is gone")
    reference = ReferenceProfile.load(folder)
    after_id = str(report.payload.get("after_id", ""))
    window = window_after(traffic, report.version, report.window_from, after_id, report.rows)
    if window is None or (window.times is not None and _later(window, report.window_to)):
        raise DataError(
            f"the {report.rows} requests of report {report.id} are not all in the traffic log any more; "
            "raise traffic.retention_days to keep them longer, or take a newer report"
        )
    comparison = DriftComparison.from_json(report.payload["comparison"])
    return ReportedWindow(report=report, reference=reference, window=window, comparison=comparison)


def _later(window: Window, end: datetime | None) -> bool:
    """Whether the window's last row is not the one that it was cut to: rows were removed since."""
    if end is None or window.times is None:
        return False
    return bool(window.times[-1].astype("datetime64[us]").item() != end.replace(tzinfo=None))


def chosen_report(ledger: DriftReports, model: str, report_id: int | None) -> DriftReportRow:
    """Return the report asked for, or the newest window that drifted, or the newest one.

    Raises:
        NotFound: there is no such report, or none yet.
    """
    if report_id is not None:
        return ledger.drift_report(model, report_id)
    reports = ledger.drift_reports(model, limit=_LOOKED_AT)
    if not reports:
        raise NotFound(f"{model} has no drift report yet; its first window must be full (see `perennial drift watch`)")
    return next((report for report in reports if report.payload["comparison"]["drifted"]), reports[0])


def explained(workspace: Workspace, traffic: TrafficLog, report: DriftReportRow, *, most: int = 8) -> Explanation:
    """Say what drifted in a reported window; the same report always gives the same answer. Takes about a second.

    Raises:
        DataError: its requests have been pruned, or its version's reference is gone.
    """
    seen = reported_window(workspace, traffic, report)
    ids = [] if seen.reference.sample.ids is None else seen.reference.sample.ids.tolist()
    rows = traffic.lookup(ids)
    texts = dict(zip(rows["prediction_id"].to_pylist(), window_of(rows, traffic.task).texts.tolist(), strict=True))
    rng = np.random.default_rng([workspace.settings.seed, report.id or 0])
    return explain(seen.reference.with_texts(texts), seen.window, seen.comparison, rng, most=most)
