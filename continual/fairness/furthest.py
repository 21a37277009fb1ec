"""Which two of many groups lie furthest apart: all pairs of a class at once, for an attribute of a thousand values."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["furthest"]

Counts = NDArray[np.int64]
Shares = NDArray[np.float64]


def furthest(
    hits: Counts, rows: Counts, *, least_rows: int, level: float, by_ratio: bool, surest: bool
) -> tuple[tuple[int, int, int], int] | None:
    """The class and the two groups, the lower number first, and how many pairs there were; None without a pair.

    `hits` of `rows` is a share of each group in each class, both (groups, classes). Pairs are compared by difference,
    or by ratio; with `surest` by what the interval says at least. The interval's level holds for all pairs together.

    >>> furthest(np.array([[9], [5], [1]]), np.full((3, 1), 10), least_rows=1, level=0.95, by_ratio=False, surest=True)
    ((0, 0, 2), 3)
    """
    enough = [np.flatnonzero(rows[:, column] >= least_rows) for column in range(rows.shape[1])]
    pairs = sum(math.comb(len(groups), 2) for groups in enough)
    if not pairs:
        return None
    quantile = NormalDist().inv_cdf(1.0 - (1.0 - level) / pairs / 2)
    best, place = -math.inf, None
    for column, groups in enumerate(enough):
        if len(groups) < 2:
            continue
        share = hits[groups, column] / rows[groups, column]
        low, high = _wilson(share, rows[groups, column], quantile)
        apart = _by_ratio if by_ratio else _by_difference
        found = apart(share, low, high, surest=surest)  # (higher group, lower group)
        found = np.where(share[None, :] >= share[:, None], found.T, found)
        found[np.tril_indices(len(groups))] = -math.inf
        first = int(found.argmax())
        if place is None or found.flat[first] > best:
            one, other = divmod(first, len(groups))
            best, place = float(found.flat[first]), (column, int(groups[one]), int(groups[other]))
    return None if place is None else (place, pairs)


def _wilson(share: Shares, rows: Counts, quantile: float) -> tuple[Shares, Shares]:
    """The bounds that `wilson` gives."""
    square = quantile * quantile
    centre = (share + square / (2 * rows)) / (1 + square / rows)
    half = quantile * np.sqrt(share * (1 - share) / rows + square / (4 * rows * rows)) / (1 + square / rows)
    return np.minimum(np.maximum(0.0, centre - half), share), np.maximum(np.minimum(1.0, centre + half), share)


def _by_difference(share: Shares, low: Shares, high: Shares, *, surest: bool) -> Shares:
    """Newcombe's lower bound of each difference, or the difference."""
    apart = share[:, None] - share[None, :]
    return apart - np.hypot((share - low)[:, None], (high - share)[None, :]) if surest else apart


def _by_ratio(share: Shares, low: Shares, high: Shares, *, surest: bool) -> Shares:
    """Less Donner and Zou's upper bound of each ratio of the lower by the higher, or less the ratio."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = share[None, :] / share[:, None]
        if surest:
            product = share[:, None] * share[None, :]
            above = (low * (2 * share - low))[:, None]
            square = product**2 - (high * (2 * share - high))[None, :] * above
            bound = (product + np.sqrt(np.maximum(0.0, square))) / above
            ratio = np.maximum(np.where(above > 1e-12, bound, np.inf), ratio)
    return np.where(share[:, None] > 0.0, -ratio, -np.inf)
