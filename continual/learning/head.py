"""A solved head: what an exporter bakes into the graph."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.calibration import Link
from perennial.continual.learning.fourier import FourierFeatures, WideFourier
from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.learning.mapped_rows import MappedRows, mapped_rows, name_of

__all__ = ["HeadWeights", "Priors", "RowFeatures", "WideHead", "note_mapped"]

_BLOCK = 2048  # rows mapped at a time


class Priors(StrEnum):
    """What the head believes about class frequencies before it reads a text."""

    UNIFORM = "uniform"
    EMPIRICAL = "empirical"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFeatures:
    """Rows as a head sees them, mapped once for all that is asked about them.

    >>> RowFeatures(of_embeddings=np.zeros((2, 4))).of_words is None
    True
    """

    of_embeddings: NDArray[np.float64]  # (rows, D)
    of_words: NDArray[np.float64] | None = None  # (rows, L)


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
        return WideHead(self).logits(X, texts)

    def mapped(self, X: NDArray[np.floating[Any]], texts: Sequence[str] | None) -> RowFeatures:
        """Rows as this head sees them, and every other one whose features are the same."""
        return RowFeatures(
            of_embeddings=FourierFeatures(omega=self.omega, phase=self.phase)(X),
            of_words=None if self.words is None or texts is None else self.words(texts),
        )

    def sees_as(self, other: "HeadWeights") -> bool:
        """Whether rows that the other has mapped are mapped for this one too."""
        same = np.array_equal(self.omega, other.omega) and np.array_equal(self.phase, other.phase)
        return same and self.words == other.words

    def scores(self, rows: RowFeatures) -> NDArray[np.float64]:
        """The logits of rows that are mapped already; see `logits`."""
        return WideHead(self).scores(rows)

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


class WideHead:
    """A head with its numbers in float64, in which it answers: for whoever asks it again and again.

    >>> head = HeadWeights(labels=("a",), omega=np.zeros((2, 2), np.float32), phase=np.zeros(2, np.float32),
    ...                    weight=np.eye(1, 2, dtype=np.float32), bias=np.zeros(1, np.float32), temperature=1.0)
    >>> WideHead(head).logits(np.ones((1, 2))).tolist()
    [[1.0]]
    """

    def __init__(self, head: HeadWeights) -> None:
        self._head = head
        self._weight = head.weight.astype(np.float64).T
        self._lexical = None if head.lexical is None else head.lexical.astype(np.float64).T

    def logits(self, X: NDArray[np.floating[Any]], texts: Sequence[str] | None = None) -> NDArray[np.float64]:
        """See `HeadWeights.logits`."""
        head, known = self._head, mapped_rows()
        if head.lexical is not None and head.words is not None and texts is None:
            raise DataError("this head reads the words and letters of a text too; give the texts with the embeddings")
        if known is not None:
            return self._of_known(known, X, texts)
        blocks = [slice(start, start + _BLOCK) for start in range(0, len(X), _BLOCK)]
        scores = [self.scores(self._map(X[rows], None if texts is None else texts[rows])) for rows in blocks]
        return np.concatenate(scores) if scores else np.empty((0, len(head.labels)))

    def _of_known(
        self, known: MappedRows, X: NDArray[np.floating[Any]], texts: Sequence[str] | None
    ) -> NDArray[np.float64]:
        """The same with rows that need not be mapped again."""
        head = self._head
        scores: NDArray[np.float64] = known.of_embeddings(X, self._way, self._wide, self._weight) + head.bias
        if self._lexical is None or head.words is None or texts is None:
            return scores
        scores += known.of_words(texts, head.words, self._lexical)
        return scores if head.link is None else head.link(scores).astype(np.float64)

    def scores(self, rows: RowFeatures) -> NDArray[np.float64]:
        """See `HeadWeights.scores`."""
        scores: NDArray[np.float64] = rows.of_embeddings @ self._weight + self._head.bias
        if self._lexical is None or self._head.words is None:
            return scores
        if rows.of_words is None:
            raise DataError("this head reads the words and letters of a text too; map the texts with the embeddings")
        scores += rows.of_words @ self._lexical
        return scores if self._head.link is None else self._head.link(scores).astype(np.float64)

    @cached_property
    def _way(self) -> bytes:
        return name_of(self._head.omega, self._head.phase)

    @cached_property
    def _wide(self) -> WideFourier:
        return WideFourier(FourierFeatures(omega=self._head.omega, phase=self._head.phase))

    def _map(self, X: NDArray[np.floating[Any]], texts: Sequence[str] | None) -> RowFeatures:
        words = self._head.words
        return RowFeatures(
            of_embeddings=self._wide(X), of_words=None if words is None or texts is None else words(texts)
        )


def note_mapped(
    head: HeadWeights, X: NDArray[np.floating[Any]], texts: Sequence[str] | None, rows: RowFeatures
) -> None:
    """Within `mapped_once`, have these features of rows stand for what this head, or one alike, would map them to."""
    known = mapped_rows()
    if known is None:
        return
    known.note_embeddings(X, name_of(head.omega, head.phase), rows.of_embeddings)
    if head.words is not None and texts is not None and rows.of_words is not None:
        known.note_words(texts, head.words, rows.of_words)
