"""The strongest ties of each item, few enough that a list of a hundred thousand items is made in milliseconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking.recommender import Recommender
from perennial.continual.learning.ranking.text_index import IndexSettings, TextIndex

__all__ = ["Neighbours"]

_CELLS = 25_600_000  # at a time: 102 MB
Table = tuple[NDArray[np.int32], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """For each item, which others its liking moves most, and by how much; the rest of the structure is let go.

    A row's ties are in the order of their strength. Rows are items as they are alike, then, where sequels count, the
    same items as they follow each other: a liked item has two rows then, each with a weight of its own.

    >>> ties = Neighbours(places=np.array([[1], [0]]), values=np.array([[2.0], [1.0]]), popular=np.zeros(2))
    >>> ties.scores([0], [0.5], popular=0.0).tolist()
    [0.0, 1.0]
    """

    places: NDArray[np.int32]  # (rows, ties)
    values: NDArray[np.float32]  # (rows, ties)
    popular: NDArray[np.float32]  # (items,), 1 for the most liked

    def __post_init__(self) -> None:
        if self.places.shape != self.values.shape or len(self.places) % max(1, len(self.popular)):
            shapes = f"{self.places.shape}, {self.values.shape} and {self.popular.shape}"
            raise DataError(f"ties of shapes {shapes} are not of one catalogue; give one row an item of each")

    @classmethod
    def of(cls, model: Recommender, most: int = 64, index: IndexSettings | None = None) -> "Neighbours":
        """The `most` strongest ties of every item of a model's catalogue.

        With an `index`, the ties of items outside the structure, which their texts alone make, are looked up in one.

        Raises:
            DependencyUnreachable, ExportFailed: as `TextIndex`.
        """
        count = len(model.items)
        if index is None or not index.on or count < index.from_items:
            tables = [_strongest(model.ties, range(count), count, most)]
        else:
            tables = [_indexed(model, most, index)]
        if model.has_sequels:
            tables.append(_strongest(model.sequels, model.leading, count, most))
        places, values = (np.concatenate(parts) for parts in zip(*tables, strict=True))
        return cls(places=places, values=values, popular=model.popular)

    def strongest(self, most: int) -> "Neighbours":
        """The same with at most so many ties of each item."""
        return Neighbours(places=self.places[:, :most], values=self.values[:, :most], popular=self.popular)

    def scores(self, liked: Sequence[int], weights: Sequence[float], *, popular: float) -> NDArray[np.float32]:
        """A score for every item (items,), for items liked with these weights; what the compiled graph computes."""
        found = np.float32(popular) * self.popular
        for place, weight in zip(liked, weights, strict=True):
            np.add.at(found, self.places[place], np.float32(weight) * self.values[place])
        return found


def _strongest(
    ties_of: Callable[[Sequence[int]], NDArray[np.float32]], rows: Sequence[int], count: int, most: int
) -> Table:
    """The strongest ties of some items, the strongest first: where they lead, and their values; others have none."""
    width, at_once = min(most, count), max(1, _CELLS // count)
    places, values = np.zeros((count, width), np.int32), np.zeros((count, width), np.float32)
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        ties = ties_of(some)
        strength = -np.abs(ties)
        strongest = np.argpartition(strength, width - 1, axis=1)[:, :width]
        order = np.argsort(np.take_along_axis(strength, strongest, axis=1), axis=1, kind="stable")
        strongest = np.take_along_axis(strongest, order, axis=1)
        places[some] = strongest
        values[some] = np.take_along_axis(ties, strongest, axis=1)
    return places, values


def _indexed(model: Recommender, most: int, index: IndexSettings) -> Table:
    """The same, of items outside the structure by the index of texts."""
    count = len(model.items)
    places, values = _strongest(model.ties, model.structured, count, most)
    others = np.setdiff1d(np.arange(count), model.structured)
    if model.blend.text and len(others):
        for some, cosines, where in TextIndex(model.texts, min(most, count), index).nearest(others.tolist()):
            places[some], values[some] = where, np.float32(model.blend.text) * cosines
    return places, values
