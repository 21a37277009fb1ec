"""Figures of groups against counting by hand, and intervals that hold what they promise."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from perennial.continual.bounds import BoundedFigure
from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.fairness import FairnessLimit, slices_of
from perennial.continual.fairness.slices import FIGURES, Counted, Gap
from perennial.continual.intervals import Interval, wilson

Rows = tuple[list[str | None], list[str], list[str]]


def drawn(rng: np.random.Generator, rows: int, groups: int = 3, classes: int = 4) -> Rows:
    who = [None if number == groups else f"g{number}" for number in rng.integers(0, groups + 1, rows).tolist()]
    labels, given = ([f"c{n}" for n in rng.integers(0, classes, rows).tolist()] for _ in range(2))
    return who, labels, given


def by_hand(figure: str, label: str, pairs: Sequence[tuple[str, str]]) -> float | None:
    """One class against the rest, by definition."""
    if figure == "accuracy":
        counted, of = [truth == given for truth, given in pairs], pairs
    elif figure == "selection_rate":
        counted, of = [given == label for _, given in pairs], pairs
    elif figure == "false_positive_rate":
        of = [pair for pair in pairs if pair[0] != label]
        counted = [given == label for _, given in of]
    else:
        of = [pair for pair in pairs if pair[0] == label]
        counted = [given != label for _, given in of]
    return sum(counted) / len(of) if of else None


@pytest.mark.parametrize("seed", range(3))
def test_rates_and_widest_gaps_are_what_counting_by_hand_gives(seed: int) -> None:
    who, labels, given = drawn(np.random.default_rng(seed), 300)
    found = slices_of("region", who, labels, given, least_rows=1)
    assert found.rows + found.unknown == 300
    assert found.unknown == who.count(None) > 0
    groups = sorted({name for name in who if name is not None})
    pairs = {name: [(labels[n], given[n]) for n in range(300) if who[n] == name] for name in groups}
    for each in found.groups:
        assert each.accuracy.mean == pytest.approx(by_hand("accuracy", "", pairs[each.group]))
    for rate in found.rates:
        for figure in FIGURES[1:]:
            interval, right = getattr(rate, figure), by_hand(figure, rate.label, pairs[rate.group])
            assert (interval is None) == (right is None)
            assert interval is None or interval.mean == pytest.approx(right)
    for gap in found.gaps:
        spreads = []
        for label in [gap.label] if gap.figure == "accuracy" else sorted(set(labels)):
            shares = [share for name in groups if (share := by_hand(gap.figure, label or "", pairs[name])) is not None]
            spreads.append(max(shares) - min(shares))
        assert gap.difference.mean == pytest.approx(max(spreads))
        assert gap.difference.low <= gap.difference.mean <= gap.difference.high


@pytest.mark.parametrize("by_ratio", [False, True])
@pytest.mark.parametrize("surest", [False, True])
def test_the_pair_that_is_found_in_arrays_is_the_one_that_looking_at_each_finds(by_ratio: bool, surest: bool) -> None:
    for seed in range(12):
        counted = Counted.of(*drawn(np.random.default_rng(seed), 150, groups=6))
        for figure in FIGURES:
            hits = counted.hits(figure)
            places = [
                (column, *pair)
                for column in range(hits[1].shape[1])
                for pair in combinations(np.flatnonzero(hits[1][:, column] >= 5).tolist(), 2)
            ]
            gaps = [counted._gap(figure, hits, place, 1 - 0.05 / len(places), len(places)) for place in places]
            found = counted.widest(figure, by_ratio=by_ratio, surest=surest, least_rows=5)
            assert found in gaps
            furthest = max(_apart(gap, by_ratio=by_ratio, surest=surest) for gap in gaps)
            assert _apart(found, by_ratio=by_ratio, surest=surest) == pytest.approx(furthest, abs=1e-12)


def _apart(gap: Gap, *, by_ratio: bool, surest: bool) -> float:
    if by_ratio:
        return -math.inf if gap.ratio is None else -(gap.ratio.high if surest else gap.ratio.mean)
    return gap.difference.low if surest else gap.difference.mean


def test_an_attribute_of_very_many_values_is_told_of_its_largest_groups() -> None:
    """As of a postcode: all are compared, and what is shown stays readable."""
    who, labels, given = drawn(np.random.default_rng(0), 8_000, groups=900, classes=40)
    who[:400] = ["北方"] * 400
    found = slices_of("postcode", who, labels, given, least_rows=5)
    assert len(found.groups) == 901
    assert (len({rate.group for rate in found.rates}), found.without_rates) == (50, 851)
    assert found.gaps[0].pairs > 100_000
    assert [each.group for each in found.largest(1)] == ["北方"]
    assert len(found.rates) == 50 * len({*labels, *given})


def test_the_order_of_rows_changes_nothing_and_unknown_ones_are_in_no_figure() -> None:
    rng = np.random.default_rng(5)
    who, labels, given = drawn(rng, 200)
    order = rng.permutation(200).tolist()
    again = slices_of("r", *([part[n] for n in order] for part in (who, labels, given)), least_rows=1)
    assert again == slices_of("r", who, labels, given, least_rows=1)
    known = [n for n in range(200) if who[n] is not None]
    alone = slices_of("r", *([part[n] for n in known] for part in (who, labels, given)), least_rows=1)
    assert (alone.groups, alone.rates, alone.gaps) == (again.groups, again.rates, again.gaps)


def test_a_group_of_few_rows_is_shown_and_not_compared() -> None:
    who, labels = ["n"] * 40 + ["s"] * 29, ["a"] * 69
    found = slices_of("r", who, labels, ["a"] * 40 + ["b"] * 29)
    assert [(each.group, each.compared) for each in found.groups] == [("n", True), ("s", False)]
    assert found.gaps == ()
    assert slices_of("r", who, labels, ["a"] * 40 + ["b"] * 29, least_rows=29).gaps[0].difference.mean == 1.0


def test_equal_groups_rarely_seem_to_differ_however_many_are_compared() -> None:
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(200):
        who = [f"g{n}" for n in rng.integers(0, 6, 900).tolist()]
        given = ["a" if chance < 0.8 else "b" for chance in rng.random(900)]
        gap = Counted.of(who, ["a"] * 900, given).widest("accuracy")
        assert gap is not None
        assert gap.pairs == 15
        wrong += gap.difference.low > 0.0
    assert wrong <= 16  # of 200 at 5%: 16 or more by chance 4% of the time; without the pairs counted, some 80


def test_intervals_of_a_difference_and_of_a_ratio_hold_the_truth() -> None:
    rng, held = np.random.default_rng(3), np.zeros(2)
    for _ in range(300):
        right = rng.random(160) < np.repeat([0.9, 0.6], 80)
        gap = Counted.of(["n"] * 80 + ["s"] * 80, ["a"] * 160, ["a" if r else "b" for r in right]).widest("accuracy")
        assert gap is not None
        assert gap.ratio is not None
        held += gap.difference.low <= 0.3 <= gap.difference.high, gap.ratio.low <= 0.6 / 0.9 <= gap.ratio.high
    assert (held / 300 > 0.92).all(), held / 300


def test_shares_of_none_have_no_ratio_and_of_all_a_bounded_one() -> None:
    none = Counted.of(["n"] * 40 + ["s"] * 40, ["a"] * 80, ["b"] * 80).widest("accuracy")
    assert none is not None
    assert (none.difference.mean, none.ratio) == (0.0, None)
    every = Counted.of(["n"] * 40 + ["s"] * 40, ["a"] * 80, ["a"] * 80).widest("accuracy")
    assert every is not None
    assert every.ratio is not None
    assert 0.85 < every.ratio.low <= every.ratio.mean == 1.0 <= every.ratio.high < 1.15


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="2 groups, 1 labels and 1 answers"):
        slices_of("r", ["n", "s"], ["a"], ["a"])


def test_a_wider_level_gives_a_wider_interval_and_the_default_is_what_it_was() -> None:
    narrow, wide = wilson(20, 50), wilson(20, 50, level=0.999)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert (narrow.level, wide.level) == (0.95, 0.999)
    assert wilson(20, 50, level=0.95) == narrow


WHO = ["n"] * 60 + ["s"] * 60
TRUTH = ["a", "b"] * 60


def answered(wrong_of_south: int) -> list[str]:
    """The truth, but for some rows of the south that get `a`."""
    given = list(TRUTH)
    for place in range(61, 61 + 2 * wrong_of_south, 2):
        given[place] = "a"
    return given


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (FairnessLimit(attribute="r", figure="accuracy_difference", bound=0.1), "accuracy difference between n and s"),
        (
            FairnessLimit(attribute="r", figure="false_positive_rate_difference", bound=0.1, label="a"),
            "false positive rate difference of 'a' between s and n",
        ),
        (FairnessLimit(attribute="r", figure="selection_rate_ratio", bound=0.8), "selection rate ratio of 'b' between"),
    ],
)
def test_a_limit_refuses_what_is_surely_beyond_it_and_nothing_else(limit: FairnessLimit, told: str) -> None:
    broken = limit.measured(WHO, TRUTH, answered(28), TRUTH)
    assert broken is not None
    assert told in (broken.reason or "")
    for harmless in (answered(0), answered(4)):  # none, or too few to be sure of
        figure = limit.measured(WHO, TRUTH, harmless, TRUTH)
        assert figure is not None
        assert figure.reason is None
    nearer = limit.measured(WHO, TRUTH, answered(28), answered(30))
    assert nearer is not None
    assert nearer.reason is None, "refusing what narrows the gap would leave the wider one"
    assert limit.measured(["n"] * 120, TRUTH, TRUTH, TRUTH) is None
    assert limit.measured([None] * 120, TRUTH, TRUTH, TRUTH) is None


def test_two_large_groups_that_are_surely_apart_are_not_hidden_by_a_small_one() -> None:
    who = ["n"] * 400 + ["s"] * 400 + ["few"] * 30
    given = ["a"] * 400 + ["a"] * 300 + ["b"] * 100 + ["a"] * 20 + ["b"] * 10
    widest = Counted.of(who, ["a"] * 830, given).widest("accuracy")
    assert widest is not None
    assert (widest.low_group, widest.high_group) == ("few", "n")
    limit = FairnessLimit(attribute="r", figure="accuracy_difference", bound=0.15)
    figure = limit.measured(who, ["a"] * 830, given, ["a"] * 830)
    assert figure is not None
    assert "between n and s" in (figure.reason or "")


def test_a_limit_on_a_class_that_nobody_has_measures_nothing() -> None:
    limit = FairnessLimit(attribute="r", figure="false_negative_rate_difference", bound=0.1, label="z")
    assert limit.measured(WHO, TRUTH, TRUTH, TRUTH) is None


@pytest.mark.parametrize(("figure", "bound"), [("accuracy", 0.1), ("accuracy_difference", 1.5)])
def test_a_limit_that_means_nothing_is_refused(figure: str, bound: float) -> None:
    with pytest.raises(ConfigurationError, match="the bound lies in"):
        FairnessLimit(attribute="r", figure=figure, bound=bound)


@pytest.mark.parametrize("most", [True, False])
def test_a_bounded_figure_is_broken_from_one_side_only(most: bool) -> None:
    sign = 1.0 if most else -1.0
    value = Interval(mean=0.5 + sign * 0.2, low=0.5 + sign * 0.2 - 0.1, high=0.5 + sign * 0.2 + 0.1)
    fields = {"name": "f", "told": "it", "value": value, "rows": 9, "most": most}
    assert BoundedFigure(champion=None, limit=0.5, **fields).reason is not None
    assert BoundedFigure(champion=0.5 + sign * 0.3, limit=0.5, **fields).reason is None
    assert BoundedFigure(champion=0.5 + sign * 0.1, limit=0.5, **fields).reason is not None
    assert BoundedFigure(champion=None, limit=0.5 + sign * 0.2, **fields).reason is None
    assert math.isclose(value.mean, 0.5 + sign * 0.2)
