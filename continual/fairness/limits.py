"""What the gate may be told about gaps between groups: attribute, figure, class and bound."""

from collections.abc import Sequence
from dataclasses import dataclass

from perennial.continual.bounds import BoundedFigure
from perennial.continual.errors import ConfigurationError
from perennial.continual.fairness.slices import FIGURES, LEAST_ROWS, Counted, Gap
from perennial.continual.intervals import Interval

__all__ = ["GAPS", "FairnessLimit"]

GAPS = tuple(f"{figure}_{kind}" for figure in FIGURES for kind in ("difference", "ratio"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessLimit:
    """A difference may be at most, and a ratio at least, its bound; without a class that of all classes counts.

    Of all pairs of groups the one is measured whose interval is furthest beyond.

    >>> limit = FairnessLimit(attribute="region", figure="accuracy_difference", bound=0.1)
    >>> groups, labels = ["n"] * 60 + ["s"] * 60, ["a"] * 120
    >>> found = limit.measured(groups, labels, ["a"] * 90 + ["b"] * 30, ["a"] * 120)
    >>> found.told, found.value.low > 0.3, found.reason is not None
    ('the accuracy difference between n and s (region)', True, True)
    """

    attribute: str
    figure: str
    bound: float
    label: str | None = None
    least_rows: int = LEAST_ROWS

    def __post_init__(self) -> None:
        if self.figure not in GAPS or not 0.0 <= self.bound <= 1.0:
            raise ConfigurationError(
                f"fairness limit on {self.figure!r} with bound {self.bound}: the figure is one of {', '.join(GAPS)}, "
                "the bound lies in [0, 1]"
            )

    @property
    def by_ratio(self) -> bool:
        """Whether it bounds a ratio, from below."""
        return self.figure.endswith("_ratio")

    @property
    def rate(self) -> str:
        """What lies apart between groups, of which it bounds the difference or the ratio."""
        return self.figure.rpartition("_")[0]

    def measured(
        self, groups: Sequence[str | None], labels: Sequence[str], given: Sequence[str], before: Sequence[str]
    ) -> BoundedFigure | None:
        """The challenger's gap beside the champion's own of the same figure; None where no two groups have rows.

        `given` are the challenger's answers, `before` the champion's; entry i of each list is one row.
        """
        gap, old = (self._gap(groups, labels, answers) for answers in (given, before))
        value = None if gap is None else self._value(gap)
        if gap is None or value is None:
            return None
        figure, _, kind = self.figure.rpartition("_")
        of = "" if gap.label is None else f" of {gap.label!r}"
        was = None if old is None else self._value(old)
        return BoundedFigure(
            name=f"{self.attribute}_{self.figure}" + (f"_{self.label}" if self.label else ""),
            told=f"the {figure.replace('_', ' ')} {kind}{of} between {gap.high_group} and {gap.low_group} "
            f"({self.attribute})",
            value=value,
            champion=None if was is None else was.mean,
            limit=self.bound,
            rows=gap.rows,
            most=not self.by_ratio,
        )

    def _gap(self, groups: Sequence[str | None], labels: Sequence[str], given: Sequence[str]) -> Gap | None:
        counted = Counted.of(groups, labels, given)
        return counted.widest(
            self.rate, label=self.label, by_ratio=self.by_ratio, surest=True, least_rows=self.least_rows
        )

    def _value(self, gap: Gap) -> Interval | None:
        return gap.ratio if self.by_ratio else gap.difference
