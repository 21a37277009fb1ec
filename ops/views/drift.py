"""What an operator sees of a window of traffic that was compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from perennial.continual.drift.statistics.result import StatisticResult
from perennial.continual.records import fields_known_to
from perennial.ops.ledger import DriftReportRow

__all__ = ["DriftReport", "SequentialEvidence", "SignalFigures", "WindowComparison", "WindowSignal", "drift_report"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSignal:
    """What one window changed in the monitor, and why; `signals` are those that drifted, strongest first."""

    level: str
    previous: str
    alert: bool
    episode: int
    at_request: int
    votes: int
    signals: tuple[str, ...]
    reason: str
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFigures:
    """One signal's figures; `drifted` where chance is ruled out and the effect reaches its floor."""

    signal: str
    method: str
    result: StatisticResult
    adjusted_p: float
    drifted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowComparison:
    """A window beside the reference of the version that answered it; `seed` repeats it exactly.

    `novel` says that requests became new to the version. With `matched` all signals but the prediction were measured on
    rows of one mix, a `matched_share` of the window. `season` is `returning`, `new` or `cannot tell yet` by the same
    hours of the `period` before, `mix_season` of the mix alone; with `excused` the window is no drift for it. With
    `mix_new` a new mix is drift. `silent_share` is the part of the window for which feedback is missing.
    """

    version: int
    n_reference: int
    n_current: int
    alpha: float
    permutations: int
    seed: int
    signals: tuple[SignalFigures, ...]
    drifted: bool
    matched: bool = False
    matched_share: float = 1.0
    silent_share: float = 0.0
    season: str = ""
    period: str = ""
    excused: bool = False
    mix_season: str = ""
    mix_new: bool = False
    novel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialEvidence:
    """What following each answer by itself tells: the evidence grows while the values lie above the bound."""

    bound: float
    evidence: float
    alarms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """One window: what it changed, every signal's figures, and at `path` the page that was made of it.

    Reports of the first releases lack what came later.
    """

    id: int | None
    version: int
    at: datetime
    rows: int
    state: str
    path: str | None
    signal: WindowSignal | None
    comparison: WindowComparison | None
    after_id: str
    drift_since: str | None
    report_wanted: bool
    sequential: Mapping[str, SequentialEvidence]


def drift_report(row: DriftReportRow) -> DriftReport:
    """Return what an operator sees of the ledger's row."""
    known = row.payload
    signal, compared = known.get("signal"), known.get("comparison")
    return DriftReport(
        id=row.id,
        version=row.version,
        at=row.at,
        rows=row.rows,
        state=row.state,
        path=row.path,
        signal=None if signal is None else _known_fields(WindowSignal, signal | {"signals": tuple(signal["signals"])}),
        comparison=None if compared is None else _comparison(compared),
        after_id=known.get("after_id", ""),
        drift_since=known.get("drift_since"),
        report_wanted=known.get("report_wanted", False),
        sequential={
            name: _known_fields(SequentialEvidence, seen) for name, seen in known.get("sequential", {}).items()
        },
    )


def _comparison(compared: Mapping[str, Any]) -> WindowComparison:
    signals = tuple(
        _known_fields(SignalFigures, {**signal, "result": _known_fields(StatisticResult, signal["result"])})
        for signal in compared["signals"]
    )
    return _known_fields(WindowComparison, {**compared, "signals": signals})


def _known_fields(kind: type[T], kept: Mapping[str, Any]) -> T:
    """A record out of its kept fields; those of a later release are left out."""
    return kind(**fields_known_to(kind, kept))
