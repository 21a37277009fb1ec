"""The sums behind recommendations: exact whatever the order, the batches, the shards and what came and went."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.ranking import Event, GramSettings, ItemGram, ItemTexts, pair_sums
from tests.unit.learning.ranking.town import NOON, catalogue, events

pytestmark = pytest.mark.slow

NAMES = [item.name for item in catalogue()]
SETTINGS = GramSettings(ridge=5.0, text=2.0, texts=ItemTexts.of(catalogue()))
every_nearness = pytest.mark.parametrize("nearness", [1.0, 0.97, 0.5])


def following(gram: ItemGram) -> dict[str, float]:
    found = gram.following({"i00": 1.0, "i03": 0.5})
    return {name: float(found[place]) for name, place in gram.places.items() if found[place]}


def same(one: ItemGram, other: ItemGram) -> bool:
    solved = [gram.solve(SETTINGS) for gram in (one, other)]
    return (
        one.users == other.users
        and one.items == other.items
        and one.rows == other.rows
        and bool((one.pairs(NAMES) == other.pairs(NAMES)).all())
        and bool((one.sequels(NAMES) == other.sequels(NAMES)).all())
        and following(one) == pytest.approx(following(other), rel=1e-12)
        and bool((solved[0].weights == solved[1].weights).all())
        and bool((solved[0].support == solved[1].support).all())
    )


def gram_of(rows: list[Event], nearness: float = 0.97) -> ItemGram:
    gram = ItemGram(nearness=nearness)
    gram.add(rows)
    return gram


@every_nearness
def test_order_and_batches_leave_no_trace(nearness: float) -> None:
    rows = events()
    whole, singly = gram_of(rows, nearness), ItemGram(nearness=nearness)
    for place in np.random.default_rng(1).permutation(len(rows)):
        singly.add([rows[place]])
    assert same(whole, singly)


@every_nearness
def test_a_user_who_is_erased_was_never_there(nearness: float) -> None:
    rows = events()
    alone = Event(user="u03", item="i39", at=NOON)  # an item that only this user liked
    gram = gram_of([*rows, alone], nearness)
    assert "i39" in gram.items
    assert gram.erase("u03") == 1
    assert same(gram, gram_of([row for row in rows if row.user != "u03"], nearness))
    assert gram.erase("u03") == 0
    assert not gram.history("u03")


@every_nearness
def test_events_taken_back_were_never_there(nearness: float) -> None:
    rows = events()
    gram = gram_of(rows, nearness)
    assert gram.remove(rows[::3]) == len(gram.users)
    assert gram.remove(rows[::3]) == 0
    assert same(gram, gram_of([row for place, row in enumerate(rows) if place % 3], nearness))


@every_nearness
def test_shards_of_users_merge_into_the_whole(nearness: float) -> None:
    rows = events()
    shards = [gram_of([row for row in rows if int(row.user[1:]) % 3 == part], nearness) for part in range(3)]
    shards[2].merge(shards[0])
    shards[2].merge(shards[1])
    assert same(shards[2], gram_of(rows, nearness))
    shards[2].add([Event(user="u00", item="i35", at=NOON + timedelta(days=9))])
    assert [event.item for event in shards[2].history("u00")][-1] == "i35"


def test_shards_that_share_a_user_or_weigh_otherwise_do_not_merge() -> None:
    gram = gram_of(events(4))
    with pytest.raises(DataError, match="share 1 rows"):
        gram.merge(gram_of(events(1)))
    with pytest.raises(DataError, match="different nearness"):
        gram.merge(gram_of(events(9)[40:], 0.5))
    assert same(gram, gram_of(events(4)))


def test_an_event_that_comes_again_changes_nothing_and_a_later_one_moves_it() -> None:
    rows = events()
    gram = gram_of(rows)
    assert gram.add(rows) == 0
    assert same(gram, gram_of(rows))
    later = replace(rows[0], at=NOON + timedelta(days=3))
    assert gram.add([later]) == 1
    assert same(gram, gram_of([later, *rows[1:]]))


def test_whoever_clicks_on_everything_costs_bounded_memory_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A liking pairs with the thousand before it; what waits is settled on the way; an erasure takes all of it."""
    monkeypatch.setattr(pair_sums, "_MOST", 100_000)
    clicks = [Event(user="robot", item=f"x{n:04}", at=NOON + timedelta(seconds=n)) for n in range(1_600)]
    with_robot, without = gram_of(events(), 1.0), gram_of(events(), 1.0)
    with_robot.add(clicks[:700])
    with_robot.add(clicks[700:])
    sums = with_robot.pairs([clicks[0].item, clicks[1_000].item, clicks[1_001].item])
    assert sums[0].tolist() == [1.0, 1.0, 0.0]
    shuffled = gram_of([*clicks[::-1], *events()], 1.0)
    assert np.array_equal(shuffled.pairs(shuffled.items), with_robot.pairs(with_robot.items))
    with_robot.erase("robot")
    assert with_robot.items == without.items
    assert np.array_equal(with_robot.pairs(without.items), without.pairs(without.items))
    assert np.array_equal(with_robot.sequels(without.items), without.sequels(without.items))


def test_items_liked_close_together_weigh_more_than_others() -> None:
    a, b, c = (Event(user="u", item=name, at=NOON + timedelta(hours=n)) for n, name in enumerate("abc"))
    pairs = gram_of([a, b, c], 0.5).pairs(["a", "b", "c"])
    assert pairs.tolist() == [[1.0, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 1.0]]


def test_what_comes_soon_after_counts_at_once_and_more_than_what_came_before() -> None:
    gram = gram_of(events())
    gram.sequels(NAMES)  # settles what has come so far
    for user in range(40):
        steps = ("i36", "i37", "i38")
        gram.add(Event(user=f"v{user}", item=item, at=NOON + timedelta(hours=n)) for n, item in enumerate(steps))
    found = following(gram) | {
        name: float(gram.following({"i37": 1.0})[place])
        for name, place in gram.places.items()
        if name in ("i36", "i38")
    }
    assert found["i38"] > 1.9 * found["i36"] > 0
    for user in range(40):
        gram.erase(f"v{user}")
    assert same(gram, gram_of(events()))


def test_what_was_seen_and_not_liked_is_known_and_adds_nothing() -> None:
    gram = gram_of(events())
    gram.add([Event(user="u00", item="i38", at=NOON + timedelta(days=2), liked=0.0)])
    assert gram.history("u00")[-1].item == "i38"
    assert "i38" not in gram.items
    assert (gram.pairs(NAMES) == gram_of(events()).pairs(NAMES)).all()


def test_the_weights_are_those_of_the_regression_of_each_item_on_all_others() -> None:
    gram, texts = gram_of(events()), ItemTexts.of(catalogue())
    solved = gram.solve(SETTINGS)
    matrix = gram.pairs(solved.names) + SETTINGS.text * texts.among(range(len(NAMES)))
    for place in (0, 7, 33):
        others = [other for other in range(len(NAMES)) if other != place]
        ridge = matrix[np.ix_(others, others)] + SETTINGS.ridge * np.eye(len(others))
        weights = np.linalg.solve(ridge, matrix[others, place])
        assert solved.weights[others, place] == pytest.approx(weights, abs=1e-5)
        assert solved.weights[place, place] == 0.0


def test_the_structure_holds_the_items_that_most_liked() -> None:
    gram = gram_of(events())
    solved = gram.solve(replace(SETTINGS, most_items=12))
    own = dict(zip(NAMES, np.diag(gram.pairs(NAMES)), strict=True))
    assert len(solved.names) == 12
    assert min(own[name] for name in solved.names) >= max(own[name] for name in NAMES if name not in solved.names)


def test_sums_are_kept_and_read_again(tmp_path: Path) -> None:
    gram = gram_of([*events(), Event(user="u01", item="i38", at=NOON, liked=0.0)])
    gram.erase("u05")
    gram.save(tmp_path / "sums.safetensors")
    kept = ItemGram.load(tmp_path / "sums.safetensors")
    assert same(kept, gram)
    assert [kept.history(user) for user in kept.users] == [gram.history(user) for user in gram.users]
    assert b"u05" not in (tmp_path / "sums.safetensors").read_bytes()


def test_without_texts_the_items_are_those_that_somebody_liked() -> None:
    gram = gram_of(events())
    assert gram.solve(GramSettings(ridge=5.0)).names == gram.items


@pytest.mark.parametrize("nearness", [0.0, 1.1, -1.0])
def test_a_nearness_that_is_none_is_refused(nearness: float) -> None:
    with pytest.raises(ConfigurationError):
        ItemGram(nearness=nearness)
    with pytest.raises(ConfigurationError):
        GramSettings(ridge=nearness - 1.1)
