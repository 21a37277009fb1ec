"""What items say in words, so that one that nobody has liked yet is near those that it resembles."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perennial.continual.learning.ranking.events import Item

__all__ = ["ItemTexts", "words_of"]

_WORD = re.compile(r"\w+")
_YEAR = re.compile(r"(1[89]|20)\d\d")


def words_of(text: str) -> tuple[str, ...]:
    """The words of an item's text; a year also says its decade, so that neighbouring years are alike.

    >>> words_of("Brief Encounter (1945) Drama|Romance")
    ('brief', 'encounter', '1945', '1940s', 'drama', 'romance')
    """
    found: list[str] = []
    for word in _WORD.findall(text.casefold()):
        found.append(word)
        if _YEAR.fullmatch(word):
            found.append(f"{word[:3]}0s")
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTexts:
    """One row of length 1 an item: its words, rare ones heavier. An item without words is near to nothing.

    Source: Robertson, "Understanding inverse document frequency", Journal of Documentation 60(5), 2004.

    >>> texts = ItemTexts.of([Item(name="a", text="green tea"), Item(name="b", text="black tea"),
    ...                       Item(name="c", text="chair")])
    >>> [round(value, 1) for value in texts.similarity([0])[0].tolist()]
    [1.0, 0.1, 0.0]
    """

    names: tuple[str, ...]
    vocabulary: tuple[str, ...]  # sorted
    rows: sparse.csr_matrix  # (items, words) float32

    @classmethod
    def of(cls, items: Sequence[Item]) -> "ItemTexts":
        """The texts of a catalogue, in its order."""
        counted = [frozenset(words_of(item.text)) for item in items]
        shared = Counter(word for words in counted for word in words)
        vocabulary = tuple(sorted(shared))
        place = {word: number for number, word in enumerate(vocabulary)}
        rarity = np.array([np.log(len(items) / shared[word]) for word in vocabulary])
        where = [sorted(place[word] for word in words) for words in counted]
        starts = np.concatenate([[0], np.cumsum([len(places) for places in where])]).astype(np.int64)
        columns = np.array([column for places in where for column in places], dtype=np.int64)
        rows = sparse.csr_matrix((rarity[columns], columns, starts), shape=(len(items), len(vocabulary)))
        lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
        scale = sparse.diags(np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0))
        return cls(
            names=tuple(item.name for item in items),
            vocabulary=vocabulary,
            rows=sparse.csr_matrix(scale @ rows, dtype=np.float32),
        )

    def part(self, places: Sequence[int]) -> "ItemTexts":
        """The texts of some of the items, in this order."""
        names = tuple(self.names[place] for place in places)
        return ItemTexts(names=names, vocabulary=self.vocabulary, rows=self.rows[list(places)])

    def similarity(self, places: Sequence[int]) -> NDArray[np.float32]:
        """How alike each of these items is to every item: cosines (places, items)."""
        return np.asarray((self.rows[list(places)] @ self.rows.T).toarray(), dtype=np.float32)

    def among(self, places: Sequence[int]) -> NDArray[np.float32]:
        """How alike these items are to each other: cosines (places, places)."""
        chosen = self.rows[list(places)]
        return np.asarray((chosen @ chosen.T).toarray(), dtype=np.float32)

    def near(self, places: Sequence[int], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """The weighted sum of `similarity` over places (items,), without making it."""
        liked = self.rows[list(places)].T @ weights  # (words,)
        return np.asarray(self.rows @ liked, dtype=np.float32)

    def about(self, wanted: Mapping[str, float]) -> NDArray[np.float32]:
        """How much of words with these weights each item has (items,); unknown words say nothing."""
        weights = np.zeros(len(self.vocabulary), dtype=np.float32)
        for word, weight in wanted.items():
            column = bisect_left(self.vocabulary, word)
            if self.vocabulary[column : column + 1] == (word,):
                weights[column] = weight
        return np.asarray(self.rows @ weights, dtype=np.float32)
