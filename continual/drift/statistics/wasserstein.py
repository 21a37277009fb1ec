"""Wasserstein distance for one number a row, calibrated so that clean windows of any size read near zero."""

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.statistics.permutation import Bursts, exchanged, numeric, sequential_p_value
from perennial.continual.drift.statistics.result import StatisticResult

__all__ = ["wasserstein"]

MAX_ROWS = 5_000
"""Rows of each side that are compared; more are sampled."""


def wasserstein(
    reference: NDArray[np.generic],
    current: NDArray[np.generic],
    *,
    rng: np.random.Generator,
    permutations: int = 999,
    floor: float = 0.1,
    bursts: Bursts | None = None,
) -> StatisticResult:
    """Return the mean distance that mass must move, in pooled standard deviations, with a permutation p-value.

    `effect` is the distance less the mean distance between two random halves of the pooled rows of the same sizes:
    the uncalibrated distance passes 0.1 on 70% of clean 100-row windows.

    >>> rng = np.random.default_rng(1)
    >>> wasserstein(rng.normal(size=600), rng.normal(0.5, 1.0, size=300), rng=rng).relevant
    True
    >>> wasserstein(rng.normal(size=600), rng.normal(size=100), rng=rng).relevant
    False
    """
    a, b = numeric(reference, "reference"), numeric(current, "current window")
    n_reference, n_current = len(a), len(b)
    chosen = [np.arange(n) if n <= MAX_ROWS else rng.choice(n, MAX_ROWS, replace=False) for n in (len(a), len(b))]
    a, b = a[chosen[0]], b[chosen[1]]
    places = None if bursts is None else np.concatenate([side[rows] for side, rows in zip(bursts, chosen, strict=True)])
    pooled = np.concatenate([a, b])
    spread = float(pooled.std())
    if spread == 0.0:
        return StatisticResult(
            statistic=0.0, p_value=1.0, effect=0.0, floor=floor, n_reference=n_reference, n_current=n_current
        )
    order = np.argsort(pooled, kind="stable")
    gaps = np.diff(pooled[order]) / spread
    weights = np.concatenate([np.full(len(a), 1.0 / len(a)), np.full(len(b), -1.0 / len(b))])[order]

    def draw(count: int) -> NDArray[np.float64]:
        shuffled = exchanged(weights, None if places is None else places[order], rng, count)
        distances: NDArray[np.float64] = np.abs(np.cumsum(shuffled[:, :-1], axis=1)) @ gaps
        return distances

    distance = float(np.abs(np.cumsum(weights[:-1])) @ gaps)
    p_value, null = sequential_p_value(distance, draw, limit=permutations)
    return StatisticResult(
        statistic=distance,
        p_value=p_value,
        effect=max(0.0, distance - float(null.mean())),
        floor=floor,
        n_reference=n_reference,
        n_current=n_current,
    )
