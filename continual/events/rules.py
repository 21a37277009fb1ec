"""Alerts that an operator asks for by rule: so many headlines of a sentiment about a symbol, from so many sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from perennial.continual.errors import ConfigurationError

__all__ = ["AlertRule", "Opinionated", "RuleHit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinionated:
    """One original headline as a rule sees it: the sentiment of each symbol, or of the whole under no name."""

    number: int
    at: datetime
    source: str
    sentiments: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleHit:
    """What met a rule: the symbol, and the headlines, the latest last."""

    symbol: str
    evidence: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """At least so many headlines of one sentiment within a time, from so many sources; about each symbol by itself.

    Without `symbols` it looks at every symbol, and where a headline names none at what it says as a whole.
    """

    name: str
    sentiment: str
    at_least: int = 3
    within: timedelta = timedelta(hours=1)
    sources: int = 2
    symbols: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or self.at_least < 1 or self.sources < 1 or self.within <= timedelta(0):
            raise ConfigurationError(
                f"alert rule {self.name!r} asks for {self.at_least} headlines of {self.sources} sources within "
                f"{self.within}: it needs a name, one headline and one source at least, and a time above 0"
            )

    def asks_about(self, seen: Opinionated) -> tuple[str, ...]:
        """The symbols of a headline that could meet the rule with it."""
        wanted = [symbol for symbol, sentiment in seen.sentiments.items() if sentiment == self.sentiment]
        return tuple(symbol for symbol in wanted if not self.symbols or symbol in self.symbols)

    def met_by(self, latest: Sequence[Opinionated]) -> tuple[RuleHit, ...]:
        """What the last of these headlines, in order, brought about."""
        if not latest:
            return ()
        now = latest[-1]
        hits = []
        for symbol in self.asks_about(now):
            matching = [
                seen
                for seen in latest
                if seen.sentiments.get(symbol) == self.sentiment and now.at - seen.at <= self.within
            ]
            if len(matching) >= self.at_least and len({seen.source for seen in matching}) >= self.sources:
                hits.append(RuleHit(symbol=symbol, evidence=tuple(seen.number for seen in matching)))
        return tuple(hits)

    def to_record(self) -> dict[str, Any]:
        """JSON values only."""
        return {
            "name": self.name,
            "sentiment": self.sentiment,
            "at_least": self.at_least,
            "within_s": self.within.total_seconds(),
            "sources": self.sources,
            "symbols": list(self.symbols),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "AlertRule":
        """What `to_record` gave."""
        known = {**record, "within": timedelta(seconds=record["within_s"]), "symbols": tuple(record["symbols"])}
        del known["within_s"]
        return cls(**known)
