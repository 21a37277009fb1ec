"""What a ranking is asked for, and what became known of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from perennial.continual.errors import DataError
from perennial.continual.records import Origin, check_storable

__all__ = ["EVERYBODY", "HIGHEST", "Impression", "Query", "is_relevance"]

EVERYBODY = "all"
HIGHEST = 1e6  # relevance; beyond it the sums of a score lose what tells rankings apart


def is_relevance(value: object) -> bool:
    """Whether a value says how relevant an item was; NaN and truth values do not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= HIGHEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A user at a time. `segment` is the part of all users that must not get much worse; `context` is in words.

    >>> from datetime import UTC, datetime
    >>> Query(user="u7", at=datetime(2026, 1, 1, tzinfo=UTC)).segment
    'all'
    """

    user: str
    at: datetime
    segment: str = EVERYBODY
    context: str = ""

    def __post_init__(self) -> None:
        for name in ("user", "segment"):
            if not getattr(self, name).strip():
                raise DataError(f"a query's {name} is empty; name one")
        for name in ("user", "segment", "context"):
            check_storable(f"a query's {name}", getattr(self, name))
        if self.at.tzinfo is None:
            raise DataError(f"a query's time {self.at.isoformat()} has no time zone; give UTC, e.g. {self.at}+00:00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Impression:
    """One query and how relevant which items proved to be, from 0 to 1,000,000; items not named have 0."""

    input: Query
    target: Mapping[str, float]
    at: datetime  # when the relevances became known
    origin: Origin = Origin.FEEDBACK
    key: str | None = None
    prediction_id: str | None = None
    redacted: bool = False

    def __post_init__(self) -> None:
        for item, relevance in self.target.items():
            if not item or not is_relevance(relevance):
                raise DataError(f"item {item!r} has the relevance {relevance}; give a named item 0 to {HIGHEST:,.0f}")
            check_storable("an item", item)
        if self.at.tzinfo is None:
            raise DataError(f"an impression's time {self.at.isoformat()} has no time zone; give UTC")
