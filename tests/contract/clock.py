"""The ledger's time in its tests."""

from datetime import UTC, datetime, timedelta

__all__ = ["Clock", "at"]

_T0 = datetime(2026, 6, 1, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: datetime = _T0) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def at(hours: float) -> datetime:
    """A moment, in hours after the first."""
    return _T0 + timedelta(hours=hours)
