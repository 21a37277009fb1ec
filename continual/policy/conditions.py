"""What may start a retraining: conditions as plain records, told apart by their `kind`."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Literal

from perennial.continual.errors import ConfigurationError
from perennial.continual.policy.cron import next_time
from perennial.continual.policy.facts import DriftState, Facts

__all__ = [
    "AllOf",
    "AnyOf",
    "AtLeastN",
    "Condition",
    "Drift",
    "EstimatedQuality",
    "FeedbackCount",
    "Gain",
    "MeasuredQuality",
    "Schedule",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Holds when `interval_s` passed, or a cron time came (UTC), since the last cycle or the champion's start.

    >>> Schedule(cron="0 3 * * mon").kind
    'schedule'
    """

    kind: ClassVar[Literal["schedule"]] = "schedule"
    interval_s: float | None = None
    cron: str | None = None

    def __post_init__(self) -> None:
        if (self.interval_s is None) == (self.cron is None):
            raise ConfigurationError("a schedule policy needs either interval_s or cron, not both or none")
        if self.interval_s is not None and not (math.isfinite(self.interval_s) and self.interval_s > 0):
            raise ConfigurationError(f"a schedule policy has interval_s {self.interval_s}; it must be positive")
        if self.cron is not None:
            next_time(self.cron, datetime.fromisoformat("2026-01-01T00:00:00+00:00"))

    def reason(self, facts: Facts, now: datetime) -> str | None:
        """Say why it holds, or nothing."""
        since = facts.last_cycle_at or facts.champion_since
        if self.cron is not None:
            due = next_time(self.cron, since)
        else:
            due = since + timedelta(seconds=self.interval_s or 0.0)
        return f"schedule: due at {due.isoformat(timespec='seconds')}" if due <= now else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackCount:
    """Holds when so many rows of feedback wait that no version has learnt."""

    kind: ClassVar[Literal["feedback_count"]] = "feedback_count"
    at_least: int

    def __post_init__(self) -> None:
        if self.at_least < 1:
            raise ConfigurationError(f"a feedback_count policy has at_least {self.at_least}; it must be at least 1")

    def reason(self, facts: Facts, now: datetime) -> str | None:
        """Say why it holds, or nothing."""
        if facts.unlearnt_feedback < self.at_least:
            return None
        return f"feedback_count: {facts.unlearnt_feedback} rows of feedback not learnt (at least {self.at_least})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Holds while the drift state is at least `level`: once an episode, or `again_after_s` after each cycle in it.

    A cycle that failed, or whose version was refused, has answered nothing. The limits say when another one may begin.
    """

    kind: ClassVar[Literal["drift"]] = "drift"
    level: DriftState = DriftState.ALERT
    again_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.level is DriftState.OK:
            raise ConfigurationError("a drift policy has level 'ok'; it must be 'warning' or 'alert'")
        if self.again_after_s is not None and self.again_after_s <= 0:
            raise ConfigurationError(f"a drift policy has again_after_s {self.again_after_s}; it must be positive")

    def reason(self, facts: Facts, now: datetime) -> str | None:
        """Say why it holds, or nothing."""
        if facts.drift.rank < self.level.rank:
            return None
        last, since = facts.last_answer_at, facts.drift_since
        again = timedelta.max if self.again_after_s is None else timedelta(seconds=self.again_after_s)
        if last is not None and since is not None and last >= since and now - last < again:
            return None
        signals = ", ".join(facts.drift_signals) or "unnamed signals"
        return f"drift: {facts.drift} ({signals})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Holds once it is found that learning the labels that came would buy something on each answer.

    >>> Gain().kind
    'gain'
    """

    kind: ClassVar[Literal["gain"]] = "gain"

    def reason(self, facts: Facts, now: datetime) -> str | None:
        """Say why it holds, or nothing."""
        del now
        gain = facts.gain
        if gain is None or not gain.found:
            return None
        if gain.value is None or gain.low is None or gain.high is None:
            return f"gain: labelled answers would be better ({gain.rows} newest ones compared); of all it is not known"
        interval = f"[{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
        return f"gain: learning would buy {100 * gain.value:+.1f} points {interval} on {gain.rows} labelled answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedQuality:
    """Holds when the quality estimated without feedback is below `below`, or `drop` under the champion's own.

    The estimate trusts the confidence's calibration; it cannot see a change of concept.
    """

    kind: ClassVar[Literal["estimated_quality"]] = "estimated_quality"
    below: float | None = None
    drop: float | None = None

    def __post_init__(self) -> None:
        _check_limits(self.kind, self.below, self.drop)

    def reason(self, facts: Facts, now: datetime) -> str | None:
        """Say why it holds, or nothing."""
        limit = _limit(self.below, self.drop, facts.reference_quality)
        value = facts.estimated_quality
        if value is None or limit is None or value >= limit:
            return None
        return f"estimated_quality: {value:.3f} below {limit:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredQuality:
    """Holds when the quality of answers with feedback surely is below `below`, or `drop` under the champion's own.

    Surely: the upper end of its interval is below, and at least `min_feedback` rows speak.
    """

    kind: ClassVar[Literal["measured_quality"]] = "measured_quality"
    below: float | None = None
    drop: float | None = None
    min_feedback: int = 50

    def __post_init__(self) -> None:
        _check_limits(self.kind, self.below, self.drop)
        if self.min_feedback < 1:
            raise ConfigurationError(
                f"a {self.kind} policy has min_feedback {self.min_feedback}; it must be at least 1"
            )

    def reason(self, facts: Facts, now: datetime) -> str | None:
        """Say why it holds, or nothing."""
        limit = _limit(self.below, self.drop, facts.reference_quality)
        measured = facts.measured_quality
        if measured is None or limit is None or measured.rows < self.min_feedback or measured.high >= limit:
            return None
        interval = f"[{measured.low:.3f}, {measured.high:.3f}]"
        return f"measured_quality: {measured.value:.3f} {interval} below {limit:.3f} on {measured.rows} rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyOf:
    """Holds when one of its conditions does."""

    kind: ClassVar[Literal["any"]] = "any"
    policies: tuple["Condition", ...]

    def __post_init__(self) -> None:
        _check_members(self.kind, self.policies, 1)

    def reason(self, facts: Facts, now: datetime) -> str | None:
        """Say which of them hold, or nothing."""
        return _joined(self.policies, facts, now, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllOf:
    """Holds when all of its conditions do."""

    kind: ClassVar[Literal["all"]] = "all"
    policies: tuple["Condition", ...]

    def __post_init__(self) -> None:
        _check_members(self.kind, self.policies, 1)

    def reason(self, facts: Facts, now: datetime) -> str | None:
        """Say why they hold, or nothing."""
        return _joined(self.policies, facts, now, len(self.policies))


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLeastN:
    """Holds when at least `n` of its conditions do."""

    kind: ClassVar[Literal["at_least_n"]] = "at_least_n"
    n: int
    policies: tuple["Condition", ...]

    def __post_init__(self) -> None:
        _check_members(self.kind, self.policies, self.n)

    def reason(self, facts: Facts, now: datetime) -> str | None:
        """Say which of them hold, or nothing."""
        return _joined(self.policies, facts, now, self.n)


Condition = Schedule | FeedbackCount | Drift | Gain | EstimatedQuality | MeasuredQuality | AnyOf | AllOf | AtLeastN


def _joined(policies: tuple[Condition, ...], facts: Facts, now: datetime, least: int) -> str | None:
    reasons = [reason for policy in policies if (reason := policy.reason(facts, now)) is not None]
    return "; ".join(reasons) if len(reasons) >= least else None


def _check_members(kind: str, policies: tuple[Condition, ...], least: int) -> None:
    if not 1 <= least <= len(policies):
        raise ConfigurationError(f"a {kind} policy asks for {least} of {len(policies)} policies; give it more")


def _check_limits(kind: str, below: float | None, drop: float | None) -> None:
    if below is None and drop is None:
        raise ConfigurationError(f"a {kind} policy needs below or drop, e.g. drop = 0.05")
    for name, value in (("below", below), ("drop", drop)):
        if value is not None and not 0.0 < value <= 1.0:
            raise ConfigurationError(f"a {kind} policy has {name} {value}; it must lie in (0, 1]")


def _limit(below: float | None, drop: float | None, reference: float | None) -> float | None:
    """Return the higher of the two limits that are known."""
    limits = [] if below is None else [below]
    if drop is not None and reference is not None:
        limits.append(reference - drop)
    return max(limits, default=None)
