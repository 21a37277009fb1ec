"""How surprising it is that so many of the latest headlines are alike, given how many were before."""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import ConfigurationError
from perennial.continual.events.item import Item, Place

__all__ = ["BurstSettings", "BurstWatch", "Surprise", "tail"]

Flags = npt.NDArray[np.bool_]
_NOTHING = 1e-300
_TELLING = 3.0  # a word, or a nearness, that comes so often by chance once in twenty headlines tells of nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstSettings:
    """How far the watch looks back.

    Args:
        windows: of the latest headlines, each looked at by itself; the longest is `recent`.
        base: headlines before them, which tell how often a word comes anyway.
        first_headlines: before the base has so many, nothing is surprising.
        unseen: how many headlines a word that never came counts as.
        source_weight: after how many headlines a source's own rate counts as much as everybody's.
        alike: cosine from which two headlines are neighbours.
        meaning_weight: how much being near in meaning adds to having words in common.
        meaning_alone: how much it counts where the words differ, as in two languages.
    """

    windows: tuple[int, ...] = (8, 14, 20)
    base: int = 2_000
    first_headlines: int = 200
    unseen: float = 0.5
    source_weight: float = 50.0
    alike: float = 0.55
    meaning_weight: float = 0.3
    meaning_alone: float = 0.75

    def __post_init__(self) -> None:
        if not self.windows or min(self.windows) < 2 or self.base < self.first_headlines or not 0 < self.alike < 1:
            raise ConfigurationError(
                f"a watch of windows {self.windows}, base {self.base} and cosine {self.alike}: windows hold two "
                f"headlines or more, the base at least {self.first_headlines}, and a cosine lies between 0 and 1"
            )

    @property
    def recent(self) -> int:
        """The longest window."""
        return max(self.windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surprise:
    """How surprising a headline's company is: minus the logarithm of the chance of so much of it, or of more.

    `words` are those that came so often, the most surprising first; `neighbours` the latest headlines that have the
    first of them, or are near in meaning where that is surprising too.
    """

    score: float
    words: tuple[str, ...] = ()
    neighbours: tuple[int, ...] = ()


class BurstWatch:
    """Counts over the latest headlines. Adding is all that changes it, so that adding the same ones restores it."""

    def __init__(self, settings: BurstSettings | None = None) -> None:
        self.settings = settings or BurstSettings()
        self._recent: deque[Item] = deque()
        self._older: deque[Item] = deque()
        self._counts: Counter[str] = Counter()
        self._of_source: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._from_source: Counter[str] = Counter()
        self._places = _Places(self.settings.recent + self.settings.base)

    @property
    def recent(self) -> Sequence[Item]:
        """The headlines of the longest window, oldest first."""
        return tuple(self._recent)

    def add(self, item: Item) -> None:
        """Count a headline as the latest. One that is a copy of another is not to be added."""
        self._recent.append(item)
        self._places.add(item)
        if len(self._recent) > self.settings.recent:
            self._age(self._recent.popleft())
        if len(self._older) > self.settings.base:
            self._forget(self._older.popleft())

    def surprise(self, item: Item) -> Surprise:
        """How surprising its company among the latest headlines is; it is not counted itself."""
        if len(self._older) < self.settings.first_headlines or not self._recent:
            return Surprise(score=0.0)
        by_word = sorted(((self._of_word(word), word) for word in item.words), key=lambda found: (-found[0], found[1]))
        words = tuple(word for score, word in by_word if score >= _TELLING)
        said = by_word[0][0] if by_word else 0.0
        near = self._near(item)
        meant = self._of_meaning(near)
        score = max(said + self.settings.meaning_weight * meant, self.settings.meaning_alone * meant)
        told = near is not None and meant >= _TELLING  # where an encoder finds all alike, being near tells of nothing
        latest = near[-len(self._recent) :] if near is not None and told else [False] * len(self._recent)
        neighbours = [
            other.number
            for other, alike in zip(self._recent, latest, strict=True)
            if alike or (words and words[0] in other.words)
        ]
        return Surprise(score=score, words=words, neighbours=tuple(neighbours))

    def novelty(self, item: Item) -> float:
        """How unlike the headlines of the base it is in meaning: 1 less the highest cosine; 1 where nobody can tell."""
        return self._places.novelty(item, latest=len(self._recent))

    def _of_word(self, word: str) -> float:
        best = 0.0
        recent = tuple(self._recent)[::-1]
        usual = self._rate(word)
        count = 0
        expected = 0.0
        for seen, item in enumerate(recent, start=1):
            count += word in item.words
            expected += self._rate_of_source(word, item.source, usual)
            if seen in self.settings.windows and count:
                best = max(best, tail(count, seen, expected / seen))
        return best

    def _rate(self, word: str) -> float:
        unseen = self.settings.unseen
        return (self._counts[word] + unseen) / (len(self._older) + 2 * unseen)

    def _rate_of_source(self, word: str, source: str, usual: float) -> float:
        """How often a source has the word; what it wrote itself counts the more, the more it wrote."""
        wrote = self._from_source[source]
        if not wrote:
            return usual
        own = self._of_source[source][word] / wrote + self.settings.unseen / len(self._older)
        return (wrote * own + self.settings.source_weight * usual) / (wrote + self.settings.source_weight)

    def _near(self, item: Item) -> Flags | None:
        return self._places.near(item, self.settings.alike)

    def _of_meaning(self, near: Flags | None) -> float:
        if near is None:
            return 0.0
        before, latest = near[: -len(self._recent)], near[-len(self._recent) :][::-1]
        unseen = self.settings.unseen
        usual = (float(before.sum()) + unseen) / (len(before) + 2 * unseen)
        counts = np.cumsum(latest)
        sizes = [size for size in self.settings.windows if size <= len(latest)]
        return max((tail(int(counts[size - 1]), size, usual) for size in sizes if counts[size - 1]), default=0.0)

    def _age(self, item: Item) -> None:
        self._older.append(item)
        self._counts.update(item.words)
        self._of_source[item.source].update(item.words)
        self._from_source[item.source] += 1

    def _forget(self, item: Item) -> None:
        for counts in (self._counts, self._of_source[item.source]):
            counts.subtract(item.words)
            for word in item.words:
                if not counts[word]:
                    del counts[word]
        self._from_source[item.source] -= 1
        if not self._from_source[item.source]:
            del self._from_source[item.source], self._of_source[item.source]


class _Places:
    """Where the counted headlines lie, the latest last; those of another encoder lie nowhere."""

    def __init__(self, most: int) -> None:
        self._most, self._size, self._encoder = most, 0, ""
        self._held: Place = np.zeros((0, 0), dtype=np.float32)

    def add(self, item: Item) -> None:
        dimension = 0 if item.place is None else len(item.place)
        if dimension and (item.encoder != self._encoder or self._held.shape[1] != dimension):
            self._encoder = item.encoder
            self._held = np.zeros((2 * self._most, dimension), dtype=np.float32)
        if self._size == 2 * self._most:  # the later half moves to the front
            self._held[: self._most] = self._held[self._most :]
            self._size = self._most
        if len(self._held):
            self._held[self._size] = 0.0 if item.place is None or not dimension else item.place
        self._size += 1

    def near(self, item: Item, alike: float) -> Flags | None:
        if item.place is None or item.encoder != self._encoder or not len(self._held):
            return None
        near: Flags = self._cosines(item.place) > alike
        return near

    def novelty(self, item: Item, *, latest: int) -> float:
        if item.place is None or item.encoder != self._encoder or not len(self._held):
            return 1.0
        before = self._cosines(item.place)[:-latest] if latest else self._cosines(item.place)
        return float(1.0 - max(0.0, before.max())) if len(before) else 1.0

    def _cosines(self, place: Place) -> Place:
        cosines: Place = self._held[max(0, self._size - self._most) : self._size] @ place
        return cosines


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
