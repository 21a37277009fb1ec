"""The latest headlines with what is near what: the background that tells how much likeness is nothing special."""

from collections import Counter, defaultdict, deque
from datetime import datetime, timedelta
from math import log

import numpy as np
import numpy.typing as npt

from perennial.continual.events.item import Item, Place
from perennial.continual.events.season import HOURS, hour_of, weekday_of

__all__ = ["Background"]

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
_DAYS = 7
_HALF_A_DAY, _HALF_A_WEEK = timedelta(hours=12), timedelta(days=3.5)  # nearer ones are the same time, not its season


class Background:
    """So many headlines, the latest last. Words weigh by how rare they are among all but the very latest.

    Args:
        most: headlines that are held.
        latest: of them, the very latest.
        unseen: how many headlines a word that never came counts as.
        shrink: after how many headlines what a source writes, or an hour brings, counts as much as everything else.
    """

    def __init__(self, most: int, latest: int, *, unseen: float, shrink: float) -> None:
        self._most, self._latest, self._unseen, self._shrink = most, latest, unseen, shrink
        self._items: deque[Item] = deque()
        self._last: deque[Item] = deque()  # the very latest of them
        self._aged: Counter[str] = Counter()  # of words, among the older ones
        self._with: defaultdict[str, deque[int]] = defaultdict(deque)  # by word, the places of those that have it
        self._end = 0  # the place of the next one; the array's end
        self._first = 0  # the place of what stands first in the arrays
        self._source = np.zeros(2 * most, dtype=np.int64)
        self._time = np.zeros(2 * most, dtype=np.float64)
        self._hour = np.zeros(2 * most, dtype=np.int64)
        self._weekday = np.zeros(2 * most, dtype=np.int64)
        self._encoder = ""
        self._place: Place = np.zeros((0, 0), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def older(self) -> int:
        """How many there are but the very latest."""
        return len(self._items) - len(self._last)

    @property
    def latest(self) -> tuple[Item, ...]:
        """The very latest, the latest last."""
        return tuple(self._last)

    @property
    def numbers(self) -> list[int]:
        """Of all that are held, the oldest first."""
        return [item.number for item in self._items]

    def add(self, item: Item) -> None:
        """Hold one more as the latest; the oldest goes where there are too many."""
        self._make_room(item)
        at = self._end - self._first
        self._source[at] = hash(item.source)
        self._time[at] = item.at.timestamp()
        self._hour[at], self._weekday[at] = hour_of(item.at), weekday_of(item.at)
        if len(self._place):
            self._place[at] = 0.0 if item.place is None else item.place
        for word in item.words:
            self._with[word].append(self._end)
        self._items.append(item)
        self._end += 1
        self._last.append(item)
        if len(self._last) > self._latest:
            self._aged.update(self._last.popleft().words)
        if len(self._items) > self._most:
            self._drop(self._items.popleft())

    def in_words(self, item: Item) -> Floats:
        """How much each held headline has in common with one: the weights of the words that both have."""
        likeness = np.zeros(len(self._items))
        start = self._end - len(self._items)
        for word in item.words:
            if word in self._with:
                places = np.fromiter(self._with[word], dtype=np.int64, count=len(self._with[word]))
                likeness[places - start] += self.weight(word)
        return likeness

    def in_meaning(self, place: Place | None, encoder: str) -> Floats | None:
        """The cosine of each held headline with a place; None where they lie by another encoder, or nowhere."""
        if place is None or encoder != self._encoder or not len(self._place):
            return None
        held = self._held()
        cosines: Floats = (self._place[held] @ place).astype(np.float64)
        return cosines

    def weight(self, word: str) -> float:
        """How much a word tells: minus the logarithm of how often it comes."""
        return -log(self.rate(word))

    def rate(self, word: str) -> float:
        """How often a word comes among the older ones."""
        return (self._aged[word] + self._unseen) / (self.older + 2 * self._unseen)

    def chances(self, likeness: Floats, now: datetime) -> Floats:
        """Of each of the very latest: how often an older headline is that much alike, or more.

        An older headline of the same source, of the same hour or of the same weekday counts for more.
        """
        older, latest = likeness[: self.older], likeness[self.older :]
        at_least = older[None, :] >= latest[:, None]  # (latest, older)
        usual = (at_least.sum(axis=1) + self._unseen) / (len(older) + 2 * self._unseen)
        held = self._held()
        before, after = slice(held.start, held.stop - len(latest)), slice(held.stop - len(latest), held.stop)
        same = self._source[before][None, :] == self._source[after][:, None]
        chances = usual * self._ratio(at_least, same, usual)
        ago = now.timestamp() - self._time[before]
        for seasons, turns, apart, near in (
            (self._hour, HOURS, _HALF_A_DAY, 1),
            (self._weekday, _DAYS, _HALF_A_WEEK, 0),
        ):
            distance = np.abs(seasons[before][None, :] - seasons[after][:, None])
            same = (np.minimum(distance, turns - distance) <= near) & (ago > apart.total_seconds())[None, :]
            ratio = self._ratio(at_least, same, usual)
            chances = chances * np.maximum(1.0, ratio)  # a season excuses, and never blames
        found: Floats = np.minimum(chances, 1.0)
        return found

    def _ratio(self, at_least: Flags, same: Flags, usual: Floats) -> Floats:
        """How much oftener it comes among some than among all, drawn to 1 where they are few."""
        among = same.sum(axis=1)
        own = np.where(among, (at_least & same).sum(axis=1) / np.maximum(among, 1), usual)
        own = own + self._unseen / max(1, self.older) * (among > 0)
        ratio: Floats = (among * own + self._shrink * usual) / (among + self._shrink) / usual
        return ratio

    def _held(self) -> slice:
        end = self._end - self._first
        return slice(end - len(self._items), end)

    def _make_room(self, item: Item) -> None:
        if item.place is not None and (item.encoder != self._encoder or self._place.shape[1] != len(item.place)):
            self._encoder = item.encoder
            self._place = np.zeros((2 * self._most, len(item.place)), dtype=np.float32)
        if self._end - self._first == 2 * self._most:  # the later half moves to the front
            for array in (self._source, self._time, self._hour, self._weekday, self._place):
                if len(array):
                    array[: self._most] = array[self._most :]
            self._first += self._most

    def _drop(self, item: Item) -> None:
        for word in item.words:
            self._with[word].popleft()
            if not self._with[word]:
                del self._with[word]
            self._aged[word] -= 1
            if not self._aged[word]:
                del self._aged[word]
