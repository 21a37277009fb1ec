"""Maximum mean discrepancy of embeddings by random Fourier features, with a permutation p-value."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.statistics.permutation import Bursts, exchanged, sequential_p_value
from perennial.continual.drift.statistics.result import StatisticResult
from perennial.continual.errors import DataError

__all__ = ["matrix", "rff_mmd", "sample_rows"]

MAX_ROWS = 2_000
"""Rows of each side that are compared; more are sampled."""


def rff_mmd(
    reference: NDArray[np.floating[Any]],
    current: NDArray[np.floating[Any]],
    *,
    rng: np.random.Generator,
    permutations: int = 999,
    features: int = 256,
    floor: float = 0.05,
    bursts: Bursts | None = None,
) -> StatisticResult:
    """Return the distance between the mean embeddings of two samples in a Gaussian kernel's space.

    Both sides are (n, d). The bandwidth is the median distance of pooled rows. `effect` is the unbiased squared
    distance as a share of the pooled variance in the kernel's space; negative estimates read 0. Memory grows with the
    rows, not with their square.

    Source: Gretton et al. (2012), A kernel two-sample test; Rahimi and Recht (2007), Random features.

    >>> rng = np.random.default_rng(1)
    >>> x = rng.normal(size=(300, 16))
    >>> rff_mmd(x, rng.normal(0.6, 1.0, size=(300, 16)), rng=rng).p_value
    0.001
    >>> rff_mmd(x, rng.normal(size=(100, 16)), rng=rng).relevant
    False
    """
    a, b = matrix(reference, "reference"), matrix(current, "current window")
    n_reference, n_current = len(a), len(b)
    (a, of_a), (b, of_b) = (
        sample_rows(side, MAX_ROWS, rng, own)
        for side, own in zip((a, b), (None, None) if bursts is None else bursts, strict=True)
    )
    places = None if of_a is None or of_b is None else np.concatenate([of_a, of_b])
    mapped = _features(np.concatenate([a, b]), features, rng)  # (n + m, 2 features)
    n, m = len(a), len(b)
    mapped -= mapped.mean(axis=0)
    squares = np.einsum("ij,ij->i", mapped, mapped)

    def mmd2(chosen: NDArray[np.float32]) -> NDArray[np.float64]:
        """Take 0/1 membership of the reference (count, n + m) to unbiased squared distances."""
        first = (chosen @ mapped).astype(np.float64)  # the pooled mean is 0, so the other side sums to -first
        own = chosen.astype(np.float64) @ squares
        norm = np.einsum("ij,ij->i", first, first)
        within_a = (norm - own) / (n * (n - 1))
        within_b = (norm - (squares.sum() - own)) / (m * (m - 1))
        total: NDArray[np.float64] = within_a + within_b + 2 * norm / (n * m)
        return total

    member = np.concatenate([np.ones(n, np.float32), np.zeros(m, np.float32)])
    value = float(mmd2(member[None])[0])
    p_value, _ = sequential_p_value(
        value, lambda count: mmd2(exchanged(member, places, rng, count)), limit=permutations
    )
    variance = max(float(squares.mean()), 1e-9)  # rows that are all equal leave rounding alone
    return StatisticResult(
        statistic=value,
        p_value=p_value,
        effect=max(0.0, value / variance),
        floor=floor,
        n_reference=n_reference,
        n_current=n_current,
    )


def matrix(values: NDArray[np.floating[Any]], side: str) -> NDArray[np.float32]:
    """Return the rows as float32 (n, d).

    Raises:
        DataError: not a matrix, fewer than two rows, or a value that is not finite.
    """
    rows = np.asarray(values, dtype=np.float32)
    if rows.ndim != 2 or len(rows) < 2:
        raise DataError(f"the {side} has embeddings of shape {rows.shape}; give (n, d) with n of at least 2")
    if not np.isfinite(rows).all():
        raise DataError(f"the {side} has embeddings that are not finite; drop these rows before the comparison")
    return rows


def sample_rows(
    rows: NDArray[np.float32], limit: int, rng: np.random.Generator, bursts: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Return the rows, or `limit` of them drawn without replacement; with the bursts of those."""
    if len(rows) <= limit:
        return rows, bursts
    chosen = rng.choice(len(rows), limit, replace=False)
    return rows[chosen], None if bursts is None else bursts[chosen]


def _features(pooled: NDArray[np.float32], features: int, rng: np.random.Generator) -> NDArray[np.float32]:
    some = pooled[rng.choice(len(pooled), min(len(pooled), 400), replace=False)]
    squared = np.einsum("ij,ij->i", some, some)
    distances = squared[:, None] + squared[None, :] - 2 * some @ some.T
    off_diagonal = distances[np.triu_indices(len(some), 1)]
    bandwidth = float(np.sqrt(max(np.median(off_diagonal), 1e-12)))
    omega = rng.standard_normal((pooled.shape[1], features), dtype=np.float32) / np.float32(bandwidth)
    angles = pooled @ omega
    waves: NDArray[np.float32] = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.float32(
        np.sqrt(features)
    )
    return waves
