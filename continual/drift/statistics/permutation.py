"""Permutation p-values that stop early when the answer is plain."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError

__all__ = ["numeric", "sequential_p_value"]

BATCH = 200
"""Draws evaluated at once; bounds memory to BATCH times the pooled rows."""


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
