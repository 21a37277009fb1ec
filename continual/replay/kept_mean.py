"""The kept rows of one class beside the mean of all its rows, and which of them can best be spared."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["GRID", "KeptMean"]

GRID = 2.0**16  # unit vectors on multiples of 1 / GRID: their inner products with sums are exact up to 2**21 rows

Floats = NDArray[np.float64]


class KeptMean:
    """Vectors of the kept rows, side by side, and the sum over every row of the class that was ever offered.

    All vectors are multiples of 1 / GRID and at most 1 long: every sum, and every inner product with a sum, is exact,
    whatever the order of additions and removals and whichever way a matrix product adds up.

    >>> group = KeptMean(width=1)
    >>> for name, x in ((b"low", 0.0), (b"high", 1.0), (b"middle", 0.5)):
    ...     group.count(np.array([x])); group.put(name, np.array([x]))
    >>> group.spare()
    [b'middle']
    >>> group.spare(np.array([0.4]))  # a newcomer, nameless until it is put
    [b'']
    """

    def __init__(self, width: int) -> None:
        self._sums: Floats = np.zeros((2, width))  # over all rows, and over the kept ones
        self.all_sum: Floats = self._sums[0]
        self._kept_sum: Floats = self._sums[1]
        self.all_rows = 0
        self._vectors: Floats = np.zeros((4, width))
        self._half_squares: Floats = np.zeros(4)
        self._names: list[bytes] = []
        self._rows: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._names)

    def count(self, vector: Floats) -> None:
        """Let a row count in the mean of all rows."""
        self.all_sum += vector
        self.all_rows += 1

    def discount(self, vector: Floats) -> None:
        """Let a row count in the mean of all rows no longer."""
        self.all_sum -= vector
        self.all_rows -= 1

    def put(self, name: bytes, vector: Floats) -> None:
        """Keep a row; O(width)."""
        row = len(self._names)
        self._write(row, vector)
        self._kept_sum += vector
        self._names.append(name)
        self._rows[name] = row

    def drop(self, name: bytes) -> None:
        """Keep a row no longer; the last one takes its place, O(width)."""
        row, last = self._rows.pop(name), len(self._names) - 1
        self._kept_sum -= self._vectors[row]
        if row != last:
            moved = self._names[last]
            self._vectors[row], self._half_squares[row] = self._vectors[last], self._half_squares[last]
            self._names[row], self._rows[moved] = moved, row
        self._names.pop()

    def spare(self, newcomer: Floats | None = None) -> list[bytes]:
        """Return the row without which the kept mean lies closest to the mean of all; several when they tie.

        That is the row nearest to what the others would have too much: sum of kept - (kept - 1) x mean of all. A
        `newcomer` takes part under the empty name, as if it were kept.
        """
        names, kept = self._names, len(self._names)
        if newcomer is not None:
            self._write(kept, newcomer)
            self._kept_sum += newcomer
            kept += 1
        products = self._vectors[:kept] @ self._sums.T  # (kept, 2)
        if newcomer is not None:
            self._kept_sum -= newcomer
        distance = products[:, 0] * ((kept - 1) / self.all_rows)  # half the squared one, up to a constant
        distance -= products[:, 1]
        distance += self._half_squares[:kept]
        nearest = (distance == distance[distance.argmin()]).nonzero()[0].tolist()
        return [names[row] if row < len(names) else b"" for row in nearest]

    def _write(self, row: int, vector: Floats) -> None:
        if row == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
            self._half_squares = np.concatenate([self._half_squares, np.zeros_like(self._half_squares)])
        self._vectors[row] = vector
        self._half_squares[row] = 0.5 * vector.dot(vector)
