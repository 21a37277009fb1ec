"""Rows drawn from sums: what a network can rehearse of classes whose rows were not stored."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EmbeddingSums"]

Floats = NDArray[np.float64]


class EmbeddingSums:
    """Counts and sums a class, and one sum of outer products, from which made-up embeddings are drawn.

    They are normal around the class's mean with the covariance that all classes share, then brought to length 1.
    Memory, whatever the number of rows: `nbytes`, in float32 118 kB for the sums and 296 kB for the triangle of outer
    products at 77 classes and 384 numbers; as much as 270 stored rows of 384 numbers.

    Source: pseudo-rehearsal, Robins 1995; with Gaussian features as in FeTrIL's and PASS's line, Zhu et al., CVPR 2021.

    >>> sums = EmbeddingSums(classes=2, dimension=2)
    >>> sums.add(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1]))
    >>> sums.draw(3, [1], np.random.default_rng(0))[1].tolist()
    [1, 1, 1]
    """

    def __init__(self, *, classes: int, dimension: int) -> None:
        self._counts = np.zeros(classes)
        self._sums: Floats = np.zeros((classes, dimension))
        self._outer: Floats = np.zeros((dimension, dimension))
        self._means: Floats = self._sums
        self._root: Floats | None = None

    @property
    def nbytes(self) -> int:
        """What the sums take in float32, of the symmetric matrix one triangle."""
        dimension = self._outer.shape[0]
        return 4 * (self._counts.size + self._sums.size + dimension * (dimension + 1) // 2)

    def add(self, X: NDArray[np.floating[Any]], truth: NDArray[np.int64]) -> None:
        """Learn rows X (rows, d) of classes truth (rows,)."""
        rows = X.astype(np.float64)
        np.add.at(self._sums, truth, rows)
        self._counts += np.bincount(truth, minlength=len(self._counts))
        self._outer += rows.T @ rows
        self._root = None

    def draw(
        self, rows: int, classes: Sequence[int], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return made-up embeddings (rows, d) of unit length, and their classes, drawn evenly from those named."""
        if not rows:
            return np.zeros((0, self._sums.shape[1]), dtype=np.float32), np.zeros(0, dtype=np.int64)
        if self._root is None:
            self._means = self._sums / np.maximum(self._counts, 1.0)[:, None]
            scatter = self._outer - (self._means * self._counts[:, None]).T @ self._means
            scatter /= self._counts.sum()
            scatter.flat[:: len(scatter) + 1] += 1e-6
            self._root = np.linalg.cholesky(scatter)
        chosen = rng.choice(np.asarray(classes, dtype=np.int64), rows)
        made = self._means[chosen] + rng.standard_normal((rows, len(self._root))) @ self._root.T
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        return made.astype(np.float32), chosen
