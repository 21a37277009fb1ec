"""Lists: the last click counts at once, rules hold, cold items get places, each place says why and how likely."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking import (
    Ask,
    Blend,
    Bounds,
    Event,
    Exploration,
    GramSettings,
    Item,
    ItemGram,
    ItemTexts,
    Profile,
    Recommender,
    Signal,
    event_of,
    liking,
    measure_exposure,
    profile_words,
)
from tests.unit.learning.ranking.town import NOON, catalogue, events

ITEMS = catalogue()


def made(items: list[Item] | None = None, **choices: object) -> Recommender:
    gram = ItemGram()
    gram.add(events())
    texts = ItemTexts.of(items or ITEMS)
    solved = gram.solve(GramSettings(ridge=5.0, text=2.0, texts=texts))
    return Recommender(solved, items or ITEMS, texts=texts, **choices)  # type: ignore[arg-type]


def fond(*items: str, user: str = "new") -> Profile:
    state = Profile(user=user)
    for step, item in enumerate(items):
        state = state.after(Event(user=user, item=item, at=NOON + timedelta(days=1, minutes=step)))
    return state


def taste(items: tuple[str, ...]) -> float:
    """The share of even items: those of gardens."""
    return float(np.mean([int(item[1:]) % 2 == 0 for item in items]))


def test_the_next_list_follows_the_last_click_without_a_training() -> None:
    model = made()
    gardener = fond("i00", "i02")
    assert taste(model.rank(Ask(count=8), gardener).items) == 1.0
    changed = gardener.after(Event(user="new", item="i05", at=NOON + timedelta(days=2)))
    changed = changed.after(Event(user="new", item="i07", at=NOON + timedelta(days=2, minutes=1)))
    assert taste(model.rank(Ask(count=8), changed).items) < 1.0


def test_seen_blocked_withheld_and_ended_items_are_never_shown() -> None:
    gone = [replace(item, offered_until=NOON) if item.name == "i08" else item for item in ITEMS]
    soon = [replace(item, offered_from=NOON + timedelta(days=9)) if item.name == "i10" else item for item in gone]
    foreign = [replace(item, language="de") if item.name == "i12" else item for item in soon]
    state = fond("i00", "i02").block("i04")
    ask = Ask(count=40, at=NOON + timedelta(days=1), withheld=frozenset({"i06"}), language="en")
    shown = made(foreign).rank(ask, state).items
    assert set(shown) == {item.name for item in ITEMS} - {"i00", "i02", "i04", "i06", "i08", "i10", "i12"}
    assert len(set(shown)) == len(shown)
    only = made().rank(Ask(candidates=frozenset({"i01", "i04", "i09", "unheard of"})), state).items
    assert set(only) == {"i01", "i09"}


def test_items_that_nobody_liked_are_ranked_by_their_texts() -> None:
    cold = frozenset(f"i{n}" for n in range(30, 40))
    for blend in (Blend(), Blend(text=0.5)):
        shown = made(blend=blend).rank(Ask(candidates=cold), fond("i00", "i02", "i04")).items
        assert len(shown) == 10
        for near, far in (("i30", "i35"), ("i32", "i37"), ("i34", "i39")):  # of one kind, of the user's taste or not
            assert shown.index(near) < shown.index(far)


@pytest.mark.slow
def test_places_are_lent_to_unknown_items_with_their_true_chances() -> None:
    model = made(exploration=Exploration(share=0.3, most=2, among=4, known_from=1.0))
    state, rng = fond("i00"), np.random.default_rng(0)
    lists = [model.rank(Ask(count=5), state, rng) for _ in range(4000)]
    assert max(sum(placed.explored for placed in one.places) for one in lists) == 2
    firsts = [one.places[0] for one in lists]
    propensities = {placed.item: placed.propensity for placed in firsts}
    assert sum(propensities.values()) == pytest.approx(1.0)
    for item, chance in propensities.items():
        share = np.mean([placed.item == item for placed in firsts])
        assert share == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / 4000) + 1e-9)
    assert all(placed.reason == "new here" for placed in firsts if placed.explored)
    still = model.rank(Ask(count=5), state)
    assert still == model.rank(Ask(count=5), state)
    assert all(placed.propensity == 1.0 and not placed.explored for placed in still.places)


def test_a_list_keeps_its_bounds() -> None:
    twins = [*ITEMS, *(replace(ITEMS[4], name=f"i{n}") for n in range(40, 48))]
    free = made(twins, blend=Blend(text=5.0)).rank(Ask(count=10), fond("i09", "i14")).items
    alike = {"i04", *(f"i{n}" for n in range(40, 48))}
    assert len(alike & set(free)) > 2
    bounds = Bounds(alike=0.99, most_alike=2)
    bound = made(twins, blend=Blend(text=5.0), bounds=bounds).rank(Ask(count=10), fond("i09", "i14")).items
    assert len(alike & set(bound)) <= 2
    assert len(bound) == 10
    model = made(blend=Blend(popular=100.0))
    first = model.rank(Ask(), fond("i00")).items[0]
    calmer = made(blend=Blend(popular=100.0), bounds=Bounds(most_popular=0))
    assert first not in calmer.rank(Ask(count=40), fond("i00")).items


def test_reasons_name_what_they_stand_on() -> None:
    model = made()
    reasons = {placed.reason for placed in model.rank(Ask(count=5), fond("i00", "i02")).places}
    assert reasons <= {"because of i00", "because of i02"}
    assert model.rank(Ask(count=1), Profile(user="nobody")).places[0].reason == "popular"
    profile = Profile(user="nobody").want("pumps", 1.0)
    assert model.rank(Ask(count=1), profile).places[0].reason == "about pumps"
    assert model.rank(Ask(count=1, context="autumn"), Profile(user="nobody")).places[0].reason == "about autumn"


def test_a_profile_is_read_and_changed_in_words_and_leaves_whole() -> None:
    state = fond("i00", "i02", "i04").want("pumps", 2.0).block("i09")
    words = profile_words(state, ItemTexts.of(ITEMS))
    assert next(iter(words)) == "pumps"
    assert "garden" in words
    assert "engine" not in words
    assert Profile.of(json.loads(json.dumps(state.document()))) == state
    assert state.want("pumps", 0.0).wanted == {}
    away = made().rank(Ask(count=1), Profile(user="n").want("garden", -1.0)).items
    assert taste(away) == 0.0
    with pytest.raises(DataError):
        Profile.of({"user": "u"})
    with pytest.raises(DataError, match="came to the profile of"):
        state.after(Event(user="somebody", item="i00", at=NOON))


@pytest.mark.parametrize(
    ("signal", "value", "expected"),
    [
        (Signal.CLICK, None, 1.0),
        (Signal.SKIP, None, 0.0),
        (Signal.RATING, 4.0, 1.0),
        (Signal.RATING, 3.5, 0.0),
        (Signal.DWELL, 30.0, 0.5),
        (Signal.DWELL, 600.0, 1.0),
    ],
)
def test_a_signal_says_how_much_was_liked(signal: Signal, value: float | None, expected: float) -> None:
    assert liking(signal, value) == expected
    assert event_of("u", "i00", NOON, signal, value).liked == expected


@pytest.mark.parametrize(
    ("signal", "value"), [(Signal.RATING, None), (Signal.RATING, 7.0), (Signal.DWELL, -1.0), (Signal.DWELL, np.nan)]
)
def test_a_signal_without_its_value_is_refused(signal: Signal, value: float | None) -> None:
    with pytest.raises(DataError):
        liking(signal, value)


def test_exposure_tells_few_from_many() -> None:
    liked = {f"i{n}": float(200 - n) for n in range(200)} | {"cold": 0.0}
    narrow = measure_exposure([("i0", "i1")] * 50, liked)
    wide = measure_exposure([(f"i{n}",) for n in range(200)] + [("cold",)], liked)
    assert (narrow.popular_share, narrow.coverage) == (1.0, 2 / 201)
    assert (wide.coverage, wide.gini) == (1.0, pytest.approx(0.0))
    assert wide.unknown_share == 1 / 201
    assert narrow.gini > 0.98
    with pytest.raises(DataError, match="not in the catalogue"):
        measure_exposure([("strange",)], liked)


def test_words_weigh_what_is_wanted_and_unknown_ones_say_nothing() -> None:
    texts = ItemTexts.of(catalogue())
    wanted = {"roses": 2.0, "pumps": -1.0, "unheard of": 5.0, "": 1.0, "\uffff": 1.0}
    weights = np.array([wanted.get(word, 0.0) for word in texts.vocabulary], dtype=np.float32)
    assert np.array_equal(texts.about(wanted), texts.rows @ weights)
    assert texts.about(wanted).any()
