"""What is said of a mix of answers: whether it returns, with which period, and what cannot be told yet."""

from datetime import UTC, datetime, timedelta

import pytest

from perennial.ops.watching.mixes import MixHistory

_NOW = datetime(2026, 3, 9, 20, tzinfo=UTC)


def _history(hours: float, *like: float) -> MixHistory:
    """Of windows that reach back so many hours, and of which those so many hours ago were alike."""
    times = tuple(_NOW - timedelta(hours=ago) for ago in like)
    return MixHistory(moved=True, compared=40, like=times, since=_NOW - timedelta(hours=hours), at=_NOW)


@pytest.mark.parametrize(
    ("hours", "unseen"), [(5.0, ("a day", "a week")), (30.0, ("a week",)), (200.0, ())], ids=["hours", "day", "weeks"]
)
def test_until_a_period_was_seen_once_it_says_that_it_cannot_tell(hours: float, unseen: tuple[str, ...]) -> None:
    history = _history(hours)
    assert history.unseen == unseen
    assert ("cannot be told yet" in history.sentence) is bool(unseen)


@pytest.mark.parametrize(
    ("like", "phases"),
    [((24.5,), ("a day",)), ((48.0, 3.0), ("a day",)), ((168.2,), ("a day", "a week")), ((12.0, 0.5), ())],
)
def test_a_mix_of_the_same_time_of_day_or_week_is_told_as_such(
    like: tuple[float, ...], phases: tuple[str, ...]
) -> None:
    history = _history(200.0, *like)
    assert history.same_phase == phases
    assert "a mix that returns" in history.sentence
    assert ("at the same time of" in history.sentence) is bool(phases)
