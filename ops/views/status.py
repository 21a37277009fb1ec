"""How a model is, out of the ledger alone: what answers, how its traffic looks, and what the loop is doing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from perennial.continual.drift.accuracy import AccuracyEstimate
from perennial.continual.drift.sequential import EDetectorState
from perennial.continual.errors import DataError
from perennial.continual.records import Split
from perennial.ops.ledger import CycleRow, DriftReportRow, Ledger
from perennial.ops.store.state import (
    LANE,
    ROLLOUT_POWER,
    WATCH,
    ErrorState,
    LaneState,
    ModelAccuracy,
    WatchState,
    WorthState,
)

__all__ = [
    "AccuracyView",
    "CycleView",
    "DriftVerdict",
    "ErrorView",
    "LabelCounts",
    "ModelStatus",
    "WorthView",
    "model_status",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleView:
    """One cycle without its inner state; `story` tells its steps so far."""

    id: int
    state: str
    reason: str
    challenger: int | None
    opened_at: datetime
    closed_at: datetime | None
    outcome: str | None
    note: str | None
    story: tuple[str, ...]

    @classmethod
    def of(cls, row: CycleRow) -> "CycleView":
        """Return what an operator sees of a cycle."""
        return cls(
            id=row.id,
            state=row.state,
            reason=row.reason,
            challenger=row.payload.get("challenger"),
            opened_at=row.opened_at,
            closed_at=row.closed_at,
            outcome=row.outcome,
            note=row.note,
            story=tuple(row.payload.get("story", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftVerdict:
    """The newest window's verdict.

    `passed_over` requests of the champion were not looked at, because watching had taken its share of the processors;
    `processor_share` is what it took lately.
    """

    state: str
    at: datetime
    rows: int
    passed_over: int = 0
    processor_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorView:
    """The labelled errors as they are followed one by one. `evidence` grows while they are more than the bound."""

    bound: float | None
    run_length: float
    labels: int
    evidence: float | None
    alarm_since: str | None

    @classmethod
    def of(cls, state: ErrorState) -> "ErrorView":
        """Return what an operator sees of the watch's state."""
        detector = None if state.detector is None else EDetectorState.from_json(state.detector)
        return cls(
            bound=state.bound,
            run_length=state.run_length,
            labels=0 if detector is None else detector.seen,
            evidence=None if detector is None else detector.value,
            alarm_since=state.alarm_since,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyView:
    """One version's accuracy as it was told last, each figure with its assumption. `at` is in ISO form."""

    version: int
    at: str
    estimated: AccuracyEstimate | None
    measured: AccuracyEstimate | None
    reference: AccuracyEstimate | None
    errors: ErrorView | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorthView:
    """What learning the labels that came would buy on each answer, with its 95% interval, once `compared` answers tell.

    A cycle opens for it once it is `found`: the `evidence` reached what is `needed`. The gain is None where labels were
    not asked for at random; the `assumption` tells for which answers they speak.
    """

    learnt: int
    compared: int
    gain_points: float | None
    low_points: float | None
    high_points: float | None
    evidence: float
    needed: float
    found: bool
    assumption: str

    @classmethod
    def of(cls, state: WorthState) -> "WorthView":
        """Return what an operator sees of the watch's state."""
        return cls(
            learnt=state.learnt,
            compared=state.compared,
            gain_points=None if state.gain is None else 100 * state.gain,
            low_points=None if state.low is None else 100 * state.low,
            high_points=None if state.high is None else 100 * state.high,
            evidence=state.evidence,
            needed=state.needed,
            found=state.found,
            assumption=state.assumption,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCounts:
    """How many rows there are of each use (of a ranking lists with signals), and how many labels or signals are kept.

    `waiting` ones came for a request that is not in the traffic log.
    """

    training: int
    holdout: int
    unlearnt: int
    feedback: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One model's route, its cycle under way, its newest drift verdict and its feedback; `champion` answers."""

    model: str
    unreadable: tuple[str, ...] = ()  # what of it could not be read, and stands as if it were not there
    champion: int | None = None
    previous: int | None = None
    challenger: int | None = None
    share: float = 0.0
    resident: tuple[int, ...] = ()
    epoch: int = 0
    cycle: CycleView | None
    training: LaneState | None  # its turn among the models that train
    power: str | None = None  # what the rollout of the cycle can see
    drift: DriftVerdict | None
    accuracy: AccuracyView | None = None
    worth: WorthView | None = None
    labels: LabelCounts
    replay_rows: int


class _Reading:
    """Reads one thing after another; what is kept of one hides none of the others."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def of(self, read: Callable[[], T | None]) -> T | None:
        """What is read; None where it is not what any release writes."""
        try:
            return read()
        except DataError as exc:
            self.wrong.append(str(exc))
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            self.wrong.append(f"what the ledger keeps cannot be read ({type(exc).__name__}: {exc})")
        return None


def model_status(ledger: Ledger, model: str) -> ModelStatus:
    """How one model is now."""
    reading = _Reading()
    route, cycle = reading.of(lambda: ledger.route(model)), reading.of(lambda: ledger.active_cycle(model))
    reports = reading.of(lambda: ledger.drift_reports(model, limit=1))
    status = ModelStatus(
        model=model,
        cycle=None if cycle is None else reading.of(lambda: CycleView.of(cycle)),
        training=None if cycle is None else reading.of(lambda: LANE.read(ledger, model)),
        power=None if cycle is None else reading.of(lambda: _power(ledger, model, cycle.id)),
        drift=_verdict(reports[0], reading.of(lambda: WATCH.read(ledger, model))) if reports else None,
        labels=LabelCounts(
            training=ledger.example_count(model, Split.TRAIN),
            holdout=ledger.example_count(model, Split.HOLDOUT),
            unlearnt=ledger.unlearnt_count(model, by=None if route is None else route.champion),
            feedback=ledger.feedback_count(model),
            waiting=ledger.waiting_count(model),
        ),
        replay_rows=ledger.buffered_count(model),
    )
    if route is None:
        return replace(status, unreadable=tuple(reading.wrong))
    worth = reading.of(lambda: WorthState.of(ledger, model, route.champion))
    accuracy = reading.of(lambda: _accuracy(ledger, model, route.champion))
    return replace(
        status,
        unreadable=tuple(reading.wrong),
        champion=route.champion,
        previous=route.previous,
        challenger=route.challenger,
        share=route.share,
        resident=route.resident,
        epoch=route.epoch,
        accuracy=accuracy,
        worth=None if worth is None else WorthView.of(worth),
    )


def _verdict(report: DriftReportRow, watched: WatchState | None) -> DriftVerdict:
    verdict = DriftVerdict(state=report.state, at=report.at, rows=report.rows)
    if watched is None:
        return verdict
    return replace(verdict, passed_over=watched.passed_over, processor_share=watched.used_share)


def _power(ledger: Ledger, model: str, cycle: int) -> str | None:
    told = ROLLOUT_POWER.read(ledger, model)
    return told.sentence if told is not None and told.cycle == cycle else None


def _accuracy(ledger: Ledger, model: str, champion: int) -> AccuracyView | None:
    """The champion's accuracy; None before the first look."""
    known, errors = ModelAccuracy.of(ledger, model, champion), ErrorState.of(ledger, model, champion)
    if known is None:
        return None
    return AccuracyView(
        version=known.version,
        at=known.at.isoformat(),
        estimated=known.estimated,
        measured=known.measured,
        reference=known.reference,
        errors=None if errors is None else ErrorView.of(errors),
    )
