"""The stream of the recommendation benchmark: ratings in time order, equal times shuffled, and what is scored."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.learning.ranking import Event, Item

__all__ = ["EACH", "HISTORY", "Ratings", "Stream", "gains", "rank_of", "scored_places"]

EACH, HISTORY = 5, 5  # every fifth event is scored, where the user liked this many before
_LIKED_FROM, _KNOWN_FROM = 4.0, 5  # ratings that are events; ratings of any height that an item needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """The likings of a rating file and the catalogue that they are about."""

    likings: tuple[tuple[str, str, int], ...]  # user, item, seconds; in the file's order
    items: tuple[Item, ...]

    @classmethod
    def read(cls, folder: Path) -> "Ratings":
        """Out of `ratings.csv` (user, item, rating, ts) and `movies.csv` (item, title, genres)."""
        with (folder / "ratings.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with (folder / "movies.csv").open(newline="", encoding="utf-8") as file:
            texts = {row["item"]: f"{row['title']} {row['genres']}" for row in csv.DictReader(file)}
        counts = Counter(row["item"] for row in rows)
        known = sorted((item for item, count in counts.items() if count >= _KNOWN_FROM), key=int)
        return cls(
            likings=tuple(
                (row["user"], row["item"], int(row["ts"]))
                for row in rows
                if float(row["rating"]) >= _LIKED_FROM and counts[row["item"]] >= _KNOWN_FROM
            ),
            items=tuple(Item(name=item, text=texts[item]) for item in known),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The events of one order, and which of them are learnt before the first is scored."""

    events: tuple[Event, ...]
    begin: int
    end: int

    @classmethod
    def of(cls, ratings: Ratings, seed: int, window: tuple[float, float]) -> "Stream":
        """One order: events of equal time are shuffled by the seed, and keep that order by microseconds.

        Args:
            ratings: the likings.
            seed: of the shuffle.
            window: the shares of the stream between which events are scored, e.g. (0.6, 1.0).
        """
        by_chance = np.random.default_rng(seed).random(len(ratings.likings))
        rows = sorted(zip(ratings.likings, by_chance, strict=True), key=lambda row: (row[0][2], row[1]))
        events, last, ties = [], None, 0
        for (user, item, seconds), _ in rows:
            ties = ties + 1 if seconds == last else 0
            last = seconds
            at = datetime.fromtimestamp(seconds, tz=UTC) + timedelta(microseconds=ties)
            events.append(Event(user=user, item=item, at=at))
        begin, end = (int(share * len(events)) for share in window)
        return cls(events=tuple(events), begin=begin, end=end)

    def blocks(self, size: int) -> Iterator[range]:
        """The places of the window, so many at a time: a model is fitted before each block."""
        for start in range(self.begin, self.end, size):
            yield range(start, min(start + size, self.end))

    def cold(self) -> frozenset[str]:
        """Items that nobody liked before the window."""
        early = {event.item for event in self.events[: self.begin]}
        return frozenset(event.item for event in self.events) - early


def scored_places(stream: Stream) -> tuple[int, ...]:
    """The places of the events that are scored, each before it is learnt."""
    known: Counter[str] = Counter()
    found = []
    for place, event in enumerate(stream.events[: stream.end]):
        due = place >= stream.begin and (place - stream.begin) % EACH == 0
        if due and known[event.user] >= HISTORY:
            found.append(place)
        known[event.user] += 1
    return tuple(found)


def rank_of(
    scores: NDArray[np.floating[Any]], target: int, seen: Sequence[int] | NDArray[np.int64], rng: np.random.Generator
) -> int:
    """The place of an item among all that the user has not seen, from 0; items of equal score are shuffled."""
    own = scores[target]
    higher, equal = scores > own, scores == own
    higher[seen] = equal[seen] = False
    equal[target] = False
    return int(higher.sum()) + int(rng.integers(0, int(equal.sum()) + 1))


def gains(ranks: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """NDCG@10 and HR@10 of each event, which has one right item."""
    hits = (ranks < 10).astype(np.float64)
    return hits / np.log2(ranks + 2.0), hits
