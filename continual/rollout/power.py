"""What a rollout can see, told before it begins: the loss that so many labels notice in four of five cases."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.rollout.limit_test import critical_loss, critical_losses
from perennial.continual.rollout.verdict import RolloutRules

__all__ = ["Power", "visible_points"]

_NOTICED = 0.8
_MOST_ROWS = 2_000  # beyond them the normal distribution says the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What labels at this rate see in a day; points are None where they cannot see even a total loss.

    `come_points` is of labels as they come, `asked_points` of as many that are asked for where the versions disagree,
    which they are taken to do on `disagreement` of the requests.

    >>> Power.of(labels_per_hour=40.0, disagreement=0.06, rules=RolloutRules()).sentence
    'with about 40 labels an hour this can see 1.8 points in a day, asked for where the versions disagree 1.5 points'
    """

    labels_per_hour: float
    disagreement: float
    come_points: float | None
    asked_points: float | None

    @classmethod
    def of(cls, *, labels_per_hour: float, disagreement: float, rules: RolloutRules) -> "Power":
        """The power at a measured rate."""
        labels = int(24 * labels_per_hour)
        return cls(
            labels_per_hour=labels_per_hour,
            disagreement=disagreement,
            come_points=visible_points(labels, disagreement, rules),
            asked_points=visible_points(labels, disagreement, rules, asked=True),
        )

    @property
    def sentence(self) -> str:
        """The same in words."""
        rate = f"with about {self.labels_per_hour:.3g} labels an hour this can see"
        if self.come_points is None:
            most = f"no loss of {100 * self.disagreement:.2g} points or less in a day"
            return f"{rate} {most}" + ("" if self.asked_points is None else f", {self._asked}")
        return f"{rate} {self.come_points:.1f} points in a day, {self._asked}"

    @property
    def _asked(self) -> str:
        return f"asked for where the versions disagree {self.asked_points or 0.0:.1f} points"


def visible_points(labels: int, disagreement: float, rules: RolloutRules, *, asked: bool = False) -> float | None:
    """The least loss, in points, that the test at the limit notices in four of five cases; None where there is none.

    Versions cannot differ by more than they disagree, and less than half of the margin is a draw on purpose.

    >>> visible_points(30, 0.06, RolloutRules()) is None
    True
    >>> 4.5 < visible_points(100, 0.06, RolloutRules()) < 5
    True
    """
    losses = np.linspace(disagreement / 200, disagreement, 200)

    def is_noticed(loss: float) -> bool:  # a larger one is noticed oftener
        return _noticed(labels, disagreement, float(loss), rules, asked=asked) >= _NOTICED

    first = bisect_left(losses, True, key=is_noticed)
    return None if first == len(losses) else round(max(100.0 * float(losses[first]), rules.margin_points / 2), 2)


def _noticed(labels: int, disagreement: float, loss: float, rules: RolloutRules, *, asked: bool) -> float:
    from scipy.special import ndtr, ndtri  # scipy.stats takes half a second to import

    losing, level = (1 + loss / disagreement) / 2, rules.limit_level
    if labels > _MOST_ROWS or labels == 0:
        differing = labels * (1.0 if asked else disagreement)
        spread = max(1e-9, np.sqrt(differing * 4 * losing * (1 - losing)))
        limit = -ndtri(level) * np.sqrt(differing)
        return float(ndtr((differing * (2 * losing - 1) - limit) / spread)) if labels else 0.0
    if asked:
        return float(_at_least(np.array([critical_loss(0, labels, level, differing=0)]), np.array([labels]), losing)[0])
    rows = np.arange(labels + 1)
    lost = _at_least(np.asarray(critical_losses(labels, 0, level)), rows, losing)
    return float(_chances(labels, disagreement) @ lost)


def _at_least(least: NDArray[Any], rows: NDArray[Any], share: float) -> NDArray[np.float64]:
    """The chance that so many of the rows, or more, are lost, where each is with the same chance."""
    from scipy.special import betainc

    within = (least > 0) & (least <= rows)
    number, of = np.where(within, least, 1), np.where(within, rows, 1)
    chances: NDArray[np.float64] = np.where(within, betainc(number, of - number + 1, share), least <= 0)
    return chances


def _chances(rows: int, share: float) -> NDArray[np.float64]:
    """The chance of each number of rows, from none to all, where each counts with the same chance."""
    from scipy.special import gammaln, xlog1py, xlogy

    number = np.arange(rows + 1)
    ways = gammaln(rows + 1) - gammaln(number + 1) - gammaln(rows - number + 1)
    chances: NDArray[np.float64] = np.exp(ways + xlogy(number, share) + xlog1py(rows - number, -share))
    return chances
