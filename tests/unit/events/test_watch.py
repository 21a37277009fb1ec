"""The watch of events: what chance brings together, what belongs to an open event, and what a season excuses."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.events import EventSettings, EventWatch, Item, calibrate, tokens_of, words_of
from perennial.continual.events.calibration import limit_for
from perennial.continual.events.season import orders_within_seasons

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
DIMENSION = 64
# of two kinds of encoders: one that spreads texts out, and one that finds all of them alike
ENCODERS = {"spreading": 0.0, "narrow": 2.5}


class Encoding:
    """Places of texts: a direction that all have, one of the topic, and one of their own."""

    def __init__(self, common: float, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._common = common * self._unit()

    def _unit(self) -> np.ndarray:
        drawn = self._rng.normal(size=DIMENSION)
        return drawn / np.linalg.norm(drawn)

    def topic(self) -> np.ndarray:
        return self._unit()

    def place(self, topic: np.ndarray, own: float = 0.7) -> np.ndarray:
        found = self._common + topic + own * self._unit()
        return (found / np.linalg.norm(found)).astype(np.float32)


def word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("abcdefghij"), size=7))


def item(number: int, text: str, *, at: datetime, source: str = "", place: np.ndarray | None = None) -> Item:
    return Item(
        number=number, at=at, source=source, words=words_of(text), tokens=tokens_of(text), encoder="e", place=place
    )


def background(encoding: Encoding, count: int, rng: np.random.Generator) -> Iterator[Item]:
    topics = [encoding.topic() for _ in range(40)]
    for number in range(count):
        text = " ".join(word(rng) for _ in range(5))
        at = MONDAY + number * timedelta(minutes=3)
        yield item(number, text, at=at, source=f"wire {number % 4}", place=encoding.place(topics[number % 40]))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_open_event_takes_what_is_near_by_its_encoder_and_no_others(encoder: str) -> None:
    encoding, rng = Encoding(ENCODERS[encoder]), np.random.default_rng(1)
    watch = EventWatch(EventSettings(limit=11.0))
    for one in background(encoding, 900, rng):
        watch.see(one)
    topic, now = encoding.topic(), MONDAY + timedelta(days=3)
    told = [
        "leaked treaty topples ministers",
        "ministers resign over leaked treaty",
        "uproar: treaty leaked by ministers",
    ]
    seen = [
        watch.see(item(1_000 + k, text, at=now, source=f"wire {k}", place=encoding.place(topic, 0.4)))
        for k, text in enumerate(told)
    ]
    assert seen[-1].event is not None, "the story is an event"
    other_words = [
        watch.see(item(1_010 + k, word(rng), at=now, source="wire 2", place=encoding.place(topic, 0.4)))
        for k in range(10)
    ]
    assert sum(one.event is not None for one in other_words) >= 9, "told in other words it is the same"
    unrelated = [
        watch.see(
            item(2_000 + k, " ".join(word(rng) for _ in range(5)), at=now, place=encoding.place(encoding.topic()))
        )
        for k in range(300)
    ]
    assert sum(one.event is not None for one in unrelated) <= 6
    never = EventWatch(EventSettings(limit=11.0, joins=1.0))
    for one in background(Encoding(ENCODERS[encoder]), 900, np.random.default_rng(1)):
        never.see(one)
    for k, text in enumerate(told):
        never.see(item(1_000 + k, text, at=now, source=f"wire {k}", place=encoding.place(topic, 0.4)))
    alike = never.see(item(1_010, word(rng), at=now, source="wire 2", place=encoding.place(topic, 0.1)))
    assert alike.event is None, "where only words may tell, no likeness does"


def at_nine(days: int, a_day: int, seed: int, *, weekday: int | None = None) -> list[Item]:
    """Headlines over the day; at nine o'clock several papers print their reviews of the press, in the same words."""
    rng = np.random.default_rng(seed)
    items = []
    for day in range(days):
        for turn in range(a_day):
            at = MONDAY + timedelta(days=day, minutes=turn * 24 * 60 / a_day)
            reviewed = at.hour == 9 and (weekday is None or at.weekday() == weekday)
            kept = "morning review press gazette" if reviewed else ""
            text = f"{kept} {' '.join(word(rng) for _ in range(4))}"
            items.append(item(len(items), text, at=at, source=f"wire {turn % 3}"))
    return items


def opened(items: Sequence[Item], settings: EventSettings, start: int) -> int:
    watch = EventWatch(settings)
    return sum(bool(watch.see(one).opened) and one.number >= start for one in items)


@pytest.mark.parametrize(("days", "weekday"), [(12, None), (40, 4)], ids=["every day", "every friday"])
def test_what_an_hour_or_a_weekday_brings_anyway_is_no_event(days: int, weekday: int | None) -> None:
    a_day = 192 if weekday is None else 72
    items = at_nine(days, a_day, seed=1, weekday=weekday)
    settings = EventSettings(limit=13.0, quiet=timedelta(hours=6))
    half = len(items) // 2
    late = opened(items, settings, half)
    assert late == 0
    told = [f"{text} {word(np.random.default_rng(k))}" for k, text in enumerate(["leaked treaty"] * 4)]
    now = items[-1].at
    story = [item(len(items) + k, text, at=now, source=f"wire {k}") for k, text in enumerate(told)]
    assert opened([*items, *story], settings, half) == 1, "what no season knows is one"
    nights = [
        item(len(items) + k, f"morning review press gazette {text}", at=now, source=f"wire {k}")
        for k, text in enumerate(
            " ".join(word(np.random.default_rng((k, turn))) for turn in range(4)) for k in range(8)
        )
    ]
    assert now.hour == 23
    assert opened([*items, *nights], settings, half) == 1, "at another hour it is news"


def test_an_order_by_chance_leaves_hours_and_weekdays_their_own() -> None:
    times = [MONDAY + timedelta(hours=hour) for hour in range(24 * 28 * 6)]
    order = orders_within_seasons(times, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(len(times)))
    assert (order != np.arange(len(times))).mean() > 0.9
    for place, index in enumerate(order.tolist()):
        assert (times[place].hour, times[place].weekday()) == (times[index].hour, times[index].weekday())
    short = [MONDAY + timedelta(minutes=minute) for minute in range(600)]
    anywhere = orders_within_seasons(short, np.random.default_rng(0))
    assert any(short[place].hour != short[index].hour for place, index in enumerate(anywhere.tolist()))
    assert orders_within_seasons([], np.random.default_rng(0)).tolist() == []


def test_a_busy_feed_is_calibrated_beyond_what_its_headlines_show() -> None:
    rng = np.random.default_rng(3)
    scores = rng.exponential(scale=1.5, size=20_000)
    for per_headline in (1 / 50, 1 / 500, 1 / 5_000, 1 / 200_000):
        true = -1.5 * np.log(per_headline)
        assert limit_for(scores.tolist(), per_headline=per_headline) == pytest.approx(true, rel=0.12)
    limits = [limit_for(scores.tolist(), per_headline=rate) for rate in (1e-2, 6e-3, 4e-3, 1e-3, 1e-4, 1e-6)]
    assert limits == sorted(limits), "fewer false alarms, a higher limit"
    with pytest.raises(DataError, match="too few for a false alarm in"):
        limit_for(scores[:20].tolist(), per_headline=1e-6)


def test_a_limit_that_some_orders_gave_holds_in_others() -> None:
    encoding = Encoding(0.0)
    items = list(background(encoding, 700, np.random.default_rng(5)))
    found = calibrate(items, EventSettings(), per_headline=1 / 300, shuffles=3, rng=np.random.default_rng(1))
    assert found.headlines == pytest.approx(3 * (700 - 350 - 20), rel=0.05)
    assert 1.0 < found.limit < 12.0


def test_a_story_hands_nothing_on_to_headlines_beside_it() -> None:
    encoding, rng = Encoding(0.0), np.random.default_rng(2)
    watch = EventWatch(EventSettings(limit=13.0))
    for one in background(encoding, 900, rng):
        watch.see(one)
    now = MONDAY + timedelta(days=3)
    topic, others = encoding.topic(), [encoding.topic() for _ in range(40)]
    taken = []
    for k in range(12):
        told = f"leaked treaty topples ministers {word(rng)} {word(rng)}"
        watch.see(item(1_000 + 2 * k, told, at=now, source=f"wire {k % 4}", place=encoding.place(topic, 0.4)))
        beside = " ".join(word(rng) for _ in range(5))
        place = encoding.place(others[k] + 0.25 * topic)
        taken.append(watch.see(item(1_001 + 2 * k, beside, at=now, source=f"wire {k % 4}", place=place)))
    assert [event.name for event in watch.events()] == ["e1004"]
    assert sum(bool(one.opened) for one in taken) == 0
