"""When of the day and of the week something is published: what comes at that time anyway tells of no event."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

__all__ = ["HOURS", "hour_of", "orders_within_seasons", "weekday_of"]

HOURS = 24
_DAYS_OF_HOURS, _DAYS_OF_WEEKDAYS = timedelta(days=3), timedelta(days=14)  # fewer tell no season
_LEAST = 20  # headlines of a season that can change their places; fewer go with the whole day


def hour_of(at: datetime) -> int:
    """The hour of the day; a time without minutes and seconds at midnight is a date, whose hour nobody knows.

    >>> from datetime import UTC
    >>> hour_of(datetime(2026, 1, 30, 9, 59, tzinfo=UTC)), weekday_of(datetime(2026, 1, 30, 9, 59, tzinfo=UTC))
    (9, 4)
    """
    return at.hour


def weekday_of(at: datetime) -> int:
    """The day of the week, Monday 0."""
    return at.weekday()


def orders_within_seasons(times: Sequence[datetime], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """An order by chance in which what was published at an hour of the day stays at that hour, on another day.

    Weekdays stay weekdays where the times span two weeks; where they span less than three days, anything may come at
    any time.
    """
    span = max(times) - min(times) if times else timedelta(0)
    seasons = np.zeros(len(times), dtype=np.int64)
    if span >= _DAYS_OF_HOURS:
        seasons += np.array([hour_of(at) for at in times])
    if span >= _DAYS_OF_WEEKDAYS:
        seasons += HOURS * np.array([weekday_of(at) for at in times])
    seen, counts = np.unique(seasons, return_counts=True)
    rare = np.isin(seasons, seen[counts < _LEAST])
    seasons[rare] = -1
    order = np.arange(len(times))
    for season in np.unique(seasons):
        places = np.flatnonzero(seasons == season)
        order[places] = places[rng.permutation(len(places))]
    return order
