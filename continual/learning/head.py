"""A solved head: what an exporter bakes into the graph."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.calibration import Link
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.lexical import LexicalFeatures

__all__ = ["HeadWeights", "Priors"]

_BLOCK = 2048  # rows mapped at a time


class Priors(StrEnum):
    """What the head believes about class frequencies before it reads a text."""

    UNIFORM = "uniform"
    EMPIRICAL = "empirical"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadWeights:
    """A solved head: logits = phi(x) weight^T + bias, with the temperature folded in.

    >>> import numpy as np
    >>> head = HeadWeights(labels=("a", "b"), omega=np.zeros((2, 2), np.float32), phase=np.zeros(2, np.float32),
    ...                    weight=np.eye(2, dtype=np.float32), bias=np.zeros(2, np.float32), temperature=1.0)
    >>> head.logits(np.ones((1, 2))).shape
    (1, 2)
    """

    labels: tuple[str, ...]
    omega: NDArray[np.float32]  # (d, D)
    phase: NDArray[np.float32]  # (D,)
    weight: NDArray[np.float32]  # (C, D)
    bias: NDArray[np.float32]  # (C,)
    temperature: float
    lexical: NDArray[np.float32] | None = None  # (C, L), of the words and letters where they are features too
    words: LexicalFeatures | None = None  # how these are read
    link: Link | None = None  # what makes the sum of both parts log probabilities

    def logits(self, X: NDArray[np.floating[Any]], texts: Sequence[str] | None = None) -> NDArray[np.float64]:
        """Calibrated scores (rows, C) for embeddings X (rows, d); softmax of them are the probabilities.

        Raises:
            DataError: the head reads words and letters too, and no texts are given.
        """
        scores = self._of_embeddings(X) + self.bias
        if self.lexical is None or self.words is None:
            return scores
        if texts is None:
            raise DataError("this head reads the words and letters of a text too; give the texts with the embeddings")
        weight = self.lexical.astype(np.float64).T
        for start in range(0, len(X), _BLOCK):
            scores[start : start + _BLOCK] += self.words(texts[start : start + _BLOCK]) @ weight
        return scores if self.link is None else self.link(scores).astype(np.float64)

    def _of_embeddings(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        features = FourierFeatures(omega=self.omega, phase=self.phase)
        blocks = [
            features(X[start : start + _BLOCK]) @ self.weight.astype(np.float64).T for start in range(0, len(X), _BLOCK)
        ]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.labels)))

    def cooled(self, temperature: float) -> "HeadWeights":
        """The same head with its logits divided by `temperature` once more; where it has a link, those before it."""
        if not temperature > 0:
            raise ConfigurationError(f"temperature is {temperature}; it must be positive")
        return replace(
            self,
            weight=(self.weight / temperature).astype(np.float32),
            bias=(self.bias / temperature).astype(np.float32),
            temperature=self.temperature * temperature,
            lexical=None if self.lexical is None else (self.lexical / temperature).astype(np.float32),
            link=None if self.link is None else replace(self.link, slope=self.link.slope * temperature),
        )
