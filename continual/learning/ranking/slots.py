"""Scores become places: within bounds, with places lent to items that nobody knows yet, each choice with its chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.ranking.item_texts import ItemTexts

__all__ = ["Bounds", "Exploration", "Slot", "fill", "most_liked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one list may hold at most; a list that would break them is shorter instead.

    >>> Bounds(most_alike=2).most_alike
    2
    """

    alike: float = 0.9  # cosine of two texts from which they say the same
    most_alike: int | None = None  # items of a list that say the same as one of it; None is as many as there are
    most_popular: int | None = None  # items of a list that are among the most liked hundredth of all

    def __post_init__(self) -> None:
        for name in ("most_alike", "most_popular"):
            value = getattr(self, name)
            if value is not None and value < (1 if name == "most_alike" else 0):
                raise ConfigurationError(f"bounds: {name} is {value}; give 1 or more, or leave it out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """How many places go to items with few users, so that something becomes known of them.

    >>> Exploration(share=0.1).most
    2
    """

    share: float = 0.0  # the chance of each place
    most: int = 2  # places of a list
    among: int = 50  # the best unknown items that it draws from
    known_from: float = 5.0  # users from which an item is known

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 1.0 or self.most < 0 or self.among < 1:
            raise ConfigurationError(f"{self}: share must lie in [0, 1), most be 0 or more, among 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One place of a list: which item, how likely that choice was, and whether it was lent for exploration."""

    place: int
    propensity: float
    explored: bool


def most_liked(known: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which items are the hundredth that most users liked (items,).

    >>> most_liked(np.array([1.0, 3.0, 2.0])).tolist()
    [False, True, False]
    """
    found = np.zeros(len(known), dtype=bool)
    found[np.argsort(-known, kind="stable")[: max(1, len(known) // 100)]] = True
    return found


def fill(
    scores: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    known: NDArray[np.float64],
    popular: NDArray[np.bool_],
    texts: ItemTexts,
    *,
    count: int,
    bounds: Bounds,
    exploration: Exploration,
    rng: np.random.Generator | None,
) -> list[Slot]:
    """The best items that are allowed, one a place, at most `count`.

    A place goes to the best item within the bounds, or by the chance `exploration.share` to an unknown item, the more
    likely the better its score. The propensity of a choice is its chance given the places before it.

    Args:
        scores: (items,), higher is better.
        allowed: (items,), whether an item may be shown.
        known: (items,), users who liked it.
        popular: (items,), whether it is among the most liked hundredth of the catalogue.
        texts: of the items, in their order.
        count: places.
        bounds: what the list may hold.
        exploration: see there; without `rng` nothing is explored.
        rng: draws.
    """
    ranks = _best_first(scores, allowed)
    within = _Within(bounds, popular, texts)
    if within.is_free and (rng is None or not exploration.share):
        return [Slot(place=int(place), propensity=1.0, explored=False) for place in ranks[:count]]
    unknown = ranks[known[ranks] < exploration.known_from] if rng is not None and exploration.share else ranks[:0]
    slots: list[Slot] = []
    lent, taken = 0, np.zeros(len(scores), dtype=bool)
    while len(slots) < count:
        best = within.first(ranks, taken)
        drawn = unknown[~taken[unknown]][: exploration.among] if lent < exploration.most else unknown[:0]
        drawn = np.array([place for place in drawn if within.admits(int(place))], dtype=np.int64)
        share = exploration.share if len(drawn) else 0.0
        if best is None:
            break
        chances = _softmax(scores[drawn])
        explored = rng is not None and share > 0.0 and rng.random() < share
        chosen = int(rng.choice(drawn, p=chances)) if explored and rng is not None else best
        chance = (1.0 - share) * (chosen == best) + share * float(chances[drawn == chosen].sum())
        slots.append(Slot(place=chosen, propensity=float(chance), explored=explored))
        lent += explored
        taken[chosen] = True
        within.take(chosen)
    return slots


class _Within:
    """Which items a list may still take."""

    def __init__(self, bounds: Bounds, popular: NDArray[np.bool_], texts: ItemTexts) -> None:
        self._bounds, self._popular, self._texts = bounds, popular, texts
        self._chosen: list[int] = []

    @property
    def is_free(self) -> bool:
        """Whether a list may hold anything."""
        return self._bounds.most_alike is None and self._bounds.most_popular is None

    def first(self, ranks: NDArray[np.int64], taken: NDArray[np.bool_]) -> int | None:
        """The best item that is left and keeps the bounds."""
        return next((int(place) for place in ranks if not taken[place] and self.admits(int(place))), None)

    def admits(self, place: int) -> bool:
        """Whether the list keeps its bounds with this item."""
        return self._popularity_holds(place) and self._likeness_holds(place)

    def take(self, place: int) -> None:
        """The list has this item now."""
        self._chosen.append(place)

    def _popularity_holds(self, place: int) -> bool:
        if self._bounds.most_popular is None or not self._popular[place]:
            return True
        return int(self._popular[self._chosen].sum()) < self._bounds.most_popular

    def _likeness_holds(self, place: int) -> bool:
        if self._bounds.most_alike is None or len(self._chosen) < self._bounds.most_alike:
            return True
        alike = self._texts.among([*self._chosen, place]) >= self._bounds.alike
        np.fill_diagonal(alike, True)
        return int(alike.sum(axis=1).max()) <= self._bounds.most_alike


def _best_first(scores: NDArray[np.float32], allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The allowed items by score; equal ones in the order of the catalogue."""
    places = np.flatnonzero(allowed)
    return places[np.argsort(-scores[places], kind="stable")]


def _softmax(scores: Sequence[float] | NDArray[np.float32]) -> NDArray[np.float64]:
    """Chances by score, on the scale of the scores' own spread."""
    values = np.asarray(scores, dtype=np.float64)
    if not len(values):
        return values
    spread = values.std() or 1.0
    powers: NDArray[np.float64] = np.exp((values - values.max()) / spread)
    return np.asarray(powers / powers.sum())
