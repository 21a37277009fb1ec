"""Jensen-Shannon distance for categories, calibrated so that clean windows of any size read near zero."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.statistics.contingency import contingency
from perennial.continual.drift.statistics.permutation import sequential_p_value
from perennial.continual.drift.statistics.result import StatisticResult

__all__ = ["jensen_shannon"]


def jensen_shannon(
    reference: Sequence[str] | NDArray[np.str_],
    current: Sequence[str] | NDArray[np.str_],
    *,
    rng: np.random.Generator,
    permutations: int = 999,
    floor: float = 0.1,
) -> StatisticResult:
    """Return the Jensen-Shannon distance (base 2, in [0, 1]) of two category mixes, with a permutation p-value.

    `effect` is the root of the divergence less its mean under exchanged rows: on 50 clean categories the uncalibrated
    distance passes 0.1 on every 200-row window.

    >>> rng = np.random.default_rng(1)
    >>> jensen_shannon(["a", "b"] * 100, ["a", "c"] * 100, rng=rng).relevant
    True
    >>> levels = [f"l{i}" for i in range(50)]
    >>> jensen_shannon(rng.choice(levels, 900), rng.choice(levels, 200), rng=rng).relevant
    False
    """
    table = contingency(reference, current)
    columns, rows = table.sum(axis=0), table.sum(axis=1)

    def draw(count: int) -> NDArray[np.float64]:
        first = rng.multivariate_hypergeometric(columns, rows[0], size=count)
        return _divergence(first / rows[0], (columns - first) / rows[1])

    divergence = float(_divergence(table[0] / rows[0], table[1] / rows[1]))
    p_value, null = sequential_p_value(divergence, draw, limit=permutations)
    return StatisticResult(
        statistic=float(np.sqrt(divergence)),
        p_value=p_value,
        effect=float(np.sqrt(max(0.0, divergence - float(null.mean())))),
        floor=floor,
        n_reference=int(rows[0]),
        n_current=int(rows[1]),
    )


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = (p + q) / 2
    total: NDArray[np.float64] = np.maximum(0.0, (_kl(p, middle) + _kl(q, middle)) / 2)
    return total


def _kl(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio = np.where(p > 0, p, 1.0) / np.where(p > 0, q, 1.0)
    total: NDArray[np.float64] = (p * np.log2(ratio)).sum(axis=-1)
    return total
