"""Two-sample Kolmogorov-Smirnov test for one number a row."""

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.statistics.permutation import Bursts, exchanged, numeric, sequential_p_value
from perennial.continual.drift.statistics.result import StatisticResult

__all__ = ["ks"]

_EXACT_ROWS = 10_000


def ks(
    reference: NDArray[np.generic],
    current: NDArray[np.generic],
    *,
    floor: float = 0.1,
    bursts: Bursts | None = None,
    rng: np.random.Generator | None = None,
    permutations: int = 999,
) -> StatisticResult:
    """Return the largest gap between the two distribution functions, and its p-value.

    `effect` is the gap in [0, 1] less what chance alone gives on average at these sizes. Ties make the p-value
    conservative. Cost: a sort. Where rows come in `bursts` the p-value is by permutations of these, drawn from `rng`.

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
    p_value = float(np.clip(answer.pvalue, 0.0, 1.0))
    if bursts is not None and rng is not None:
        p_value = _of_bursts(a, b, bursts, rng, permutations)
    return StatisticResult(
        statistic=gap,
        p_value=p_value,
        effect=max(0.0, gap - float(by_chance)),
        floor=floor,
        n_reference=len(a),
        n_current=len(b),
    )


def _of_bursts(
    a: NDArray[np.float64], b: NDArray[np.float64], bursts: Bursts, rng: np.random.Generator, permutations: int
) -> float:
    pooled, places = np.concatenate([a, b]), np.concatenate(bursts)
    order = np.argsort(pooled, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(pooled[order])), len(pooled) - 1)  # where a distribution function has risen
    weights = np.concatenate([np.full(len(a), 1.0 / len(a)), np.full(len(b), -1.0 / len(b))])

    def gaps(sides: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.abs(np.cumsum(sides[:, order], axis=1)[:, ends]).max(axis=1)
        return found

    observed = float(gaps(weights[None])[0])
    p_value, _ = sequential_p_value(
        observed, lambda count: gaps(exchanged(weights, places, rng, count)), limit=permutations
    )
    return p_value
