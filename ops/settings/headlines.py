"""Where headlines come from, what is an event among them, and what of it alarms."""

from datetime import timedelta
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from perennial.continual.events import AlertRule, EventSettings, WatchPlan
from perennial.continual.events.plan import BAD, GOOD
from perennial.ops.settings.section import Section

__all__ = ["AlertRuleSettings", "EventWatchSettings", "FeedSettings"]


class AlertRuleSettings(Section):
    """An alert that is asked for by rule: so many headlines of one sentiment about a symbol within a time."""

    name: str = Field(min_length=1, max_length=100)
    sentiment: str = Field(min_length=1)
    at_least: int = Field(3, ge=1)
    within_minutes: float = Field(60.0, gt=0)
    sources: int = Field(2, ge=1, description="different ones; copies of one headline are one")
    symbols: tuple[str, ...] = Field((), description="empty: every symbol")


class EventWatchSettings(Section):
    """What is an event among headlines, and what of it alarms; for the task opinion."""

    false_alerts_per_day: float = Field(1.0, gt=0, description="events by mere chance; the limit is calibrated to it")
    sources: int = Field(2, ge=1, description="so many different ones make an event; copies of one headline are one")
    quiet_hours: float = Field(24.0, gt=0, description="an event that nobody tells of for so long is over")
    joins: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how near a headline must be to join an open event, beyond what one in a thousand others is; 1 is "
        "never: words must tell",
    )
    risk_limit: float = Field(0.5, ge=0, le=1, description="risk from which an event alarms")
    good: tuple[str, ...] = Field(GOOD, description="sentiments of good news")
    bad: tuple[str, ...] = Field(BAD, description="sentiments of bad news")
    rules: tuple[AlertRuleSettings, ...] = ()

    def plan(self) -> WatchPlan:
        """The same for the routers, which have no settings."""
        return WatchPlan(
            events=EventSettings(sources=self.sources, quiet=timedelta(hours=self.quiet_hours), joins=self.joins),
            risk_limit=self.risk_limit,
            good=tuple(label.casefold() for label in self.good),
            bad=tuple(label.casefold() for label in self.bad),
            rules=tuple(
                AlertRule(
                    name=rule.name,
                    sentiment=rule.sentiment,
                    at_least=rule.at_least,
                    within=timedelta(minutes=rule.within_minutes),
                    sources=rule.sources,
                    symbols=rule.symbols,
                )
                for rule in self.rules
            ),
        )


class FeedSettings(Section):
    """Where headlines come from: an address of RSS or Atom, a growing file of rows, or a stream of Redis."""

    url: str = Field("", description="of an RSS or Atom document, or of a Redis, as redis://host:6379/0")
    stream: str = Field("", description="key of a Redis stream, whose entries have the fields of a row")
    secret: SecretStr | None = Field(None, description="password of that Redis; best given by the environment")
    file: str = Field("", description="JSON lines or CSV with text and where known source, published_at and symbols")
    source: str = Field("", description="who publishes it; empty: as the feed calls itself")
    every_s: float = Field(60.0, ge=1, description="how often it is asked")
    timeout_s: float = Field(10.0, gt=0)
    most_bytes: int = Field(4_000_000, ge=1_000, description="of one document, unpacked")
    items_at_once: int = Field(64, ge=1, description="asked of the model in one go")
    private_addresses: bool = Field(False, description="whether it may lie on this machine or in a private network")

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if bool(self.url) == bool(self.file):
            raise ValueError("a feed has a url or a file, one of them")
        address = urlsplit(self.url)
        if bool(self.stream) != (address.scheme in {"redis", "rediss"}):
            raise ValueError("a feed by Redis has a url redis://host:port/database and the key of a stream")
        if self.stream and address.password:
            raise ValueError("a feed's url is kept and shown as it is; give the password as its secret")
        return self

    @property
    def is_document(self) -> bool:
        """Whether it is read whole each time, and does not grow."""
        return not self.file and not self.stream
