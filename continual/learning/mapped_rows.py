"""Rows as heads see them, mapped once however many heads are asked about them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MappedRows", "mapped_once", "mapped_rows", "name_of"]

_MOST_KEPT = 2**23  # numbers of each kind: 64 MB
_AT_ONCE, _MOST_ROWS = 2**21, 2048  # numbers (16 MB) and rows mapped at a time
_DIGEST = 16  # bytes
_ALL_OF_IT = 0.5  # of a block: where so many of its rows are asked about, all are multiplied and none is copied
Floats = NDArray[np.float64]
Embeddings = NDArray[np.floating[Any]]
Weight = NDArray[np.floating[Any]]  # (D, C)
Mapped = Callable[[Embeddings], Floats]
Words = Callable[[Sequence[str]], Floats]


class MappedRows:
    """Features by embedding and by text; one thread at a time may ask.

    What does not fit in is mapped as often as it is asked for.

    >>> known, way = MappedRows(), name_of(np.zeros((2, 4), np.float32), np.zeros(4, np.float32))
    >>> known.of_embeddings(np.ones((3, 2)), way, lambda X: np.cos(X @ np.zeros((2, 4))), np.ones((4, 1))).tolist()
    [[4.0], [4.0], [4.0]]
    """

    def __init__(self) -> None:
        self._embeddings, self._words = _Blocks(), _Blocks()

    def of_embeddings(self, X: Embeddings, way: bytes, mapped: Mapped, weight: Weight) -> NDArray[Any]:
        """The features of embeddings (rows, d), times a weight (D, C) in its precision.

        `mapped` makes them; its `way` is told from others by `name_of`.
        """
        return self._embeddings.times(_of_embeddings(X, way), lambda rows: mapped(X[rows]), weight)

    def of_words(self, texts: Sequence[str], words: Words, weight: Weight) -> NDArray[Any]:
        """The features of texts, times a weight (L, C) in its precision; what `words` prints tells it from others."""
        return self._words.times(_of_texts(texts, words), lambda rows: words([texts[row] for row in rows]), weight)

    def note_embeddings(self, X: Embeddings, way: bytes, features: Floats) -> None:
        """Have these features (rows, D) stand for what embeddings would be mapped to in this way."""
        self._embeddings.keep(_of_embeddings(X, way), features)

    def note_words(self, texts: Sequence[str], words: Words, features: Floats) -> None:
        """Have these features (rows, L) stand for what texts would be mapped to."""
        self._words.keep(_of_texts(texts, words), features)


_known: ContextVar[MappedRows | None] = ContextVar("mapped_rows", default=None)


@contextmanager
def mapped_once(known: MappedRows | None = None) -> Iterator[None]:
    """Inside, rows are mapped once for all heads that see them alike, and those that are `known` not at all.

    What it has of its own stays in memory until the end.

    >>> with mapped_once():
    ...     mapped_rows() is None
    False
    """
    token = _known.set(MappedRows() if known is None else known)
    try:
        yield
    finally:
        _known.reset(token)


def mapped_rows() -> MappedRows | None:
    """Those of the `mapped_once` that is around; None outside of any."""
    return _known.get()


def name_of(omega: NDArray[Any], phase: NDArray[Any]) -> bytes:
    """What tells one map by random Fourier features from others: its directions (d, D) and phases (D,).

    >>> one, other = (name_of(np.full((2, 3), each), np.zeros(3)) for each in (1.0, 2.0))
    >>> one == other, one == name_of(np.full((2, 3), 1.0, np.float32), np.zeros(3, np.float32))
    (False, True)
    """
    told = hashlib.blake2b(repr(omega.shape).encode(), digest_size=_DIGEST)
    for array in (omega, phase):
        told.update(np.ascontiguousarray(array, dtype=np.float32).data)
    return told.digest()


class _Blocks:
    """Features in the blocks in which they were mapped, and where each row lies."""

    def __init__(self) -> None:
        self._blocks: list[Floats] = []
        self._place: dict[bytes, tuple[int, int]] = {}
        self._size = 0

    def keep(self, keys: Sequence[bytes], features: Floats) -> bool:
        """Whether it fitted in."""
        if self._size + features.size > _MOST_KEPT:
            return False
        self._size += features.size
        self._place.update((key, (len(self._blocks), row)) for row, key in enumerate(keys))
        self._blocks.append(features)
        return True

    def times(self, keys: Sequence[bytes], mapped: Callable[[list[int]], Floats], weight: Weight) -> NDArray[Any]:
        """The rows' features times a weight (D, C); those that are not known are `mapped` by their places, in blocks.

        A block that does not fit in is multiplied at once.
        """
        result = np.empty((len(keys), weight.shape[1]), weight.dtype)
        strange = [row for row, key in enumerate(keys) if key not in self._place]
        size = min(_MOST_ROWS, max(1, _AT_ONCE // max(1, len(weight))))
        for block_rows in (strange[start : start + size] for start in range(0, len(strange), size)):
            features = mapped(block_rows)
            if not self.keep([keys[row] for row in block_rows], features):
                result[block_rows] = features.astype(weight.dtype, copy=False) @ weight
        asked: dict[int, tuple[list[int], list[int]]] = {}
        for row, key in enumerate(keys):
            if (place := self._place.get(key)) is not None:
                rows, places = asked.setdefault(place[0], ([], []))
                rows.append(row)
                places.append(place[1])
        for number, (rows, places) in asked.items():
            block = self._blocks[number]
            if len(places) < _ALL_OF_IT * len(block):
                result[rows] = block[places].astype(weight.dtype, copy=False) @ weight
            else:
                result[rows] = (block.astype(weight.dtype, copy=False) @ weight)[places]
        return result


def _of_embeddings(X: Embeddings, way: bytes) -> list[bytes]:
    told = way + X.dtype.str.encode()
    return [hashlib.blake2b(row.tobytes(), key=told, digest_size=_DIGEST).digest() for row in X]


def _of_texts(texts: Sequence[str], words: Words) -> list[bytes]:
    told = hashlib.blake2b(repr(words).encode(), digest_size=_DIGEST).digest()
    return [
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=told, digest_size=_DIGEST).digest() for text in texts
    ]
