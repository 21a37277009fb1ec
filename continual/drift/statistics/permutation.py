"""Permutation p-values that stop early when the answer is plain."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError

__all__ = ["Bursts", "exchanged", "in_bursts", "numeric", "sequential_p_value"]

BATCH = 200
"""Draws evaluated at once; bounds memory to BATCH times the pooled rows."""


Bursts = tuple[NDArray[np.int64], NDArray[np.int64]]
"""For the rows of either side the number of the burst each belongs to, (n,) and (m,); no burst is on both sides."""


def in_bursts(reference: NDArray[np.int64], current: NDArray[np.int64]) -> Bursts | None:
    """Return the bursts of both sides, numbered apart; None where every row stands for itself.

    >>> in_bursts(np.array([7, 7, 8]), np.array([7, 9]))
    (array([0, 0, 1]), array([2, 3]))
    """
    if all(len(np.unique(side)) == len(side) for side in (reference, current)):
        return None
    first, second = (np.unique(side, return_inverse=True)[1].astype(np.int64) for side in (reference, current))
    return first, second + int(first.max(initial=-1)) + 1


def exchanged(
    member: NDArray[np.generic], bursts: NDArray[np.int64] | None, rng: np.random.Generator, count: int
) -> NDArray[Any]:
    """Return `count` exchanges of the rows' sides, (count, n): bursts change sides whole, and sides keep their sizes.

    `member` (n,) has two values, the side of each row; `bursts` (n,) the burst of each, None where there is none. One
    burst an exchange is cut, where a side is full.

    >>> sides = exchanged(np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]), np.random.default_rng(1), 50)
    >>> sorted({tuple(row) for row in sides.tolist()})
    [(0, 0, 1, 1), (1, 1, 0, 0)]
    """
    if bursts is None:
        return rng.permuted(np.tile(member, (count, 1)), axis=1)
    sizes = np.bincount(bursts)
    order = rng.permuted(np.tile(np.arange(len(sizes)), (count, 1)), axis=1)  # (count, bursts)
    in_order = sizes[order]
    room = np.count_nonzero(member == member.min()) - (np.cumsum(in_order, axis=1) - in_order)
    filled = np.empty_like(order)
    np.put_along_axis(filled, order, np.clip(room, 0, in_order), axis=1)  # rows of each burst on the first side
    places = np.argsort(bursts, kind="stable")
    rank = np.empty_like(places)
    rank[places] = np.arange(len(bursts)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.where(rank < filled[:, bursts], member.min(), member.max())


def sequential_p_value(
    observed: float, draw: Callable[[int], NDArray[np.float64]], *, limit: int, enough: int = 20
) -> tuple[float, NDArray[np.float64]]:
    """Return the exact p-value of `observed` and the null values drawn on the way.

    `draw(n)` gives n values of the statistic under exchanged group labels; larger means more different. Drawing stops
    at the `enough`-th value that reaches `observed`, so a clean comparison costs some tens of draws and a drifted one
    `limit`. The smallest p-value possible is 1 / (limit + 1).

    Source: Besag and Clifford (1991), Sequential Monte Carlo p-values.

    >>> p, null = sequential_p_value(9.0, lambda n: np.zeros(n), limit=99)
    >>> p, len(null)
    (0.01, 99)
    """
    if limit < 1:
        raise DataError(f"the number of permutations is {limit}; give at least 1")
    drawn: list[NDArray[np.float64]] = []
    count, exceeded = 0, 0
    tolerance = 1e-12 * max(1.0, abs(observed))
    while count < limit:
        values = np.asarray(draw(min(BATCH, limit - count)), dtype=np.float64)
        drawn.append(values)
        hits = np.flatnonzero(values >= observed - tolerance)
        if exceeded + len(hits) >= enough:
            position = count + int(hits[enough - exceeded - 1]) + 1
            return enough / position, np.concatenate(drawn)
        exceeded += len(hits)
        count += len(values)
    return (exceeded + 1) / (limit + 1), np.concatenate(drawn)


def numeric(values: NDArray[np.generic], side: str) -> NDArray[np.float64]:
    """Return the values as float64.

    Raises:
        DataError: fewer than two values, or one that is not finite.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    if len(array) < 2:
        raise DataError(f"the {side} has {len(array)} values; a comparison needs at least 2 on each side")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise DataError(f"the {side} has {bad} values that are not finite; drop these rows before the comparison")
    return array
