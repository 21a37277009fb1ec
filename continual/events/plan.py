"""What is watched for and what alarms, as one record that every router has alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from perennial.continual.events.risk import RiskModel
from perennial.continual.events.rules import AlertRule
from perennial.continual.events.watch import EventSettings

__all__ = ["BAD", "GOOD", "WatchPlan"]

GOOD = ("positive", "bullish", "good", "up", "pos")
BAD = ("negative", "bearish", "bad", "down", "neg")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPlan:
    """`risk_limit` is the risk from which an event alarms; `good` and `bad` are the sentiments that say so."""

    events: EventSettings = field(default_factory=EventSettings)
    risk: RiskModel = field(default_factory=RiskModel)
    risk_limit: float = 0.5
    rules: tuple[AlertRule, ...] = ()
    good: tuple[str, ...] = GOOD
    bad: tuple[str, ...] = BAD

    def tone(self, scores: Mapping[str, float]) -> float:
        """How good the news are by the probabilities of the sentiments, from -1 to 1.

        >>> round(WatchPlan().tone({"Positive": 0.2, "negative": 0.7, "neutral": 0.1}), 3)
        -0.5
        """
        folded = {label.casefold(): score for label, score in scores.items()}
        good, bad = (sum(folded.get(label, 0.0) for label in labels) for labels in (self.good, self.bad))
        return float(good - bad)

    def with_limit(self, limit: float) -> "WatchPlan":
        """The plan with the surprise that a calibration found."""
        return replace(self, events=replace(self.events, limit=limit))

    def to_record(self) -> dict[str, Any]:
        """JSON values only; the burst's own settings are the release's."""
        return {
            "limit": self.events.limit,
            "sources": self.events.sources,
            "quiet_s": self.events.quiet.total_seconds(),
            "joins": self.events.joins,
            "weights": dict(self.risk.weights),
            "bias": self.risk.bias,
            "risk_limit": self.risk_limit,
            "rules": [rule.to_record() for rule in self.rules],
            "good": list(self.good),
            "bad": list(self.bad),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "WatchPlan":
        """What `to_record` gave, after JSON."""
        return cls(
            events=EventSettings(
                limit=record["limit"],
                sources=record["sources"],
                quiet=timedelta(seconds=record["quiet_s"]),
                joins=record["joins"],
            ),
            risk=RiskModel(weights=record["weights"], bias=record["bias"]),
            risk_limit=record["risk_limit"],
            rules=tuple(AlertRule.from_record(rule) for rule in record["rules"]),
            good=tuple(record["good"]),
            bad=tuple(record["bad"]),
        )
