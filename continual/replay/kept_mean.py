"""The kept rows of one class beside the mean of all its rows, and which of them can best be spared."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["GRID", "KeptMean"]

GRID = 2.0**20  # vectors lie on multiples of 1 / GRID, so that their sums in float64 are exact up to 2**32 rows

Floats = NDArray[np.float64]


class KeptMean:
    """Vectors of the kept rows, side by side, and the sum over every row of the class that was ever offered.

    All vectors are multiples of 1 / GRID with components in [-1, 1]: every sum is exact, whatever the order of
    additions and removals.

    >>> group = KeptMean(width=1)
    >>> for name, x in ((b"low", 0.0), (b"high", 1.0), (b"middle", 0.5)):
    ...     group.count(np.array([x])); group.put(name, np.array([x]))
    >>> group.spare()
    [b'middle']
    >>> group.spare(np.array([0.4]))  # a newcomer, nameless until it is put
    [b'']
    """

    def __init__(self, width: int) -> None:
        self.all_sum: Floats = np.zeros(width)
        self.all_rows = 0
        self._sum: Floats = np.zeros(width)
        self._vectors: Floats = np.zeros((4, width))
        self._squares: Floats = np.zeros(4)
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
        self._sum += vector
        self._names.append(name)
        self._rows[name] = row

    def drop(self, name: bytes) -> None:
        """Keep a row no longer; the last one takes its place, O(width)."""
        row, last = self._rows.pop(name), len(self._names) - 1
        self._sum -= self._vectors[row]
        if row != last:
            moved = self._names[last]
            self._vectors[row], self._squares[row] = self._vectors[last], self._squares[last]
            self._names[row], self._rows[moved] = moved, row
        self._names.pop()

    def spare(self, newcomer: Floats | None = None) -> list[bytes]:
        """Return the row without which the kept mean lies closest to the mean of all; several when they tie.

        That is the row nearest to what the others would have too much: sum of kept - (kept - 1) x mean of all. A
        `newcomer` takes part under the empty name, as if it were kept.
        """
        kept, total = len(self._names), self._sum
        if newcomer is not None:
            self._write(kept, newcomer)
            kept, total = kept + 1, total + newcomer
        surplus = total - self.all_sum * ((kept - 1) / self.all_rows)
        distance = np.einsum("kw,w->k", self._vectors[:kept], surplus)  # each row alike, unlike a BLAS product
        distance *= -2.0
        distance += self._squares[:kept]
        nearest = (distance == distance[distance.argmin()]).nonzero()[0]
        return [self._names[row] if row < len(self._names) else b"" for row in nearest]

    def _write(self, row: int, vector: Floats) -> None:
        if row == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
            self._squares = np.concatenate([self._squares, np.zeros_like(self._squares)])
        self._vectors[row] = vector
        self._squares[row] = vector @ vector
