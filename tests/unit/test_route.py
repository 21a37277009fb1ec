"""Route changes are pure functions of a route; these are their laws."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.continual.errors import Refused
from perennial.continual.records import Route
from perennial.continual.route import (
    corrected,
    pinned,
    promoted,
    rolled_back,
    turned_away,
    while_champion,
    with_challenger,
    without_challenger,
)

START = Route(model="intent", epoch=3, champion=2, previous=1, resident=(1, 2))


def test_a_challenger_joins_without_taking_requests() -> None:
    after = with_challenger(3, 0.0, resident=2)(START)
    assert (after.champion, after.challenger, after.share) == (2, 3, 0.0)
    assert set(after.resident) == {1, 2, 3}


def test_promotion_keeps_the_previous_champion_resident() -> None:
    after = promoted(3, resident=2)(with_challenger(3, 0.2, resident=2)(START))
    assert (after.champion, after.previous, after.challenger, after.share) == (3, 2, None, 0.0)
    assert after.resident == (2, 3)


def test_promotion_of_a_version_that_is_not_loaded_is_refused() -> None:
    with pytest.raises(Refused, match=r"version 9 of intent is not loaded \(resident: \[1, 2\]\)"):
        promoted(9, resident=2)(START)


def test_a_corrected_copy_takes_its_champions_place_and_a_rollback_leads_where_it_led_before() -> None:
    after = corrected(3, of=2, resident=2)(pinned(3)(START))
    assert (after.champion, after.previous, after.resident) == (3, 1, (1, 2, 3))
    assert corrected(3, of=2, resident=2)(after) == after
    beside = corrected(3, of=9, resident=2)(pinned(3)(START))
    assert (beside.champion, beside.previous, beside.resident) == (3, 2, (2, 3))
    with pytest.raises(Refused, match="version 9 of intent is not loaded"):
        corrected(9, of=2, resident=2)(START)


def test_rollback_swaps_champion_and_previous_and_needs_no_load() -> None:
    after = rolled_back()(START)
    assert (after.champion, after.previous) == (1, 2)
    assert after.resident == START.resident


def test_a_version_that_was_turned_away_is_not_what_the_next_rollback_leads_to() -> None:
    after = turned_away(2, to=1)(START)
    assert (after.champion, after.previous) == (1, None)
    assert turned_away(9, to=1)(START) == START  # somebody has put another version in its place


def test_a_version_that_was_turned_away_keeps_no_share() -> None:
    both = replace(START, challenger=2, share=0.05)
    after = turned_away(2, to=1)(both)
    assert (after.champion, after.challenger, after.share) == (1, None, 0.0)


def test_a_champion_is_no_challenger_to_itself() -> None:
    assert with_challenger(2, 0.05, resident=2)(START) == START


def test_a_change_for_one_champion_leaves_another_alone() -> None:
    change = while_champion({2, 3}, rolled_back())
    assert change(START).champion == 1
    other = replace(START, champion=1, previous=None)
    assert change(other) == other


def test_rollback_without_a_previous_champion_is_refused() -> None:
    with pytest.raises(Refused, match="no previous champion"):
        rolled_back()(Route(model="intent", epoch=1, champion=1, resident=(1,)))


def test_an_aborted_challenger_is_unloaded_and_a_champion_never() -> None:
    joined = with_challenger(3, 0.5, resident=2)(START)
    after = without_challenger(3)(joined)
    assert (after.challenger, after.share, after.resident) == (None, 0.0, (1, 2))
    assert without_challenger(2)(START) == START


@given(st.lists(st.tuples(st.sampled_from(["join", "promote", "back", "drop", "pin"]), st.integers(1, 6)), max_size=25))
def test_any_sequence_of_changes_keeps_champion_and_previous_resident(steps: list[tuple[str, int]]) -> None:
    route = START
    for kind, version in steps:
        change = {
            "join": with_challenger(version, 0.1, resident=2),
            "promote": promoted(version, resident=2),
            "back": rolled_back(),
            "drop": without_challenger(version),
            "pin": pinned(version),
        }[kind]
        if kind == "join" and version == route.previous:
            continue
        try:
            route = change(route)
        except Refused:
            continue
        # Route checks itself that champion, previous and challenger are resident
        assert route.champion in route.resident
        assert route.challenger != route.champion
