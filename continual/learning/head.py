"""A solved head: what an exporter bakes into the graph."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.calibration import Link
from perennial.continual.learning.fourier import FourierFeatures, WideFourier
from perennial.continual.learning.lexical import LexicalFeatures

__all__ = ["HeadWeights", "Priors", "RowFeatures", "WideHead", "mapped_once", "note_mapped"]

_BLOCK = 2048  # rows mapped at a time
_MOST_KEPT = 2**23  # features of embeddings that `mapped_once` keeps: 64 MB, and those of words beside them


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


_mapped_before: ContextVar[dict[bytes, RowFeatures] | None] = ContextVar("mapped_before", default=None)


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
        self._fourier: WideFourier | None = None

    def logits(self, X: NDArray[np.floating[Any]], texts: Sequence[str] | None = None) -> NDArray[np.float64]:
        """See `HeadWeights.logits`."""
        head = self._head
        if head.lexical is not None and head.words is not None and texts is None:
            raise DataError("this head reads the words and letters of a text too; give the texts with the embeddings")
        blocks = [slice(start, start + _BLOCK) for start in range(0, len(X), _BLOCK)]
        scores = [self.scores(self._mapped(X[rows], None if texts is None else texts[rows])) for rows in blocks]
        return np.concatenate(scores) if scores else np.empty((0, len(head.labels)))

    def scores(self, rows: RowFeatures) -> NDArray[np.float64]:
        """See `HeadWeights.scores`."""
        scores: NDArray[np.float64] = rows.of_embeddings @ self._weight + self._head.bias
        if self._lexical is None or self._head.words is None:
            return scores
        if rows.of_words is None:
            raise DataError("this head reads the words and letters of a text too; map the texts with the embeddings")
        scores += rows.of_words @ self._lexical
        return scores if self._head.link is None else self._head.link(scores).astype(np.float64)

    def _mapped(self, X: NDArray[np.floating[Any]], texts: Sequence[str] | None) -> RowFeatures:
        head, kept = self._head, _mapped_before.get()
        if kept is None:
            return self._map(X, texts)
        known = kept.get(_key(head, X, texts))
        if known is None:
            known = self._map(X, texts)
            note_mapped(head, X, texts, known)
        return known

    def _map(self, X: NDArray[np.floating[Any]], texts: Sequence[str] | None) -> RowFeatures:
        head = self._head
        if self._fourier is None:
            self._fourier = WideFourier(FourierFeatures(omega=head.omega, phase=head.phase))
        return RowFeatures(
            of_embeddings=self._fourier(X), of_words=None if head.words is None or texts is None else head.words(texts)
        )


@contextmanager
def mapped_once() -> Iterator[None]:
    """Inside, rows are mapped once for all heads that see them alike; so many features stay in memory until the end.

    >>> head = HeadWeights(labels=("a",), omega=np.zeros((2, 2), np.float32), phase=np.zeros(2, np.float32),
    ...                    weight=np.eye(1, 2, dtype=np.float32), bias=np.zeros(1, np.float32), temperature=1.0)
    >>> with mapped_once():
    ...     [WideHead(each).logits(np.ones((1, 2))).tolist() for each in (head, head.cooled(2.0))]
    [[[1.0]], [[0.5]]]
    """
    token = _mapped_before.set({})
    try:
        yield
    finally:
        _mapped_before.reset(token)


def note_mapped(
    head: HeadWeights, X: NDArray[np.floating[Any]], texts: Sequence[str] | None, rows: RowFeatures
) -> None:
    """Within `mapped_once`, have these features of rows stand for what this head, or one alike, would map them to."""
    kept = _mapped_before.get()
    if kept is None:
        return
    if sum(each.of_embeddings.size for each in kept.values()) + rows.of_embeddings.size <= _MOST_KEPT:
        kept[_key(head, X, texts)] = rows


def _key(head: HeadWeights, X: NDArray[np.floating[Any]], texts: Sequence[str] | None) -> bytes:
    """Names the features of rows, whichever head maps them."""
    seen = hashlib.blake2b(repr((X.dtype.str, X.shape, head.omega.shape, head.words)).encode())
    for array in (X, head.omega, head.phase):
        seen.update(np.ascontiguousarray(array).data)
    if head.words is not None and texts is not None:
        seen.update("\0".join(map(repr, texts)).encode("utf-8", "surrogatepass"))
    return seen.digest()
