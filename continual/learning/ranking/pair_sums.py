"""Whole numbers for ordered pairs, few among many: added to at once, read at once, settled when many have come."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["UNIT", "PairSums", "Whole"]

UNIT = 1 << 16  # a pair at full weight: whole numbers, so that what was added is taken back exactly
_MOST = 4_000_000  # pairs that wait at all: 96 MB
_WAIT = 200_000  # pairs that are searched one by one before they are settled

Whole = NDArray[np.int64]


class PairSums:
    """Sums by pair of places. What is added counts in the next answer, without a rebuilding.

    >>> sums = PairSums()
    >>> sums.add(np.array([0, 0]), np.array([1, 2]), np.array([UNIT, UNIT]))
    >>> sums.weighted([0], [0.5], size=3).tolist()
    [0.0, 0.5, 0.5]
    """

    def __init__(self) -> None:
        self._settled = sparse.csr_matrix((0, 0), dtype=np.int64)
        self._waiting: list[tuple[Whole, Whole, Whole]] = []
        self._count = 0

    def add(self, rows: Whole, columns: Whole, units: Whole) -> None:
        """Add units to pairs; below 0 takes them."""
        self._waiting.append((rows, columns, units))
        self._count += len(rows)
        if self._count > _MOST:
            highest = max(int(max(heads.max(initial=0), ends.max(initial=0))) for heads, ends, _ in self._waiting)
            self.settled(max(self._settled.shape[0], highest + 1))

    def settled(self, size: int) -> sparse.csr_matrix:
        """All sums as a matrix (size, size), with no entry that is 0."""
        if self._waiting:
            rows, columns, units = self._joined()
            self._settled.resize((size, size))
            self._settled = self._settled + sparse.coo_matrix((units, (rows, columns)), shape=(size, size)).tocsr()
            self._settled.eliminate_zeros()
            self._waiting, self._count = [], 0
        elif self._settled.shape[0] < size:
            self._settled.resize((size, size))
        return self._settled

    def weighted(self, rows: list[int], weights: list[float], *, size: int) -> NDArray[np.float64]:
        """The weighted sum of some rows (size,), in units of one."""
        if self._count > _WAIT:
            self.settled(size)
        known = self._settled.shape[0]
        found = np.zeros(size)
        old = [(row, weight) for row, weight in zip(rows, weights, strict=True) if row < known]
        if old:
            chosen, by = zip(*old, strict=True)
            found[:known] = self._settled[list(chosen)].T @ np.array(by)
        if self._waiting:
            weight_of = np.zeros(size)
            weight_of[rows] = weights
            heads, columns, units = self._joined()
            found += np.bincount(columns, weight_of[heads] * units, minlength=size)
        return found / UNIT

    def _joined(self) -> tuple[Whole, Whole, Whole]:
        rows, columns, units = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = [(rows, columns, units)]
        return rows, columns, units
