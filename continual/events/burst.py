"""How surprising it is that so many of the latest headlines are alike, given how alike headlines are anyway."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import ConfigurationError
from perennial.continual.events.background import Background
from perennial.continual.events.item import Item, Place

__all__ = ["BurstSettings", "BurstWatch", "Surprise", "tail", "tails"]

Floats = npt.NDArray[np.float64]
_NOTHING = 1e-300
_BY_CHANCE = 1e-3
_TELLING = 3.0  # likeness that comes so often by chance once in twenty headlines tells of nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstSettings:
    """How far the watch looks back.

    Args:
        windows: of the latest headlines, each looked at by itself; the longest is `recent`.
        base: headlines before them, which tell how alike headlines are anyway.
        first_headlines: before the base has so many, nothing is surprising.
        unseen: how many headlines what never came counts as.
        shrink: after how many headlines a source's or an hour's own rate counts as much as everybody's.
        handed_on: how much of the largest surprise in its company a headline's own grows by, where that is no larger
            than its own: a story that was doubtful at its second headline is surer at its fourth.
        meaning: how much being near in meaning counts beside common words; it is what two languages share.
    """

    windows: tuple[int, ...] = (8, 14, 20)
    base: int = 2_000
    first_headlines: int = 200
    unseen: float = 0.5
    shrink: float = 50.0
    handed_on: float = 0.9
    meaning: float = 0.6

    def __post_init__(self) -> None:
        if not self.windows or min(self.windows) < 2 or self.base < self.first_headlines:
            raise ConfigurationError(
                f"a watch of windows {self.windows} and base {self.base}: windows hold two headlines or more, the base "
                f"at least {self.first_headlines}"
            )

    @property
    def recent(self) -> int:
        """The longest window."""
        return max(self.windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surprise:
    """How surprising a headline's company is: minus the logarithm of the chance of so much of it, or of more.

    `own` is without what the company hands on. `words` are those that it shares with this company, the most surprising
    first; `neighbours` are the company: in words, or in meaning where that is more surprising.
    """

    score: float
    own: float = 0.0
    words: tuple[str, ...] = ()
    neighbours: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Company:
    """Those of the latest headlines that are so much alike, and the surprise of it; places among the latest."""

    score: float = 0.0
    places: tuple[int, ...] = ()


class BurstWatch:
    """The latest headlines. Adding is all that changes it, so that adding the same ones restores it."""

    def __init__(self, settings: BurstSettings | None = None) -> None:
        self.settings = settings or BurstSettings()
        self._held = Background(
            self.settings.recent + self.settings.base,
            self.settings.recent,
            unseen=self.settings.unseen,
            shrink=self.settings.shrink,
        )

    @property
    def recent(self) -> Sequence[Item]:
        """The headlines of the longest window, oldest first."""
        return self._held.latest

    def add(self, item: Item) -> None:
        """Count a headline as the latest. One that is a copy of another is not to be added."""
        self._held.add(item)

    def surprise(self, item: Item) -> Surprise:
        """How surprising its company among the latest headlines is; it is not counted itself."""
        held = self._held
        if held.older < self.settings.first_headlines or not held.latest:
            return Surprise(score=0.0)
        in_meaning = held.in_meaning(item.place, item.encoder)
        said = self._company(held.in_words(item), item)
        meant = self._company(in_meaning, item) if in_meaning is not None else _Company()
        meant_score = self.settings.meaning * meant.score
        company, own = (said, said.score) if said.score >= meant_score else (meant, meant_score)
        if company.score < _TELLING:
            return Surprise(score=own, own=own)
        neighbours = [held.latest[place] for place in sorted(company.places)]
        return Surprise(
            score=own + self.settings.handed_on * min(own, max(other.surprise for other in neighbours)),
            own=own,
            words=self._words(item, neighbours) if said.score >= _TELLING else (),
            neighbours=tuple(other.number for other in neighbours),
        )

    def novelty(self, item: Item) -> float:
        """How unlike the headlines of the base it is in meaning: 1 less the highest cosine; 1 where nobody can tell."""
        cosines = self._held.in_meaning(item.place, item.encoder)
        before = cosines[: self._held.older] if cosines is not None else ()
        return float(1.0 - max(0.0, *before)) if len(before) else 1.0

    def nearness(self, centre: Place, encoder: str, *, without: frozenset[int]) -> tuple[float, float]:
        """The cosine of the usual headline with a place, and that which one in a thousand goes beyond.

        Those of some numbers are left out. Nobody can tell from few headlines: then the second is 1.
        """
        cosines = self._held.in_meaning(centre, encoder)
        if cosines is None or self._held.older < self.settings.first_headlines:
            return 0.0, 1.0
        others = cosines[[number not in without for number in self._held.numbers]]
        usual, near = np.quantile(others, [0.5, 1.0 - _BY_CHANCE])
        return float(usual), float(near)

    def _company(self, likeness: Floats, item: Item) -> _Company:
        """The most surprising company in any window: the k that are most alike, were each as alike by chance alone."""
        chances = self._held.chances(likeness, item.at)[::-1]  # the latest first
        best = _Company()
        for size in self.settings.windows:
            if size > len(chances):
                break
            order = np.argsort(chances[:size], kind="stable")
            surprises = tails(chances[order], size)
            most = int(surprises.argmax())
            if surprises[most] > best.score:
                places = tuple(len(chances) - 1 - int(place) for place in order[: most + 1])
                best = _Company(score=float(surprises[most]), places=places)
        return best

    def _words(self, item: Item, neighbours: Sequence[Item]) -> tuple[str, ...]:
        """Its words that come surprisingly often among the latest, and in its company."""
        recent, size = self._held.latest, self.settings.recent
        found = [
            (tail(sum(word in other.words for other in recent), size, self._held.rate(word)), word)
            for word in item.words
            if any(word in other.words for other in neighbours)
        ]
        return tuple(word for score, word in sorted(found, key=lambda pair: (-pair[0], pair[1])) if score >= _TELLING)


def tails(chances: Floats, among: int) -> Floats:
    """Of each chance, in ascending order: minus the logarithm of the chance that so many of `among` go below it.

    The k-th stands for k of them. Source: Berk and Jones (1979), goodness of fit by the binomial tails of order
    statistics.

    >>> [round(float(value), 3) for value in tails(np.array([0.1, 0.1]), 2)]
    [1.661, 4.605]
    """
    rates = np.clip(chances, 1e-12, 1.0)[:, None]
    hits = np.arange(among + 1)[None, :]
    likely = np.array(_ways(among)) * rates**hits * (1.0 - rates) ** (among - hits)
    needed = np.arange(1, len(chances) + 1)[:, None]
    chance = np.where(hits >= needed, likely, 0.0).sum(axis=1)
    surprises: Floats = -np.log(np.clip(chance, _NOTHING, 1.0))
    return surprises


def tail(count: int, among: int, rate: float) -> float:
    """Minus the natural logarithm of the chance that `count` or more of `among` happen, each with this rate.

    >>> round(tail(1, 1, 0.5), 4), round(tail(2, 2, 0.1), 4), tail(0, 5, 0.1)
    (0.6931, 4.6052, 0.0)
    """
    if count <= 0:
        return 0.0
    rate = min(max(rate, 1e-12), 1.0)
    chance = sum(
        ways * rate**hits * (1.0 - rate) ** (among - hits)
        for hits, ways in enumerate(_ways(among)[count:], start=count)
    )
    return -math.log(min(1.0, max(chance, _NOTHING)))


@cache
def _ways(among: int) -> tuple[int, ...]:
    return tuple(math.comb(among, hits) for hits in range(among + 1))
