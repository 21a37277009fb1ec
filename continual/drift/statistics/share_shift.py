"""Fisher's exact test for a share that may move one way: fewer hits, or more of what is new."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.statistics.permutation import numeric
from perennial.continual.drift.statistics.result import StatisticResult

__all__ = ["share_shift"]


def share_shift(
    reference: NDArray[np.generic], current: NDArray[np.generic], *, towards: Literal[-1, 1], floor: float = 0.15
) -> StatisticResult:
    """Return how far a share moved in the direction that matters, and its one-sided p-value.

    Values are 0 or 1, a row each. `effect` is Cohen's h in that direction, less what chance alone gives on average: it
    tells 2% beside 1% from 50% beside 49%. A move the other way has none.

    Source: Fisher (1935); Cohen (1988), Statistical power analysis, chapter 6.

    >>> before, after = np.repeat([1, 0], [300, 300]), np.repeat([1, 0], [90, 210])
    >>> share_shift(before, after, towards=-1).relevant, share_shift(before, after, towards=1).effect
    (True, 0.0)
    """
    from scipy.stats import hypergeom

    a, b = numeric(reference, "reference"), numeric(current, "current window")
    before, after = int(a.sum()), int(b.sum())
    chance = hypergeom(len(a) + len(b), before + after, len(b))
    p_value = chance.cdf(after) if towards < 0 else chance.sf(after - 1)
    moved = towards * (_angle(after / len(b)) - _angle(before / len(a)))
    by_chance = math.sqrt((1 / len(a) + 1 / len(b)) / (2 * math.pi))
    return StatisticResult(
        statistic=moved,
        p_value=float(np.clip(p_value, 0.0, 1.0)),
        effect=max(0.0, moved - by_chance),
        floor=floor,
        n_reference=len(a),
        n_current=len(b),
    )


def _angle(share: float) -> float:
    """A share on the scale on which chance moves all alike."""
    return 2.0 * math.asin(math.sqrt(share))
