"""Figures of each group of people, and how far groups lie apart, with intervals.

Accuracy, selection rate, false positive and false negative rate are what fairlearn's metrics of these names give, one
class against the rest; a gap is its difference or ratio between groups. Intervals are our own: Wilson's of a share,
Newcombe's of a difference, Donner and Zou's of a ratio. A gap of the furthest of many pairs is wide by chance alone, so
its interval has the level that holds for all pairs together (Bonferroni).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.fairness.furthest import furthest
from perennial.continual.intervals import Interval, wilson

__all__ = ["FIGURES", "LEAST_ROWS", "AttributeSlices", "ClassRates", "Counted", "Gap", "GroupFigures", "slices_of"]

Counts = NDArray[np.int64]
LEAST_ROWS = 30  # of a group, or of the part of it that a rate is of, below which it is shown and not compared
FIGURES = ("accuracy", "selection_rate", "false_positive_rate", "false_negative_rate")
_LEVEL = 0.95
_MOST_RATES = 50  # groups, those with most rows, of which the rates of each class are told


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigures:
    """People of one value: their rows, and the share of them that was answered rightly."""

    group: str
    rows: int
    accuracy: Interval
    compared: bool  # whether there are rows enough


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRates:
    """One class in one group: how often it is answered, wrongly answered, and missed; None of no row."""

    label: str
    group: str
    rows: int  # of this class
    selection_rate: Interval
    false_positive_rate: Interval | None
    false_negative_rate: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The two groups that lie furthest apart in one figure. `ratio` is the lower by the higher; None of zero."""

    figure: str
    label: str | None  # None of accuracy, which is of all classes
    low_group: str
    high_group: str
    difference: Interval
    ratio: Interval | None
    rows: int  # that the two shares are of
    pairs: int  # that were compared


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeSlices:
    """What is known of one attribute. `gaps` has for each figure the widest one, each with its class.

    All groups are compared; `rates` are those of the groups with most rows, `without_rates` counts the others.
    """

    attribute: str
    rows: int
    unknown: int  # rows without a value, which are in no figure
    groups: tuple[GroupFigures, ...]
    rates: tuple[ClassRates, ...]
    gaps: tuple[Gap, ...]
    without_rates: int = 0

    def largest(self, most: int) -> tuple[GroupFigures, ...]:
        """So many groups with most rows, by their names."""
        chosen = sorted(self.groups, key=lambda each: (-each.rows, each.group))[:most]
        return tuple(sorted(chosen, key=lambda each: each.group))


def slices_of(
    attribute: str,
    groups: Sequence[str | None],
    labels: Sequence[str],
    given: Sequence[str],
    *,
    least_rows: int = LEAST_ROWS,
) -> AttributeSlices:
    """The figures by an attribute's value; entry i of each list is one row, None a row whose value is not known.

    Raises:
        DataError: the lists differ in length.

    >>> found = slices_of("region", ["n"] * 40 + ["s"] * 40, ["a"] * 80, ["a"] * 60 + ["b"] * 20)
    >>> [(each.group, each.accuracy.mean) for each in found.groups]
    [('n', 1.0), ('s', 0.5)]
    >>> round(found.gaps[0].difference.low, 2)
    0.33
    """
    counted = Counted.of(groups, labels, given)
    names, classes = counted.groups, counted.classes
    hits = {figure: counted.hits(figure) for figure in FIGURES}
    right, rows = hits["accuracy"]
    told = np.sort(np.argsort(-rows[:, 0], kind="stable")[:_MOST_RATES]).tolist()
    return AttributeSlices(
        attribute=attribute,
        rows=int(rows.sum()),
        unknown=len(groups) - int(rows.sum()),
        groups=tuple(
            GroupFigures(
                group=name,
                rows=int(rows[place, 0]),
                accuracy=wilson(int(right[place, 0]), int(rows[place, 0])),
                compared=int(rows[place, 0]) >= least_rows,
            )
            for place, name in enumerate(names)
        ),
        rates=tuple(
            ClassRates(
                label=label,
                group=names[row],
                rows=int(hits["false_negative_rate"][1][row, column]),
                **{figure: _share(hits[figure], row, column) for figure in FIGURES[1:]},
            )
            for column, label in enumerate(classes)
            for row in told
        ),
        gaps=tuple(gap for figure in FIGURES if (gap := counted.widest(figure, least_rows=least_rows)) is not None),
        without_rates=len(names) - len(told),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Rows of each group and class: by truth, by answer, and right ones; each (groups, classes).

    >>> counted = Counted.of(["n", "s", None], ["a", "a", "a"], ["a", "b", "b"])
    >>> counted.groups, counted.classes, counted.right.tolist()
    (('n', 's'), ('a', 'b'), [[1, 0], [0, 0]])
    """

    groups: tuple[str, ...]
    classes: tuple[str, ...]
    truth: Counts
    given: Counts
    right: Counts

    @classmethod
    def of(cls, groups: Sequence[str | None], labels: Sequence[str], given: Sequence[str]) -> Self:
        """Count rows; entry i of each list is one row, None a row whose value is not known.

        Raises:
            DataError: the lists differ in length.
        """
        if not len(groups) == len(labels) == len(given):
            raise DataError(
                f"slices got {len(groups)} groups, {len(labels)} labels and {len(given)} answers; give a row all three"
            )
        known = [(group, *pair) for group, *pair in zip(groups, labels, given, strict=True) if group is not None]
        names = tuple(sorted({group for group, *_ in known}))
        classes = tuple(sorted({name for _, *pair in known for name in pair}))
        group = _places([row[0] for row in known], names)
        truth, answer = (_places([row[column] for row in known], classes) for column in (1, 2))
        parts = [np.zeros((len(names), len(classes)), dtype=np.int64) for _ in range(3)]
        right = truth == answer
        np.add.at(parts[0], (group, truth), 1)
        np.add.at(parts[1], (group, answer), 1)
        np.add.at(parts[2], (group[right], truth[right]), 1)
        return cls(groups=names, classes=classes, truth=parts[0], given=parts[1], right=parts[2])

    def hits(self, figure: str) -> tuple[Counts, Counts]:
        """The rows that a figure counts, and those that it is a share of; each (groups, classes), or (groups, 1)."""
        rows = self.truth.sum(axis=1, keepdims=True)
        if figure == "accuracy":
            return self.right.sum(axis=1, keepdims=True), rows
        if figure == "selection_rate":
            return self.given, np.broadcast_to(rows, self.given.shape)
        if figure == "false_positive_rate":
            return self.given - self.right, rows - self.truth
        return self.truth - self.right, self.truth

    def widest(
        self,
        figure: str,
        *,
        label: str | None = None,
        by_ratio: bool = False,
        surest: bool = False,
        least_rows: int = LEAST_ROWS,
    ) -> Gap | None:
        """The class and the two groups that lie furthest apart, by difference or by ratio; None without a pair.

        Only groups are compared that have rows enough. With `label` that class alone is looked at. With `surest` the
        gap counts that its interval makes the most of: two large groups are surely apart before a small one is.
        """
        counted, rows = self.hits(figure)
        columns = list(range(counted.shape[1]) if label is None or figure == "accuracy" else self._columns(label))
        found = furthest(
            counted[:, columns],
            rows[:, columns],
            least_rows=least_rows,
            level=_LEVEL,
            by_ratio=by_ratio,
            surest=surest,
        )
        if found is None:
            return None
        (column, one, other), pairs = found
        level = 1.0 - (1.0 - _LEVEL) / pairs
        return self._gap(figure, (counted, rows), (columns[column], one, other), level, pairs)

    def _gap(
        self, figure: str, hits: tuple[Counts, Counts], place: tuple[int, int, int], level: float, pairs: int
    ) -> Gap:
        """The gap between two groups in one class."""
        counted, rows = hits
        column, one, other = place
        shares = [(counted[group, column] / rows[group, column], group) for group in (one, other)]
        low, high = (group for _, group in sorted(shares))
        lower, higher = (
            wilson(int(counted[group, column]), int(rows[group, column]), level=level) for group in (low, high)
        )
        return Gap(
            figure=figure,
            label=None if figure == "accuracy" else self.classes[column],
            low_group=self.groups[low],
            high_group=self.groups[high],
            difference=_difference(higher, lower),
            ratio=_ratio(lower, higher),
            rows=int(rows[low, column] + rows[high, column]),
            pairs=pairs,
        )

    def _columns(self, label: str) -> Sequence[int]:
        return [self.classes.index(label)] if label in self.classes else []


def _places(values: Sequence[str], names: Sequence[str]) -> NDArray[np.intp]:
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[value] for value in values], dtype=np.intp)


def _share(hits: tuple[Counts, Counts], row: int, column: int) -> Any:
    counted, rows = int(hits[0][row, column]), int(hits[1][row, column])
    return wilson(counted, rows) if rows else None


def _difference(one: Interval, other: Interval) -> Interval:
    """One share less another's, of other rows. Source: Newcombe, Statistics in Medicine 17, 1998, method 10."""
    apart = one.mean - other.mean
    low = apart - math.hypot(one.mean - one.low, other.high - other.mean)
    high = apart + math.hypot(one.high - one.mean, other.mean - other.low)
    return Interval(mean=apart, low=low, high=high, level=one.level)


def _ratio(one: Interval, other: Interval) -> Interval | None:
    """One share by another. Source: Donner and Zou, Statistical Methods in Medical Research 21, 2012, equation 9."""
    if other.mean <= 0.0:
        return None
    product, below = one.mean * other.mean, other.high * (2 * other.mean - other.high)
    root = _root(product**2 - one.low * (2 * one.mean - one.low) * below)
    low = (product - root) / below if abs(below) > 1e-12 else 0.0
    above = other.low * (2 * other.mean - other.low)
    root = _root(product**2 - one.high * (2 * one.mean - one.high) * above)
    high = (product + root) / above if above > 1e-12 else math.inf
    ratio = one.mean / other.mean
    return Interval(mean=ratio, low=min(max(0.0, low), ratio), high=max(high, ratio), level=one.level)


def _root(square: float) -> float:
    return math.sqrt(max(0.0, square))
