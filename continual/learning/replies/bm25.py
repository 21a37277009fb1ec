"""Words in common, rare ones heavier: BM25, as a share of the most that a question could get."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["Bm25", "words_of"]

_WORD = re.compile(r"\w+")
_SATURATION, _LENGTH = 1.2, 0.75  # k1 and b, as nearly everybody has them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bm25:
    """A collection of documents to be searched.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.

    >>> found = Bm25.of(["a lost card", "a new card", "a loan"])(["my card is lost"])
    >>> int(found.argmax()), bool(found[0, 2] < found[0, 1] < found[0, 0] < 1)
    (0, True)
    """

    place: dict[str, int]
    rarity: NDArray[np.float32]  # (words,)
    weights: sparse.csc_matrix  # (documents, words)

    @classmethod
    def of(cls, documents: Sequence[str]) -> "Bm25":
        """The documents, in their order."""
        return cls.of_words([words_of(text) for text in documents])

    @classmethod
    def of_words(cls, documents: Sequence[Sequence[str]]) -> "Bm25":
        """The documents, each as its words."""
        counted = [Counter(words) for words in documents]
        place: dict[str, int] = {}
        rows, columns, counts = [], [], []
        for row, words in enumerate(counted):
            for word, count in words.items():
                rows.append(row)
                columns.append(place.setdefault(word, len(place)))
                counts.append(count)
        at, often = np.array(rows, dtype=np.int64), np.array(counts, dtype=np.float32)
        lengths = np.bincount(at, often, minlength=len(documents)) if len(at) else np.zeros(len(documents))
        column = np.array(columns, dtype=np.int64)
        held = np.bincount(column, minlength=len(place))
        rarity = np.log1p((len(documents) - held + 0.5) / (held + 0.5)).astype(np.float32)
        relative = lengths / max(float(lengths.mean()), 1.0) if len(documents) else lengths
        damping = _SATURATION * (1 - _LENGTH + _LENGTH * relative[at])
        values = often * (_SATURATION + 1) / (often + damping) * rarity[column]
        shape = (len(documents), len(place))
        return cls(
            place=place,
            rarity=rarity,
            weights=sparse.csc_matrix((values.astype(np.float32), (at, column)), shape=shape),
        )

    def __call__(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """How much of each question each document has (questions, documents), 0 to about 1."""
        found = np.zeros((len(questions), self.weights.shape[0]), dtype=np.float32)
        for row, text in enumerate(questions):
            words = [self.place[word] for word in set(words_of(text)) if word in self.place]
            if words:
                most = (_SATURATION + 1) * float(self.rarity[words].sum())
                found[row] = np.asarray(self.weights[:, words].sum(axis=1)).ravel() / most
        return found


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared.

    >>> words_of("Where's my CARD?")
    ['where', 's', 'my', 'card']
    """
    return _WORD.findall(text.casefold())
