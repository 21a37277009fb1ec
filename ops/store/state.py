"""What the loop remembers of a model between its passes: one record for each name in the ledger's `model_state`.

A record that an older release wrote lacks what came later: its fields have defaults. One that a newer release wrote may
have more: that is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Generic, Self, TypeVar

from perennial.continual.drift.accuracy import AccuracyEstimate
from perennial.continual.drift.monitor import Level
from perennial.continual.errors import DataError
from perennial.continual.policy import LearningGain, MeasuredShare
from perennial.continual.records import fields_known_to
from perennial.ops.ledger.ports import State

__all__ = [
    "ACCURACY",
    "CANARY_BEGAN",
    "CLASS_PROPOSALS",
    "DISPUTED",
    "ENGINE_CHOICE",
    "ERRORS",
    "LABEL_QUEUE",
    "LANE",
    "LIMIT_TESTED",
    "NOTIFIER",
    "PAUSED",
    "PROBATION",
    "PROBATION_FIGURES",
    "QUARANTINED_FILES",
    "REMOVED",
    "RETRIES",
    "ROLLOUT",
    "ROLLOUT_POWER",
    "TAINTED",
    "WATCH",
    "WORTH",
    "CanaryBegan",
    "ChosenEngine",
    "ErrorState",
    "KeptProposals",
    "LaneState",
    "LiveFigures",
    "ModelAccuracy",
    "NotifierState",
    "QueueChoice",
    "Removal",
    "RetriedStep",
    "StateKey",
    "WatchState",
    "WorthState",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StateKey(Generic[T]):
    """A name in the ledger, and how its record is read and written there."""

    name: str
    decode: Callable[[Any], T]
    encode: Callable[[T], Any]

    def read(self, ledger: State, model: str) -> T | None:
        """Return what was kept last; None where nothing is.

        Raises:
            DataError: it is not what any release writes.
        """
        kept = ledger.get_state(model, self.name)
        if kept is None or kept == {}:
            return None
        try:
            return self.decode(kept)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise DataError(
                f"the ledger's state {self.name!r} of {model} cannot be read ({type(exc).__name__}: {exc}); run the "
                "release that wrote it, or delete that row of the table model_state: the loop begins it anew"
            ) from exc

    def keep(self, ledger: State, model: str, record: T | None) -> None:
        """Keep a record in place of the last one; None says that there is nothing. A retry changes nothing."""
        ledger.put_state(model, self.name, None if record is None else self.encode(record))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenEngine:
    """Which engines were tried beside a champion's for its encoder on a processor, and the version that came of it."""

    champion: int
    encoder: str
    processor: str
    version: int | None
    at: str
    tried: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState:
    """How far the traffic of one version was watched. `cursor` and `cursor_id` are the last row's time and id.

    Which of the next rows count is decided from `counting_from` on: the time and id of a row before them.
    """

    version: int
    cursor: str | None = None  # ISO form
    cursor_id: str = ""
    reference_ready: bool = False
    requests: int = 0
    windows: int = 0
    monitor: Mapping[str, Any] | None = None
    drift_since: str | None = None  # when the first window of the present episode began
    sequential: Mapping[str, Any] | None = None  # bound and state of each e-detector
    counting_from: Mapping[str, str] | None = None
    passed_over: int = 0  # requests that were not looked at, because watching had taken its share of the processors
    used_share: float = 0.0  # of the processors' time, by the last pass that looked at a window
    like_until: str | None = None  # the end of the newest window that was like the reference
    alerted_since: str | None = None  # when the newest episode began that came to an alert, also after its end

    def changed(self, **facts: Any) -> Self:
        """Return the state with some facts replaced."""
        return replace(self, **facts)

    @property
    def level(self) -> Level:
        """How worried the monitor is."""
        return Level.OK if not self.monitor else Level(self.monitor["level"])

    @property
    def since(self) -> datetime | None:
        """When the first drifted window of the present episode began."""
        return None if self.drift_since is None else datetime.fromisoformat(self.drift_since)

    @property
    def alerted(self) -> datetime | None:
        """When the newest episode began that came to an alert; it may be over."""
        return None if self.alerted_since is None else datetime.fromisoformat(self.alerted_since)

    @property
    def in_alert(self) -> bool:
        """Whether the version's traffic stands in an alert."""
        return self.level in {Level.ALERT, Level.COOLDOWN} and self.since is not None

    @property
    def episode(self) -> int:
        """The number of the newest drift episode, counted over all versions."""
        return int((self.monitor or {}).get("episode", 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorState:
    """What the watch of labelled errors remembers of one version.

    `calm_at` is the newest answer before which nothing had begun. `alarm_since` is set by an alarm, to when the change
    began, and stays while alarms follow each other; it goes after 1,000 labels without one, or with a new champion.
    """

    version: int
    cursor: int = 0
    bound: float | None = None
    run_length: float = 0.0
    detector: Mapping[str, Any] | None = None
    calm_at: str | None = None
    alarm_since: str | None = None

    @property
    def since(self) -> datetime | None:
        """When the change began that the watch alarms about; None while it does not."""
        return None if self.alarm_since is None else datetime.fromisoformat(self.alarm_since)

    @classmethod
    def of(cls, ledger: State, model: str, version: int) -> "ErrorState | None":
        """Return what was kept last, if it is about this version."""
        kept = ERRORS.read(ledger, model)
        return None if kept is None or kept.version != version else kept


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAccuracy:
    """What is known of one version's accuracy. `reference` is what it reached in its first traffic."""

    version: int
    at: datetime
    estimated: AccuracyEstimate | None = None
    measured: AccuracyEstimate | None = None
    reference: AccuracyEstimate | None = None

    @property
    def share(self) -> MeasuredShare | None:
        """The measured accuracy as a policy looks at it."""
        seen = self.measured
        return None if seen is None else MeasuredShare(value=seen.value, low=seen.low, high=seen.high, rows=seen.rows)

    @classmethod
    def of(cls, ledger: State, model: str, version: int) -> "ModelAccuracy | None":
        """Return what was kept last, if it is about this version."""
        kept = ACCURACY.read(ledger, model)
        return None if kept is None or kept.version != version else kept


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueChoice:
    """A request that was chosen to be labelled: why, how likely that was, in which batch, and which ones it saw.

    The newest `KEPT` choices are remembered.
    """

    KEPT: ClassVar[int] = 2_000

    prediction_id: str
    reason: str
    probability: float
    batch: int = 0
    seen: tuple[int, ...] = ()  # later batches that were drawn from requests among which it was


@dataclass(frozen=True, slots=True, kw_only=True)
class Disputed:
    """Requests on which two versions under comparison disagree, the oldest first."""

    champion: int
    challenger: int
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptProposals:
    """Proposed classes by number, as ids of requests. `last` is the highest number that was given; none is reused."""

    last: int = 0
    groups: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def number_of(self, ids: Sequence[str]) -> int | None:
        """The number of the proposal that has these requests and no others; None where there is none."""
        return next((number for number, kept in self.groups.items() if set(kept) == set(ids)), None)

    def joined(self, shown: Sequence[Sequence[str]], *, most: int) -> Self:
        """With what is shown now, each under a number, and at most so many of those that were shown before."""
        last, now = self.last, dict[int, tuple[str, ...]]()
        for ids in shown:
            number = self.number_of(ids)
            if number is None:
                last = number = last + 1
            now[number] = tuple(ids)
        before = sorted(self.groups.keys() - now.keys())[-most:]
        return replace(self, last=last, groups={number: self.groups[number] for number in before} | now)

    def without(self, number: int) -> Self:
        """Without a proposal, whose number stays taken."""
        return replace(self, groups={other: ids for other, ids in self.groups.items() if other != number})


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifierState:
    """Up to where the audit log and the drift reports have been told to people."""

    audit: int
    report: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFigures:
    """The newest comparison of a canary or a probation, with every figure behind its verdict.

    `gains`, `losses` and `ties` are scored rows, `gained` and `lost` by how much where a score is no whole one; see
    `perennial.continual.rollout.LiveEvidence` for all counts. `compared` and what follows it is known without labels.
    """

    phase: str
    cycle: int
    champion: int
    challenger: int
    since: str  # ISO form
    verdict: str
    reasons: tuple[str, ...] = ()
    gains: int = 0
    losses: int = 0
    ties: int = 0
    asked: int = 0
    failed: int = 0
    timed: int = 0
    slow: int = 0
    waiting: int = 0
    gained: float | None = None
    lost: float | None = None
    difference_points: float = 0.0
    e_values: Mapping[str, float] = field(default_factory=dict)
    e_value_needed: float | None = None
    worse_e_value_needed: float | None = None
    disputed_gains: int | None = None
    disputed_losses: int | None = None
    disputed_ties: int | None = None
    compared: int | None = None
    disagreed: int | None = None
    newly_unknown: int | None = None
    newly_known: int | None = None
    estimated_points: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPower:
    """What a cycle's rollout can see with the labels that come, told before it begins; points as in `Power`.

    `canary` says in words whether there is one, and why; empty where the settings name it.
    """

    cycle: int
    sentence: str
    labels_per_hour: float
    disagreement: float
    come_points: float | None = None
    asked_points: float | None = None
    canary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probation:
    """One that goes on beside the cycles after its own: who is watched against whom, since when and how long."""

    cycle: int
    champion: int
    previous: int
    since: str  # ISO form
    until: str  # ISO form


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryBegan:
    """When a cycle's canary began; it has several steps and may be resumed."""

    cycle: int
    at: str  # ISO form


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriedStep:
    """A cycle's step that fails and is tried again: since when, and why."""

    cycle: int
    step: str
    error: str
    since: str  # ISO form


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """Whether a model's training is at work, or else behind which models it waits, and since when."""

    works: bool
    behind: tuple[str, ...]
    since: str  # ISO form


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Who took a model out of the settings, and when."""

    by: str
    at: str  # ISO form


@dataclass(frozen=True, slots=True, kw_only=True)
class WorthState:
    """What learning the labels that came would buy one version, as it was told last. Scores are from -1 to 1.

    `learnt` labels were learnt beside the version, on `compared` of its answers both were scored; `gain` is of the
    newest `rows` of them, and None where labels were not asked for at random: it would not speak for all answers. See
    the `assumption`. `found` once the `evidence` reached what is `needed`, in labels that the version `answered`, the
    newest that was turned away in this one's place, had not learnt; 0 where there is none.
    """

    version: int
    learnt: int = 0
    compared: int = 0
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    evidence: float = 0.0
    needed: float = 0.0
    found: bool = False
    assumption: str = ""
    answered: int = 0

    @property
    def facts(self) -> LearningGain | None:
        """It as a policy looks at it; None before anything was compared."""
        if self.rows == 0:
            return None
        return LearningGain(value=self.gain, low=self.low, high=self.high, rows=self.rows, found=self.found)

    @classmethod
    def of(cls, ledger: State, model: str, version: int) -> "WorthState | None":
        """Return what was kept last, if it is about this version."""
        kept = WORTH.read(ledger, model)
        return None if kept is None or kept.version != version else kept


def _record(kind: type[T]) -> Callable[[Any], T]:
    """A reader of records that are kept as their fields; fields that it does not know are left out."""

    def read(kept: Any) -> T:
        values = fields_known_to(kind, kept)
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    return read


def _fields(record: Any) -> dict[str, Any]:
    return asdict(record)


def _known_fields(record: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if value is not None}


def _read_accuracy(kept: Any) -> ModelAccuracy:
    estimate = _record(AccuracyEstimate)
    seen = {name: kept.get(name) for name in ("estimated", "measured", "reference")}
    return ModelAccuracy(
        version=kept["version"],
        at=datetime.fromisoformat(kept["at"]),
        **{name: None if value is None else estimate(value) for name, value in seen.items()},
    )


def _written_accuracy(record: ModelAccuracy) -> dict[str, Any]:
    return {**asdict(record), "at": record.at.isoformat()}


def _read_queue(kept: Any) -> tuple[QueueChoice, ...]:
    return tuple(
        QueueChoice(
            prediction_id=row["id"],
            reason=row["reason"],
            probability=float(row["p"]),
            batch=row.get("batch", 0),
            seen=tuple(row.get("seen", ())),
        )
        for row in kept
    )


def _written_queue(record: tuple[QueueChoice, ...]) -> list[dict[str, Any]]:
    return [
        {"id": row.prediction_id, "reason": row.reason, "p": row.probability, "batch": row.batch, "seen": [*row.seen]}
        for row in record
    ]


def _read_proposals(kept: Any) -> KeptProposals:
    """An earlier release kept the groups alone and numbered them anew at every look."""
    written = kept.get("groups", kept)
    groups = {int(number): tuple(str(name) for name in ids) for number, ids in written.items()}
    return KeptProposals(last=int(kept.get("last", max(groups, default=0))), groups=groups)


def _written_proposals(record: KeptProposals) -> dict[str, Any]:
    return {"last": record.last, "groups": {str(number): [*ids] for number, ids in record.groups.items()}}


WATCH = StateKey("watch", _record(WatchState), _fields)
WORTH = StateKey("worth", _record(WorthState), _fields)
ERRORS = StateKey("errors", _record(ErrorState), _fields)
ACCURACY = StateKey("accuracy", _read_accuracy, _written_accuracy)
LABEL_QUEUE = StateKey("label_queue", _read_queue, _written_queue)
CLASS_PROPOSALS = StateKey("class_proposals", _read_proposals, _written_proposals)
NOTIFIER = StateKey("herald", _record(NotifierState), _fields)
ROLLOUT = StateKey("rollout", _record(LiveFigures), _known_fields)
ROLLOUT_POWER = StateKey("rollout_power", _record(RolloutPower), _fields)
ENGINE_CHOICE = StateKey("engine_choice", _record(ChosenEngine), _fields)
DISPUTED = StateKey("disputed", _record(Disputed), _fields)
PROBATION = StateKey("probation_beside", _record(Probation), _fields)
PROBATION_FIGURES = StateKey("probation_figures", _record(LiveFigures), _known_fields)  # of the one beside cycles
CANARY_BEGAN = StateKey("canary_began", _record(CanaryBegan), _fields)
LIMIT_TESTED = StateKey("canary_limit_tested", int, int)  # the cycle whose canary had its test at the time limit
LANE = StateKey("training_lane", _record(LaneState), _fields)
RETRIES = StateKey("cycle_retries", _record(RetriedStep), _fields)
PAUSED = StateKey("cycle_paused", bool, bool)
QUARANTINED_FILES = StateKey("quarantine_noted", frozenset[str], sorted)  # of the traffic log, told already
REMOVED = StateKey("removed", _record(Removal), _fields)
TAINTED = StateKey("tainted_encoders", frozenset[str], sorted)  # no training may go on from them
