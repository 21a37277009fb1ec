"""The policy of one model, and its decision: pure, so that it can be replayed over any history."""

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from perennial.continual.errors import ConfigurationError
from perennial.continual.policy.conditions import Condition
from perennial.continual.policy.facts import DriftState, Facts

__all__ = ["Limits", "QuietHours", "TriggerDecision", "TriggerPolicy", "decide"]

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """A part of each day in which no retraining starts; it may pass midnight.

    >>> QuietHours(start=time(22), end=time(6)).covers(datetime(2026, 1, 1, 23, tzinfo=UTC))
    True
    """

    start: time
    end: time
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise ConfigurationError(f"quiet hours start and end at {self.start:%H:%M}; give two different times")
        if self.start.tzinfo is not None or self.end.tzinfo is not None:
            raise ConfigurationError("quiet hours are wall-clock times; give the zone as zone, e.g. 'Europe/Berlin'")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ConfigurationError(f"quiet hours name zone {self.zone!r}, which is unknown; e.g. 'UTC'") from error

    def covers(self, moment: datetime) -> bool:
        """Return whether a moment is quiet; the start is, the end is not."""
        local = moment.astimezone(ZoneInfo(self.zone)).time()
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What holds a retraining back although its condition is met.

    >>> Limits(budget_per_day=2).cooldown_s
    0.0
    """

    budget_per_day: int | None = None  # retrainings in any 24 hours
    cooldown_s: float = 0.0  # between the beginnings of two retrainings
    quiet_hours: QuietHours | None = None
    min_feedback: int = 0  # rows not learnt yet, without which a retraining could not teach anything
    refused_growth: float = 0.1  # by which the labels of what was turned away must grow before it is repeated
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.budget_per_day is not None and self.budget_per_day < 1:
            raise ConfigurationError(f"budget_per_day is {self.budget_per_day}; it must be at least 1, or left out")
        if self.cooldown_s < 0 or self.min_feedback < 0:
            raise ConfigurationError(
                f"cooldown_s {self.cooldown_s} and min_feedback {self.min_feedback} must not be negative"
            )

        if not 0.0 <= self.refused_growth <= 10.0:
            raise ConfigurationError(f"refused_growth is {self.refused_growth}; it must lie in [0, 10], e.g. 0.1")

    def holding(self, facts: Facts, now: datetime) -> tuple[str, ...]:
        """Name every limit that holds now."""
        held = []
        last = facts.last_cycle_at
        spent = sum(now - _DAY < at for at in facts.cycles)
        if self.budget_per_day is not None and spent >= self.budget_per_day:
            held.append(f"budget: {spent} of {self.budget_per_day} a day are spent")
        if last is not None and now - last < timedelta(seconds=self.cooldown_s):
            held.append(f"cooldown: {(now - last).total_seconds():.0f} of {self.cooldown_s:.0f} s have passed")
        if self.quiet_hours is not None and self.quiet_hours.covers(now):
            quiet = self.quiet_hours
            held.append(f"quiet_hours: {quiet.start:%H:%M} to {quiet.end:%H:%M} {quiet.zone}")
        if facts.unlearnt_feedback < self.min_feedback:
            held.append(f"min_feedback: {facts.unlearnt_feedback} of {self.min_feedback} rows of feedback")
        if facts.proof < facts.proof_needed:
            held.append(f"proof: {facts.proof} of {facts.proof_needed} held-out rows that the gate asks for")
        if (told := self._turned_away(facts)) is not None:
            held.append(told)
        if self.dry_run:
            held.append("dry_run: nothing is started")
        return tuple(held)

    def _turned_away(self, facts: Facts) -> str | None:
        """Why what was turned away is not tried again; a drift that began after it is something new."""
        past = facts.turned_away
        if past is None:
            return None
        since = facts.drift_since if facts.drift is DriftState.ALERT else None
        if since is not None and since > past.began:
            return None
        needed = max(1, math.ceil(self.refused_growth * past.learnt))
        if past.since >= needed:
            return None
        return (
            f"refused: version {past.version} was {past.end} on {past.learnt} of these labels; {past.since} of "
            f"{needed} new ones have come"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerPolicy:
    """When to retrain, and what holds it back."""

    when: Condition
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerDecision:
    """Whether to retrain now: why, and if not although a reason is there, what holds it back.

    >>> TriggerDecision(fire=False).reasons
    ()
    """

    fire: bool
    reasons: tuple[str, ...] = ()
    held_by: tuple[str, ...] = ()


def decide(policy: TriggerPolicy, facts: Facts, now: datetime) -> TriggerDecision:
    """Return whether a retraining begins now. Pure: the same facts at the same time give the same answer.

    A retraining that began later than `now` was stamped by a wrong clock; it counts as none and holds nothing back.

    Raises:
        ConfigurationError: `now` has no time zone.

    >>> from perennial.continual.policy.conditions import FeedbackCount
    >>> start = datetime(2026, 1, 1, tzinfo=UTC)
    >>> policy = TriggerPolicy(when=FeedbackCount(at_least=100), limits=Limits(cooldown_s=3600))
    >>> decide(policy, Facts(champion_since=start, unlearnt_feedback=120), start).reasons
    ('feedback_count: 120 rows of feedback not learnt (at least 100)',)
    >>> decide(policy, Facts(champion_since=start, unlearnt_feedback=120, cycles=(start,)), start).held_by
    ('cooldown: 0 of 3600 s have passed',)
    """
    if now.tzinfo is None:
        raise ConfigurationError(f"the present {now.isoformat()} has no time zone; give it in UTC")
    facts = replace(facts, cycles=tuple(at for at in facts.cycles if at <= now))
    reason = policy.when.reason(facts, now.astimezone(UTC))
    if reason is None:
        return TriggerDecision(fire=False)
    held_by = policy.limits.holding(facts, now)
    return TriggerDecision(fire=not held_by, reasons=tuple(reason.split("; ")), held_by=held_by)
