"""The strongest ties of each item, few enough that a list of a hundred thousand items is made in milliseconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking.recommender import Recommender

__all__ = ["Neighbours"]

_ROWS = 256  # at a time: 256 x 100,000 x 4 bytes = 102 MB


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
    def of(cls, model: Recommender, most: int = 64) -> "Neighbours":
        """The `most` strongest ties of every item of a model's catalogue."""
        count = len(model.items)
        tables = [_strongest(model.ties, count, most)]
        if model.has_sequels:
            tables.append(_strongest(model.sequels, count, most))
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
    ties_of: Callable[[Sequence[int]], NDArray[np.float32]], count: int, most: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The strongest ties of every item, the strongest first: where they lead, and their values."""
    width = min(most, count)
    places, values = np.zeros((count, width), np.int32), np.zeros((count, width), np.float32)
    for start in range(0, count, _ROWS):
        rows = range(start, min(start + _ROWS, count))
        ties = ties_of(rows)
        strength = -np.abs(ties)
        strongest = np.argpartition(strength, width - 1, axis=1)[:, :width]
        order = np.argsort(np.take_along_axis(strength, strongest, axis=1), axis=1, kind="stable")
        strongest = np.take_along_axis(strongest, order, axis=1)
        places[rows.start : rows.stop] = strongest
        values[rows.start : rows.stop] = np.take_along_axis(ties, strongest, axis=1)
    return places, values
