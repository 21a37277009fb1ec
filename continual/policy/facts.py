"""What a trigger policy looks at: plain values, gathered by whoever runs the loop."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from perennial.continual.errors import DataError

__all__ = ["DriftState", "Facts", "LearningGain", "MeasuredShare", "PastAttempt"]


class DriftState(StrEnum):
    """The drift rule's word for the present."""

    OK = "ok"
    WARNING = "warning"
    ALERT = "alert"
    COOLDOWN = "cooldown"

    @property
    def rank(self) -> int:
        """How serious it is; a cooldown asks for nothing."""
        return {"warning": 1, "alert": 2}.get(self.value, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredShare:
    """A mean score in [0, 1] with its interval and the rows behind it; for right and wrong the share of right answers.

    >>> MeasuredShare(value=0.9, low=0.86, high=0.93, rows=200).rows
    200
    """

    value: float
    low: float
    high: float
    rows: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.value <= self.high <= 1.0 or self.rows < 0:
            raise DataError(
                f"share {self.value} with interval [{self.low}, {self.high}] on {self.rows} rows is not one: it "
                "needs 0 <= low <= value <= high <= 1 and rows >= 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningGain:
    """What learning the labels that came would buy on each answer, in scores, with its interval and the answers behind.

    `found` says that the evidence reached what the budget of false retrainings asks for. The gain speaks for all
    answers only where labels were asked for at random: else it is None, and `rows` alone tell of the labelled answers.

    >>> LearningGain(value=0.2, low=0.15, high=0.25, rows=300, found=True).found
    True
    """

    value: float | None
    low: float | None
    high: float | None
    rows: int
    found: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAttempt:
    """The newest version that learnt in the champion's place and was turned away, e.g. "refused by the gate".

    `learnt` labels that the champion has not learnt were in it, and `since` came after them.

    >>> began = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    >>> PastAttempt(version=7, learnt=400, since=3, began=began, end="refused by the gate").since
    3
    """

    version: int
    learnt: int
    since: int
    began: datetime
    end: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The present of one model. Quality is a mean score in [0, 1]; higher is better. Feedback is rows with a target.

    `cycles` are the times at which retrainings began, in any order, at least those of the last 24 hours and the newest.
    `in_vain` are those of them that ended without having answered: they failed, or their version was refused. `proof`
    is how many held-out rows came since the champion learnt, counted up to `proof_needed`, which the gate asks for.

    >>> from datetime import timezone
    >>> Facts(champion_since=datetime(2026, 1, 1, tzinfo=timezone.utc)).last_cycle_at is None
    True
    """

    champion_since: datetime
    cycles: tuple[datetime, ...] = ()
    in_vain: tuple[datetime, ...] = ()
    unlearnt_feedback: int = 0
    proof: int = 0
    proof_needed: int = 0
    drift: DriftState = DriftState.OK
    drift_since: datetime | None = None  # when the present episode left ok
    drift_signals: tuple[str, ...] = ()
    estimated_quality: float | None = None
    measured_quality: MeasuredShare | None = None
    reference_quality: float | None = None  # the champion's, when it was promoted
    gain: LearningGain | None = None
    turned_away: PastAttempt | None = None  # on what it had learnt, while the champion is the same

    @property
    def last_cycle_at(self) -> datetime | None:
        """When the newest retraining began."""
        return max(self.cycles, default=None)

    @property
    def last_answer_at(self) -> datetime | None:
        """When the newest retraining began that was not in vain."""
        return max((at for at in self.cycles if at not in self.in_vain), default=None)
