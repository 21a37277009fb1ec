"""Windows cut out of the traffic log, and cut again later for whoever wants to know more."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from perennial.continual.drift.compare import DriftComparison
from perennial.continual.drift.dependence import Counting, CountingRule, bursts_of
from perennial.continual.drift.explain import Explanation, explain
from perennial.continual.drift.monitor import DriftSignal
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.window import Window
from perennial.continual.errors import DataError, NotFound
from perennial.continual.tasks import task_named
from perennial.ops.ledger import DriftReportRow
from perennial.ops.ledger.ports import DriftReports, Labels
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.outcomes import OutcomeWatch

__all__ = [
    "CutWindow",
    "Place",
    "ReportedWindow",
    "TrafficAhead",
    "chosen_report",
    "explained",
    "passed_over",
    "reported_window",
    "window_of",
    "window_report",
]

_LOOKED_AT = 200  # newest windows among which one may have drifted
_MOST_ROWS = 60_000  # rows of a backlog that one pass looks at
_LONGEST = 20  # times the rows of a window: so many requests it may be cut from, and more before it decide what counts
_MICROSECOND = timedelta(microseconds=1)
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
    window = Window.from_columns(
        {**{name: table[name] for name in _OF_EVERY_TASK if name in table.column_names}, **watched}
    )
    return replace(window, bursts=bursts_of(table["key"].to_pylist())) if "key" in table.column_names else window


class Place(NamedTuple):
    """Behind which row of the log something begins. Rows logged in one microsecond are told apart by their ids."""

    at: datetime
    prediction_id: str

    def to_json(self) -> dict[str, str]:
        """Return plain values; an erasure leaves of the id what tells no row."""
        return {"at": self.at.isoformat(), "id": self.prediction_id}

    @classmethod
    def from_json(cls, facts: Mapping[str, str] | None) -> Self | None:
        """Return the place that `to_json` wrote; None for nothing."""
        return None if facts is None else cls(datetime.fromisoformat(facts["at"]), facts["id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class CutWindow:
    """A window of the requests that count, the place of its last row, and how many requests it was cut from.

    What counts in the next window is decided from `counting_from` on.
    """

    window: Window
    end: Place
    requests: int
    counting_from: Place


class TrafficAhead:
    """A version's answers behind a place, cut into windows of those that count.

    Each window is counted anew from the place that the one before left, so that it can be cut again from the log alone.
    """

    def __init__(
        self,
        traffic: TrafficLog,
        version: int,
        *,
        after: Place | None,
        counting_from: Place | None = None,
        until: datetime | None = None,
        rule: CountingRule | None = None,
        rows: int = _MOST_ROWS,
    ) -> None:
        """At most about `rows` rows are read. Without a rule every row counts."""
        self._task, self._rule = traffic.task, rule
        begin = counting_from or after
        since = None if begin is None else begin.at
        keys = ["at", "prediction_id"]
        places = traffic.read(since=since, until=until, columns=keys, version=version, first=rows + 1)
        if places.num_rows > rows:
            until = places["at"][rows].as_py() + _MICROSECOND  # all rows of that moment, so that none is left behind
        table = traffic.read(since=since, until=until, version=version)
        self._table = table if begin is None else _behind(table, begin)
        self._next = 0 if after is None else self._table.num_rows - _behind(self._table, after).num_rows
        self._counting_from = 0

    @property
    def left(self) -> int:
        """How many rows were read and are in no window yet, whether they count or not."""
        return int(self._table.num_rows - self._next)

    def next(self, rows: int) -> CutWindow | None:
        """The next `rows` answers that count; None when there are fewer."""
        places = self._counted(rows)
        if len(places) < rows:
            return None
        end, first = int(places[-1]) + 1, self._next
        before = max(0, end - 1 - (0 if self._rule is None else self._rule.memory))
        self._next, self._counting_from = end, before + 1
        return CutWindow(
            window=window_of(self._table.take(places), self._task),
            end=self._place(end - 1),
            requests=end - first,
            counting_from=self._place(before),
        )

    def up_to(self, rows: int) -> pa.Table:
        """Up to `rows` next answers that count, as they were logged."""
        return self._table.take(self._counted(rows))

    def _counted(self, rows: int) -> NDArray[np.int64]:
        """The places of the next rows that count, at most so many."""
        if self._rule is None:
            return np.arange(self._next, min(self._table.num_rows, self._next + rows))
        counting, found, start = Counting(self._rule), [np.zeros(0, dtype=np.int64)], self._counting_from
        while start < self._table.num_rows and sum(map(len, found)) < rows:
            part = self._table.slice(start, max(rows, self._next - start))
            asked = window_of(part.drop_columns(["embedding"]), self._task)
            callers = part["key"].to_pylist()
            counted = counting.counted(callers, asked.texts.tolist(), asked.whole_answers.tolist())
            places = start + np.flatnonzero(counted)
            found.append(places[places >= self._next])
            start += part.num_rows
        return np.concatenate(found)[:rows]

    def _place(self, row: int) -> Place:
        at: datetime = self._table["at"][row].as_py()
        return Place(at.astimezone(UTC), self._table["prediction_id"][row].as_py())


def _behind(table: pa.Table, place: Place) -> pa.Table:
    later = pc.and_(pc.equal(table["at"], place.at), pc.greater(table["prediction_id"], place.prediction_id))
    return table.filter(pc.or_(pc.greater(table["at"], place.at), later))


def passed_over(
    traffic: TrafficLog, version: int, after: Place, *, newest: int, until: datetime
) -> tuple[Place, int] | None:
    """Up to which row to go so that the `newest` are left, and how many rows that passes over; None where it is none.

    Of the rows their keys alone are read.
    """
    keys = traffic.read(since=after.at, until=until, columns=["at", "prediction_id"], version=version)
    behind = _behind(keys, after)
    if behind.num_rows <= newest:
        return None
    last = behind.num_rows - newest - 1
    at: datetime = behind["at"][last].as_py()
    return Place(at.astimezone(UTC), behind["prediction_id"][last].as_py()), last + 1


def window_report(
    model: str,
    version: int,
    cut: CutWindow,
    comparison: DriftComparison,
    signal: DriftSignal,
    *,
    after: Place | None,
    counting_from: Mapping[str, str] | None,
    rule: CountingRule,
    told: Mapping[str, Any],
) -> DriftReportRow:
    """The report of a window that was cut behind a place: what `reported_window` cuts it again by, and what is told."""
    return DriftReportRow(
        model=model,
        version=version,
        at=datetime.now(UTC),
        rows=len(cut.window),
        state=signal.level.value,
        payload={
            "signal": signal.to_json(),
            "comparison": comparison.to_json(),
            "after_id": "" if after is None else after.prediction_id,
            "counting_from": counting_from,
            "counting": asdict(rule),
            "requests": cut.requests,
            "answers": dict(sorted(Counter(cut.window.predictions.tolist()).items())),
            **told,
        },
        window_from=None if after is None else after.at,
        window_to=cut.end.at,
    )


def reported_window(
    ledger: Labels, workspace: Workspace, traffic: TrafficLog, report: DriftReportRow
) -> ReportedWindow:
    """Cut the window of a drift report again. Rows that were written late, with a time within it, belong to it.

    Raises:
        DataError: its requests have been pruned, or its version's reference is gone.
    """
    folder = workspace.reference(report.model, report.version)
    if not folder.is_dir():
        raise DataError(f"report {report.id} is of version {report.version}, whose reference in {folder} is gone")
    reference = ReferenceProfile.load(folder)
    after = None if report.window_from is None else Place(report.window_from, str(report.payload.get("after_id", "")))
    rule = None if (rule_facts := report.payload.get("counting")) is None else CountingRule(**rule_facts)
    ahead = TrafficAhead(
        traffic,
        report.version,
        after=after,
        counting_from=Place.from_json(report.payload.get("counting_from")),
        until=None if report.window_to is None else report.window_to + _MICROSECOND,
        rule=rule,
        rows=max(_MOST_ROWS, _LONGEST * report.rows),
    )
    late = ahead.left - int(report.payload.get("requests", report.rows))
    cut = ahead.next(report.rows)
    if cut is None or (late <= 0 and _later(cut.window, report.window_to)):
        raise DataError(
            f"the {report.rows} requests of report {report.id}, or some right before them, are gone from the traffic "
            "log: erased, or older than traffic.retention_days; take a newer report"
        )
    comparison = DriftComparison.from_json(report.payload["comparison"])
    window = OutcomeWatch(ledger, workspace, report.model).told(cut.window, report.version)
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


def explained(
    ledger: Labels, workspace: Workspace, traffic: TrafficLog, report: DriftReportRow, *, most: int = 8
) -> Explanation:
    """Say what drifted in a reported window; the same report always gives the same answer. Takes about a second.

    Raises:
        DataError: its requests have been pruned, or its version's reference is gone.
    """
    seen = reported_window(ledger, workspace, traffic, report)
    ids = [] if seen.reference.sample.ids is None else seen.reference.sample.ids.tolist()
    rows = traffic.lookup(ids)
    texts = dict(zip(rows["prediction_id"].to_pylist(), window_of(rows, traffic.task).texts.tolist(), strict=True))
    rng = np.random.default_rng([workspace.settings.seed, report.id or 0])
    return explain(seen.reference.with_texts(texts), seen.window, seen.comparison, rng, most=most)
