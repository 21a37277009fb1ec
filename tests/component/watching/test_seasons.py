"""Traffic that turns with the day: what returns at the same hours is no drift, and what is new at them is."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from perennial.continual.drift.compare import DriftComparison, Season
from perennial.ops.ledger import DriftReportRow
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.watching.mixes import mix_history
from perennial.ops.watching.watcher import Watcher
from tests.component.town import Town

pytestmark = pytest.mark.component

MakeTown = Callable[..., Town]
_WINDOWS = 3  # each half of a day


def half_day(town: Town, *, new: float) -> list[str]:
    """Twelve hours begin with three windows' requests, a share of them about what nobody knows; what was said."""
    begun = town.now
    town.ask(_WINDOWS * 100, batch=50, new=new)
    town.now = begun + timedelta(hours=12)
    signals = Watcher(town.ledger, town.workspace, "intent", town.traffic, EventFeed()).watch()
    return ["alert" if signal.alert else signal.level.value for signal in signals]


def reports(town: Town, count: int) -> list[tuple[DriftReportRow, DriftComparison]]:
    """The newest reports, oldest first."""
    rows = sorted(town.ledger.drift_reports("intent", limit=count), key=lambda row: row.id or 0)
    return [(row, DriftComparison.from_json(row.payload["comparison"])) for row in rows]


def test_what_comes_with_the_night_alarms_in_the_first_one_alone_and_what_is_new_alarms_again(town: Town) -> None:
    half_day(town, new=0.0)
    assert "alert" in half_day(town, new=0.4)
    first = reports(town, _WINDOWS)
    assert {comparison.season for _, comparison in first} == {Season.UNTOLD}
    assert "cannot be told yet: this version has not seen one" in mix_history(town.ledger, first[0][0]).sentence
    for _ in range(2):
        half_day(town, new=0.0)
        assert "alert" not in half_day(town, new=0.4)
        night = reports(town, _WINDOWS)
        assert {comparison.season for _, comparison in night} == {Season.RETURNING}
        assert not any(comparison.drifted for _, comparison in night)
        assert "same hours of a day before" in mix_history(town.ledger, night[0][0]).sentence
    assert "alert" in half_day(town, new=0.4)  # the night's requests by day


def test_an_outage_at_the_same_hour_the_day_before_leaves_the_days_before_it(town: Town) -> None:
    half_day(town, new=0.0)
    half_day(town, new=0.4)
    town.now += timedelta(hours=24)  # nobody asked
    half_day(town, new=0.0)
    assert "alert" not in half_day(town, new=0.4)
    assert {comparison.season for _, comparison in reports(town, _WINDOWS)} == {Season.RETURNING}


def test_a_change_that_lasts_is_no_season_the_day_after(town: Town) -> None:
    for _ in range(2):
        half_day(town, new=0.0)
    said = [word for _ in range(6) for word in half_day(town, new=0.4)]
    assert said.count("alert") >= 2
    assert "ok" not in said[1:]
    assert not any(comparison.excused for _, comparison in reports(town, 6 * _WINDOWS))


def test_a_change_that_lasts_is_no_season_although_some_windows_are_like_the_reference(town: Town) -> None:
    for _ in range(2):
        half_day(town, new=0.0)
    for _ in range(6):
        begun = town.now
        town.ask(200, batch=50, new=0.4)
        town.ask(100, batch=50, new=0.0)  # a window that by chance holds nothing new
        town.now = begun + timedelta(hours=12)
        Watcher(town.ledger, town.workspace, "intent", town.traffic, EventFeed()).watch()
    found = [comparison for _, comparison in reports(town, 6 * _WINDOWS)]
    assert not any(comparison.excused for comparison in found)
    assert sum(comparison.drifted for comparison in found) >= 10


def test_with_a_declared_day_the_first_night_raises_nothing_and_says_so(make_town: MakeTown) -> None:
    town = make_town(drift={"seasons": "day"})
    said = [*half_day(town, new=0.0), *half_day(town, new=0.4)]
    assert set(said) == {"ok"}
    assert all(comparison.season is Season.UNTOLD and comparison.excused for _, comparison in reports(town, _WINDOWS))
    half_day(town, new=0.0)
    assert set(half_day(town, new=0.4)) == {"ok"}
    assert "alert" in half_day(town, new=0.4)


def test_without_seasons_each_night_is_drift(make_town: MakeTown) -> None:
    town = make_town(drift={"seasons": "none"})
    nights = []
    for _ in range(2):
        half_day(town, new=0.0)
        nights.append(half_day(town, new=0.4))
    assert all("alert" in night for night in nights)
