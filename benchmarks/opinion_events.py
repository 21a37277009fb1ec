"""Old events told again among shuffled headlines: how many are found, how soon, and with how many false alarms."""

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.events import EventSettings, EventWatch, Item, tokens_of, words_of
from perennial.continual.events.burst import tail
from perennial.continual.events.calibration import limit_for, surprises
from perennial.continual.intervals import wilson

__all__ = ["NewsItems", "Trial", "found_of", "knowing", "known_dates", "measure_events", "symbol_days"]

FALSE_ALARM = 1 / 2_000
WITHIN = 20  # places among which an event's headlines are put
FOUND_WITHIN = 4  # of its own headlines
_OFTENER = (2, 4, 8)  # times as many false alarms, to see what they would buy
_DAYS, _LEAST_LIFT, _MOST_SHARE = 3, 8.0, 0.02  # of a story's word: where it stands together, against its usual share
_KNOWN = {
    "2016-06-22": "the Brexit referendum",
    "2016-11-09": "the election in the United States",
    "2017-08-11": "North Korea",
}
_NEAR = timedelta(days=3)
Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsItems:
    """Dated headlines as items, in the order of time; those before `split` are old."""

    texts: tuple[str, ...]
    items: tuple[Item, ...]
    split: int

    @classmethod
    def read(cls, path: Path, embed: Embed, *, since: date) -> "NewsItems":
        """The headlines of a file with `date` and `text`; sources are not told there."""
        with path.open(encoding="utf-8", newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["date"])
        texts = tuple(row["text"] for row in rows)
        places = embed(texts)
        items = tuple(_item(number, row, places[number]) for number, row in enumerate(rows))
        return cls(texts=texts, items=items, split=sum(item.at.date() < since for item in items))


def measure_events(news: NewsItems, *, shuffles: int, trials: int, seed: int = 0) -> dict[str, Any]:
    """The limit from some shuffles, its false alarms on others, and the share of events found, by their size.

    `more_false_alarms` tells what other limits would find.
    """
    stream = news.items[news.split :]
    settings = EventSettings(sources=1)
    by_chance = surprises(stream, settings, shuffles=shuffles, rng=np.random.default_rng((seed, 1)))
    limits = {often: limit_for(by_chance, per_headline=often * FALSE_ALARM) for often in (1, *_OFTENER)}
    others = np.array(surprises(stream, settings, shuffles=shuffles, rng=np.random.default_rng((seed, 2))))
    stories = list(_stories(news))
    told = {size: _told(news, stories, size, settings, trials, seed) for size in (4, 6)}
    return {
        "limit": limits[1],
        "calibrated_on_headlines": len(by_chance),
        "false_alarms_in_2000": 2_000 * float(np.mean(others >= limits[1])),
        "stories": [{"word": word, "headlines": len(told)} for word, told in stories],
        "found": [found_of(size, trials, limits[1]) for size, trials in told.items()],
        "more_false_alarms": [
            {
                "false_alarms_in_2000": 2_000 * float(np.mean(others >= limits[often])),
                "found_within_four": {size: _soon(trials, limits[often]) for size, trials in told.items()},
            }
            for often in _OFTENER
        ],
    }


def known_dates(news: NewsItems, limit: float, *, evidence: int = 4) -> dict[str, Any]:
    """The real stream in its own order: events opened, and those near known dates with what speaks for them."""
    watch = EventWatch(EventSettings(limit=limit, sources=1, quiet=timedelta(days=2)))
    opened: list[dict[str, Any]] = []
    for item in news.items[max(0, news.split - watch.kept_items) :]:
        seen = watch.see(item)
        if seen.opened and item.number >= news.split and seen.event is not None:
            opened.append(
                {
                    "date": item.at.date().isoformat(),
                    "score": seen.surprise.score,
                    "words": list(seen.event.words[:3]),
                    "headlines": [news.texts[number] for number in seen.opened[-evidence:]],
                }
            )
    near = {
        day: {
            "what": what,
            "events": [
                event for event in opened if abs(date.fromisoformat(event["date"]) - date.fromisoformat(day)) <= _NEAR
            ],
        }
        for day, what in _KNOWN.items()
    }
    headlines = len(news.items) - news.split
    return {"headlines": headlines, "expected_by_chance": headlines * FALSE_ALARM, "events": len(opened), "known": near}


def symbol_days(folder: Path, embed: Embed, *, strongest: int = 10) -> dict[str, Any]:
    """Tweets about three symbols, each symbol's own stream: the strongest events, and how the price moved that day."""
    with (folder / "tweets_2015.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["date"])
    with (folder / "movement_2015.csv").open(encoding="utf-8", newline="") as file:
        moved = {(row["symbol"], row["date"]): float(row["movement"]) for row in csv.DictReader(file)}
    opened: list[dict[str, Any]] = []
    for symbol in sorted({row["symbol"] for row in rows}):
        own = [row for row in rows if row["symbol"] == symbol]
        places = embed([row["text"] for row in own])
        watch = EventWatch(EventSettings(sources=1, quiet=timedelta(days=2)))
        for number, row in enumerate(own):
            seen = watch.see(_item(number, row, places[number]))
            if seen.opened and seen.event is not None:
                opened.append(
                    {
                        "symbol": symbol,
                        "date": row["date"],
                        "score": seen.surprise.score,
                        "words": list(seen.event.words[:3]),
                        "headline": row["text"],
                        "moved": moved.get((symbol, row["date"])),
                    }
                )
    opened.sort(key=lambda event: -event["score"])
    return {"tweets": len(rows), "events": len(opened), "strongest": opened[:strongest]}


def _item(number: int, row: Mapping[str, str], place: NDArray[np.float32]) -> Item:
    """A dated text without a source."""
    return Item(
        number=number,
        at=datetime.fromisoformat(row["date"]).replace(tzinfo=UTC),
        source="",
        words=words_of(row["text"]),
        tokens=tokens_of(row["text"]),
        encoder="minilm",
        place=place,
    )


def _stories(news: NewsItems) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Old headlines of three days that have a word in common that is rare otherwise; no two overlap by half."""
    old = news.items[: news.split]
    usual = Counter(word for item in old for word in item.words)
    with_word: defaultdict[str, list[Item]] = defaultdict(list)
    per_day = Counter(item.at.date() for item in old)
    for item in old:
        for word in item.words:
            with_word[word].append(item)
    found: list[tuple[str, tuple[int, ...]]] = []
    for word, items in with_word.items():
        if usual[word] > _MOST_SHARE * len(old):
            continue
        start = 0
        while start < len(items):
            first = items[start].at
            told = [item for item in items[start:] if item.at - first <= timedelta(days=_DAYS)]
            among = sum(per_day[(first + timedelta(days=day)).date()] for day in range(_DAYS + 1))
            different = {item.tokens for item in told}
            if len(different) >= FOUND_WITHIN and len(told) / among >= _LEAST_LIFT * usual[word] / len(old):
                found.append((word, tuple(item.number for item in told)))
                start += len(told)
            else:
                start += 1
    found.sort(key=lambda story: (-len(story[1]), story[0]))
    kept: list[set[int]] = []
    for word, numbers in found:
        if all(len(set(numbers) & other) <= len(numbers) / 2 for other in kept):
            kept.append(set(numbers))
            yield word, numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One telling of a story: the watch's surprise at each of its headlines, and what knowing its word would say."""

    word: str
    usual: float  # the share of all later headlines that have the word
    scores: tuple[float, ...]
    known: float

    def within(self, limit: float, headlines: int) -> bool:
        """Whether the watch says so by that headline."""
        return any(score >= limit for score in self.scores[:headlines])


def _told(
    news: NewsItems,
    stories: Sequence[tuple[str, tuple[int, ...]]],
    size: int,
    settings: EventSettings,
    trials: int,
    seed: int,
) -> list[Trial]:
    """Each story of so many headlines, put among shuffled ones again and again."""
    rng = np.random.default_rng((seed, 3, size))
    later = news.items[news.split :]
    base = settings.burst.base + settings.burst.recent
    found = []
    for word, numbers in stories:
        if len(numbers) < size:
            continue
        usual = sum(word in item.words for item in later) / len(later)
        for _ in range(trials):
            own = np.sort(rng.choice(numbers, size, replace=False))
            others = rng.choice(np.arange(news.split, len(news.items)), base + WITHIN - size, replace=False)
            places = base + np.sort(rng.choice(WITHIN, size, replace=False))
            order = np.insert(others, places - np.arange(size), own)
            scores = _scores(news, order.tolist(), set(places.tolist()), settings)
            known = knowing(places[:FOUND_WITHIN], usual, settings)
            found.append(Trial(word=word, usual=usual, scores=scores, known=known))
    return found


def knowing(places: NDArray[np.int64], usual: float, settings: EventSettings) -> float:
    """The surprise of somebody who knows which word tells the story, and how often it comes anyway."""
    return max(
        tail(int(np.sum((place - places[:number]) <= window)), window, usual)
        for number, place in enumerate(places.tolist())
        for window in settings.burst.windows
    )


def found_of(size: int, trials: Sequence[Trial], limit: float) -> dict[str, Any]:
    soon, ever, known = (
        wilson(sum(hits), len(trials))
        for hits in (
            [trial.within(limit, FOUND_WITHIN) for trial in trials],
            [trial.within(limit, size) for trial in trials],
            [trial.known >= -math.log(FALSE_ALARM) for trial in trials],
        )
    )
    words = {trial.word: trial.usual for trial in trials}
    return {
        "headlines": size,
        "trials": len(trials),
        "found_by_its_headline": [
            float(np.mean([trial.within(limit, number) for trial in trials])) for number in range(1, size + 1)
        ],
        "found_within_four": soon.mean,
        "found_within_four_interval": [soon.low, soon.high],
        "found": ever.mean,
        "found_interval": [ever.low, ever.high],
        "knowing_its_word": known.mean,
        "knowing_its_word_interval": [known.low, known.high],
        "words": {
            word: {"share_of_all_headlines": usual, "found_within_four": _soon(trials, limit, word)}
            for word, usual in words.items()
        },
    }


def _soon(trials: Sequence[Trial], limit: float, word: str = "") -> float:
    return float(np.mean([trial.within(limit, FOUND_WITHIN) for trial in trials if word in {"", trial.word}]))


def _scores(news: NewsItems, order: Sequence[int], places: set[int], settings: EventSettings) -> tuple[float, ...]:
    """How surprising the watch finds each of the event's headlines; a copy of another is not at all."""
    watch = EventWatch(settings)
    scores = []
    for place, index in enumerate(order):
        item = replace(news.items[index], number=place, at=news.items[-1].at + timedelta(minutes=place))
        if place < min(places):
            watch.recall(item)
            continue
        seen = watch.see(item)
        if place in places:
            scores.append(seen.surprise.score)
    return tuple(scores)
