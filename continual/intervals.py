"""Intervals of what was measured on rows: resampled means, shares, and differences of paired answers.

Everything that decides by a difference, or prints one, takes its interval from here.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perennial.continual.errors import DataError

__all__ = [
    "RESAMPLES",
    "Z95",
    "Interval",
    "bonett_price",
    "grouped_interval",
    "mean_interval",
    "paired_bootstrap",
    "surely_below",
    "wilson",
]

Floats = NDArray[np.float64]

RESAMPLES = 1000
Z95 = 1.959963984540054  # the 97.5% quantile of the normal distribution
_DRAWN_AT_ONCE = 1_000_000  # values: some 16 MB with their indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean, or a difference of means, with its interval.

    >>> Interval(mean=0.4, low=0.1, high=0.7).decided
    1
    """

    mean: float
    low: float
    high: float
    level: float = 0.95

    @property
    def decided(self) -> int:
        """The sign that the interval supports: +1 or -1 when it leaves zero out, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def mean_interval(
    values: ArrayLike, rng: np.random.Generator, *, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """The mean of values (n,), one a row or a run, with its percentile interval.

    Source: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.

    Raises:
        DataError: there is no value, or the level does not lie in (0, 1).

    >>> mean_interval([1, 1, 1, 1], np.random.default_rng(0))
    Interval(mean=1.0, low=1.0, high=1.0, level=0.95)
    """
    rows = np.asarray(values, np.float64)
    if rows.ndim != 1 or not len(rows):
        raise DataError(f"a bootstrap got values of shape {rows.shape}; give a list of at least one")
    if not 0.0 < level < 1.0:
        raise DataError(f"a bootstrap level of {level} must lie in (0, 1), e.g. 0.95")
    means = _resampled_means(rows, rng, resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(rows.mean()), low=float(low), high=float(high), level=level)


def grouped_interval(
    values: ArrayLike,
    groups: NDArray[np.integer[Any]],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean of values (n,) that come in groups, such as a user's, with an interval that draws whole groups.

    The groups (n,) are numbered from 0 without gaps.

    Raises:
        DataError: there is no value, or a value without its group.

    >>> grouped_interval([1, 1, 0, 0], np.array([0, 0, 1, 1]), np.random.default_rng(0)).high
    1.0
    """
    rows = np.asarray(values, np.float64)
    if rows.ndim != 1 or not len(rows) or rows.shape != groups.shape:
        raise DataError(f"an interval by groups got shapes {rows.shape} and {groups.shape}; give each value its group")
    sums, counts = np.bincount(groups, rows), np.bincount(groups).astype(np.float64)
    means = []
    for drawn_now in _counts_at_once(len(sums), resamples):
        drawn = rng.integers(0, len(sums), (drawn_now, len(sums)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(rows.mean()), low=float(low), high=float(high), level=level)


def paired_bootstrap(
    ours: ArrayLike,
    theirs: ArrayLike,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean of ours - theirs with its percentile interval; entry i of both is the same row, or the same run.

    Pass 0/1 correctness by row, or one figure a run. Source: paired as in Koehn, EMNLP 2004.

    Raises:
        DataError: the lists differ in length or are empty, or the level does not lie in (0, 1).

    >>> paired_bootstrap([1, 1, 1, 1], [0, 0, 0, 0], np.random.default_rng(0)).low
    1.0
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise DataError(
            f"a paired bootstrap got shapes {a.shape} and {b.shape}; give two equal lists, one entry a pair"
        )
    return mean_interval(a - b, rng, level=level, resamples=resamples)


def surely_below(
    differences: ArrayLike, limit: float, confidence: float, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> bool:
    """Whether at least `confidence` of the resampled means of paired differences lie below `limit`.

    >>> surely_below([-1.0, -1.0, 0.0], 0.0, 0.9, np.random.default_rng(0))
    True
    """
    means = _resampled_means(np.asarray(differences, np.float64), rng, resamples)
    return bool((means < limit).mean() >= confidence)


def wilson(hits: int, rows: int, *, level: float = 0.95) -> Interval:
    """The share of hits with its interval, which stays honest where none or all of the rows hit.

    Source: Wilson, JASA 22, 1927.

    Raises:
        DataError: there is no row.

    >>> wilson(0, 30).high < 0.12
    True
    """
    _at_least_one(rows)
    quantile = Z95 if level == 0.95 else NormalDist().inv_cdf((1 + level) / 2)
    share, square = hits / rows, quantile * quantile
    centre = (share + square / (2 * rows)) / (1 + square / rows)
    half = quantile * math.sqrt(share * (1 - share) / rows + square / (4 * rows * rows)) / (1 + square / rows)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    # none and all may be missed by rounding
    return Interval(mean=share, low=min(low, share), high=max(high, share), level=level)


def bonett_price(gains: float, losses: float, rows: int, *, squares: tuple[float, float] | None = None) -> Interval:
    """The difference of two mean scores on the same rows with its 95% interval, honest also where no row differs.

    Source: Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", Journal of Educational and Behavioral Statistics 37, 2012. Scores between right and wrong enter the
    spread with their squares; two rows are added in either case, one won and one lost.

    Args:
        gains: by how much the first score is higher, summed over the rows where it is: their number for right or wrong.
        losses: by how much the second score is higher, likewise.
        rows: all of them.
        squares: the sums of the squares of both, where the scores are not right or wrong alone.

    Raises:
        DataError: there is no row.

    >>> bonett_price(3, 3, 100).mean
    0.0
    """
    _at_least_one(rows)
    won, lost = (gains + 1) / (rows + 2), (losses + 1) / (rows + 2)
    spread = won + lost if squares is None else (squares[0] + 1) / (rows + 2) + (squares[1] + 1) / (rows + 2)
    half = Z95 * math.sqrt((spread - (won - lost) ** 2) / (rows + 2))
    return Interval(mean=(gains - losses) / rows, low=max(-1.0, won - lost - half), high=min(1.0, won - lost + half))


def _at_least_one(rows: int) -> None:
    if rows < 1:
        raise DataError(f"an interval of {rows} rows was asked for; it needs at least 1")


def _resampled_means(values: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """The draws depend on the generator and the values alone, not on how many fit into memory at once."""
    _at_least_one(len(values))
    counts = _counts_at_once(len(values), resamples)
    return np.concatenate([rng.choice(values, size=(count, len(values))).mean(axis=1) for count in counts])


def _counts_at_once(values: int, resamples: int) -> list[int]:
    """How many resamples of so many values are drawn at a time."""
    at_once = max(1, _DRAWN_AT_ONCE // values)
    return [min(at_once, resamples - start) for start in range(0, resamples, at_once)]
