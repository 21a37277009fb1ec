"""Cron lines, with cron's own meaning of the weekdays."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from perennial.continual.errors import ConfigurationError

__all__ = ["next_time"]

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def next_time(line: str, moment: datetime) -> datetime:
    """The first time after `moment` that a five-field cron line names, in UTC.

    Weekdays count from Sunday, 0 and 7 both being Sunday; APScheduler, which does the arithmetic, counts from Monday.

    Raises:
        ConfigurationError: the line cannot be read or names a day that never comes.

    >>> next_time("30 2 * * 0", datetime(2026, 3, 2, tzinfo=UTC)).isoformat()
    '2026-03-08T02:30:00+00:00'
    """
    fire_time: datetime | None = _trigger(line).get_next_fire_time(None, moment + timedelta(microseconds=1))
    if fire_time is None:
        raise ConfigurationError(f"cron line {line!r} names a day that never comes; e.g. '30 2 * * mon'")
    return fire_time.astimezone(UTC)


def _trigger(line: str) -> Any:
    from apscheduler.triggers.cron import CronTrigger

    parts = line.split()
    if len(parts) != 5:
        raise ConfigurationError(f"cron line {line!r} has {len(parts)} fields; it needs 5, e.g. '30 2 * * mon'")
    try:
        parts[4] = ",".join(_weekdays(part) for part in parts[4].lower().split(","))
        return CronTrigger.from_crontab(" ".join(parts), timezone=UTC)
    except ValueError as error:
        raise ConfigurationError(f"cron line {line!r} cannot be read: {error}; e.g. '30 2 * * mon'") from error


def _weekdays(part: str) -> str:
    """Spell numbered weekdays by name; a range becomes a list, because it may pass Sunday."""
    span, _, step = part.partition("/")
    if not re.fullmatch(r"\d(-\d)?", span):
        return part
    first, _, last = span.partition("-")
    end = int(last or (6 if step else first))
    if not int(first) <= end <= 7:
        raise ValueError(f"weekday {part} must lie in 0-7")
    return ",".join(dict.fromkeys(_DAYS[day % 7] for day in range(int(first), end + 1, int(step or 1))))
