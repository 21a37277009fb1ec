"""What users did with items, and what is known of an item before anybody did anything."""

import math
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from perennial.continual.errors import DataError

__all__ = ["Event", "Item", "Signal", "event_of", "liking"]

_BEST_RATING = 5.0
_LIKED_FROM = 4.0  # of five: the ratings that users give to what they would choose again
_LONG_DWELL_S = 60.0


class Signal(StrEnum):
    """The kinds of feedback on an item that was shown, or chosen without being shown."""

    CLICK = "click"
    RATING = "rating"  # 0.5 to 5
    SKIP = "skip"
    DWELL = "dwell"  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One user and one item at a time; `liked` is 0 (seen, not liked) to 1.

    >>> from datetime import UTC, datetime
    >>> Event(user="u7", item="film 3", at=datetime(2026, 1, 1, tzinfo=UTC)).liked
    1.0
    """

    user: str
    item: str
    at: datetime
    liked: float = 1.0

    def __post_init__(self) -> None:
        for name in ("user", "item"):
            if not getattr(self, name).strip():
                raise DataError(f"an event's {name} is empty; name one")
        if not 0.0 <= self.liked <= 1.0:
            raise DataError(f"an event's liking is {self.liked}; it must lie in 0 to 1")
        if self.at.tzinfo is None:
            raise DataError(f"an event's time {self.at.isoformat()} has no time zone; give UTC, e.g. {self.at}+00:00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item with its text, whether or not anybody has liked it yet; outside its times it is never shown.

    >>> Item(name="film 3", text="Brief Encounter (1945) drama").offered(None)
    True
    """

    name: str
    text: str = ""
    language: str = ""
    offered_from: datetime | None = None
    offered_until: datetime | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise DataError("an item's name is empty; name it")
        for field in ("offered_from", "offered_until"):
            at = getattr(self, field)
            if at is not None and at.tzinfo is None:
                raise DataError(f"item {self.name!r}: {field} {at.isoformat()} has no time zone; give UTC")

    def offered(self, at: datetime | None) -> bool:
        """Whether it may be shown at a time; at no particular time everything may."""
        if at is None:
            return True
        begun = self.offered_from is None or self.offered_from <= at
        return begun and (self.offered_until is None or at < self.offered_until)


def liking(signal: Signal, value: float | None = None) -> float:
    """How much a signal says that the item was liked, in [0, 1].

    Args:
        signal: its kind.
        value: stars of a rating, seconds of a dwell; nothing for the others.

    Raises:
        DataError: the value is missing, not a number, or out of range.

    >>> liking(Signal.RATING, 4.5), liking(Signal.RATING, 3.0), liking(Signal.CLICK), liking(Signal.DWELL, 15.0)
    (1.0, 0.0, 1.0, 0.25)
    """
    if signal is Signal.CLICK:
        return 1.0
    if signal is Signal.SKIP:
        return 0.0
    if value is None or not math.isfinite(value) or value < 0:
        raise DataError(f"a {signal.value} has the value {value}; give a number from 0 up")
    if signal is Signal.DWELL:
        return min(1.0, value / _LONG_DWELL_S)
    if value > _BEST_RATING:
        raise DataError(f"a rating is {value}; it must lie in 0 to {_BEST_RATING:.0f}")
    return 1.0 if value >= _LIKED_FROM else 0.0


def event_of(user: str, item: str, at: datetime, signal: Signal, value: float | None = None) -> Event:
    """The event that a signal is.

    Raises:
        DataError: one of them breaks its rule.
    """
    return Event(user=user, item=item, at=at, liked=liking(signal, value))
