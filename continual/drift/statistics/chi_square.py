"""Two-sample chi-square test for categories, with a Monte-Carlo G-test where counts are too small for it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.statistics.contingency import contingency, pool_sparse
from perennial.continual.drift.statistics.permutation import Bursts, exchanged, sequential_p_value
from perennial.continual.drift.statistics.result import StatisticResult

__all__ = ["chi_square"]

_LEAST_EXPECTED = 5.0


def chi_square(
    reference: Sequence[str] | NDArray[np.str_],
    current: Sequence[str] | NDArray[np.str_],
    *,
    rng: np.random.Generator,
    permutations: int = 999,
    floor: float = 0.2,
    bursts: Bursts | None = None,
) -> StatisticResult:
    """Return how far two category mixes differ, treating both samples as samples.

    Sparse categories are pooled first. `effect` is the root of sum((p - q)^2 / mean(p, q)), its sampling bias removed:
    0 for equal mixes, 2 for mixes without a common category. Where pooling cannot lift every expected count to 5, the
    G statistic is used with a Monte-Carlo p-value over tables of the same margins. Where rows come in `bursts` the
    p-value is that of G over all categories, by permutations of bursts.

    Source: Pearson (1900); Cohen's w with the bias correction of Bergsma (2013).

    >>> rng = np.random.default_rng(1)
    >>> chi_square(["a"] * 90 + ["b"] * 10, ["a"] * 60 + ["b"] * 40, rng=rng).p_value < 1e-4
    True
    >>> chi_square(["a"] * 90 + ["b"] * 10, ["a"] * 88 + ["b"] * 12, rng=rng).relevant
    False
    """
    table = contingency(reference, current)
    pooled = pool_sparse(table, minimum=_LEAST_EXPECTED)
    expected = np.outer(pooled.sum(axis=1), pooled.sum(axis=0)) / pooled.sum()
    if pooled.shape[1] < 2:
        pooled = table
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    if pooled.shape[1] < 2:
        value, p_value = 0.0, 1.0
    elif expected.min() >= _LEAST_EXPECTED:
        value, p_value = _pearson(pooled, expected)
    else:
        value, p_value = _g_test(pooled, expected, rng, permutations)
    if bursts is not None and pooled.shape[1] > 1:
        p_value = _of_bursts(reference, current, bursts, rng, permutations)
    rows = pooled.sum(axis=1)
    excess = max(0.0, value - (pooled.shape[1] - 1)) * rows.sum() / (rows[0] * rows[1])
    return StatisticResult(
        statistic=value,
        p_value=p_value,
        effect=float(np.sqrt(excess)),
        floor=floor,
        n_reference=int(rows[0]),
        n_current=int(rows[1]),
    )


def _pearson(table: NDArray[np.int64], expected: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import chi2

    value = float(((table - expected) ** 2 / expected).sum())
    return value, float(chi2.sf(value, table.shape[1] - 1))


def _g_test(
    table: NDArray[np.int64], expected: NDArray[np.float64], rng: np.random.Generator, permutations: int
) -> tuple[float, float]:
    columns, rows = table.sum(axis=0), table.sum(axis=1)

    def draw(count: int) -> NDArray[np.float64]:
        first = rng.multivariate_hypergeometric(columns, rows[0], size=count)
        return _g(np.stack([first, columns - first], axis=1), expected)  # (count, 2, k)

    value = float(_g(table, expected))
    p_value, _ = sequential_p_value(value, draw, limit=permutations)
    return value, p_value


def _of_bursts(
    reference: Sequence[str] | NDArray[np.str_],
    current: Sequence[str] | NDArray[np.str_],
    bursts: Bursts,
    rng: np.random.Generator,
    permutations: int,
) -> float:
    names, codes = np.unique(np.concatenate([reference, current]), return_inverse=True)
    held = np.eye(len(names), dtype=np.float32)[codes]  # (rows, categories)
    first = np.arange(len(codes)) < len(reference)
    columns = held.sum(axis=0)
    expected = np.outer([first.sum(), (~first).sum()], columns) / len(codes)

    def draw(count: int) -> NDArray[np.float64]:
        counts = exchanged(first, np.concatenate(bursts), rng, count).astype(np.float32) @ held
        return _g(np.stack([counts, columns - counts], axis=1), expected)

    own = first.astype(np.float32) @ held
    p_value, _ = sequential_p_value(float(_g(np.stack([own, columns - own]), expected)), draw, limit=permutations)
    return p_value


def _g(observed: NDArray[Any], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio = np.where(observed > 0, observed, 1.0) / np.where(observed > 0, expected, 1.0)
    total: NDArray[np.float64] = 2.0 * (observed * np.log(ratio)).sum(axis=(-2, -1))
    return total
