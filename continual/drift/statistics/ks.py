"""Two-sample Kolmogorov-Smirnov test for one number a row."""

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.statistics.permutation import numeric
from perennial.continual.drift.statistics.result import StatisticResult

__all__ = ["ks"]

_EXACT_ROWS = 10_000


def ks(reference: NDArray[np.generic], current: NDArray[np.generic], *, floor: float = 0.1) -> StatisticResult:
    """Return the largest gap between the two distribution functions, and its p-value.

    `effect` is the gap in [0, 1] less what chance alone gives on average at these sizes. Ties make the p-value
    conservative. Cost: a sort.

    Source: Hodges (1958); the mean of Kolmogorov's distribution is sqrt(pi / 2) ln 2.

    >>> rng = np.random.default_rng(1)
    >>> ks(rng.normal(size=500), rng.normal(1.0, 1.0, size=300)).p_value < 1e-9
    True
    >>> ks(rng.normal(size=500), rng.normal(size=300)).relevant
    False
    """
    from scipy.stats import ks_2samp

    a, b = numeric(reference, "reference"), numeric(current, "current window")
    small = max(len(a), len(b)) <= _EXACT_ROWS and min(len(a), len(b)) < 200
    answer = ks_2samp(a, b, method="exact" if small else "asymp")
    by_chance = np.sqrt(np.pi / 2) * np.log(2) * np.sqrt((len(a) + len(b)) / (len(a) * len(b)))
    gap = float(answer.statistic)
    return StatisticResult(
        statistic=gap,
        p_value=float(np.clip(answer.pvalue, 0.0, 1.0)),
        effect=max(0.0, gap - float(by_chance)),
        floor=floor,
        n_reference=len(a),
        n_current=len(b),
    )
