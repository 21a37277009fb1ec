"""What the users of a folder really did, in the order of time: their tastes move, and items come, by themselves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking import Event, Item
from perennial.continual.learning.ranking.files import read_event_file, read_item_file
from perennial.exporters.ranking.asked import Asked
from perennial.ops.demo.lived import Pace
from perennial.ops.demo.paced import Asking
from perennial.ops.demo.readership import Wants, named
from perennial.ops.recipes import recipe_named

__all__ = ["UsersOfFile"]

_BEGUN = 0.6  # of the events, at least: what was done before anything is served
_USED = 5  # events of an item; what fewer people ever touched is left out
_LIKED_BEFORE = 5  # by a user who asks: of others no list could know anything
_QUESTIONS = 3_000  # that the time after is cut into, all of which are asked; further ones begin it again
_LAST = 600  # questions at the end, at least
_LEAST = 500
_NEXT = 3  # likings that an answer is compared with
_COUNT = 10  # of a list
_PATIENCE_S = 900.0  # for a new version


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A user before an event, what they like from there on, and the places of the events until the next question."""

    user: str
    wanted: tuple[str, ...]
    until: range


@dataclass(kw_only=True)
class UsersOfFile:
    """See `perennial.ops.demo.readership.Readership`. Both changes bring the items that came since.

    Years are asked about in minutes. One client asks, and what everybody did until the next question is told before it:
    told a second late, a user's last twenty likings would be unknown, who looks at the next list within seconds.
    """

    told_at_once: ClassVar[bool] = True
    params: ClassVar[Mapping[str, Any]] = {"most_items": 2_000}

    learns_after: ClassVar[int] = 400

    title: str
    events: tuple[Event, ...]  # in the order of time
    items: tuple[Item, ...]
    begun: int = field(init=False)  # events before the first question
    wave: int = 0
    _questions: list[_Question] = field(init=False)
    _asked: int = 0
    _came: set[str] = field(init=False)  # items of the catalogue so far

    @classmethod
    def read(cls, folder: Path, seed: int) -> "UsersOfFile":
        """Those of the files that the recipe knows. Events of one moment come in an order by chance.

        Raises:
            DataError, DependencyUnreachable, RowsRefused: a file is missing, cannot be read, or holds too little.
        """
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder; give one with events.csv (user, item, at) and items.csv")
        files = {file.role: file.path for file in recipe_named("recommendation").models[0].found(folder)}
        events = read_event_file(files["data"]).events
        used = Counter(event.item for event in events)
        known = read_item_file(files["items"]) if "items" in files else tuple(Item(name=name) for name in sorted(used))
        items = tuple(item for item in known if used[item.name] >= _USED)
        names = {item.name for item in items}
        by_chance = np.random.default_rng(seed).permutation(len(events))
        order = sorted(range(len(events)), key=lambda place: (events[place].at, by_chance[place]))
        return cls(
            title=f"Recommendation over {named(folder)}: what its users really liked next",
            events=tuple(events[place] for place in order if events[place].item in names),
            items=items,
        )

    def __post_init__(self) -> None:
        self.begun = int(_BEGUN * len(self.events))
        self._questions = self._cut()
        if len(self._questions) < _LEAST:
            raise DataError(
                f"{len(self.events)} events give {len(self._questions)} questions; a demonstration needs {_LEAST}, of "
                f"users who liked {_LIKED_BEFORE} items before"
            )
        self.begun = self._questions[0].until.start
        self._came = {event.item for event in self.events[: self.begun]}

    @property
    def pace(self) -> Pace:
        """It lasts until all of them are asked."""
        left = len(self._questions) - self._asked
        return Pace(
            rate=8.0, steady=370, lived=200, settle=100, last=max(_LAST, left), clients=1, patience_s=_PATIENCE_S
        )

    @property
    def first(self) -> tuple[Item, ...]:
        """What anybody had touched by then."""
        early = {event.item for event in self.events[: self.begun]}
        return tuple(item for item in self.items if item.name in early)

    def history(self, now: datetime) -> Sequence[Event]:
        """As it stands in the file."""
        del now
        return self.events[: self.begun]

    def draw(self) -> Asking:
        """The next user; what they and others did until the next question is told after the answer."""
        question = self._questions[self._asked % len(self._questions)]
        self._asked += 1
        signals = [_signal(self.events[place]) for place in question.until]
        wants = Wants(items=dict.fromkeys(question.wanted, 1.0), signals=tuple(signals))
        return Asking(asked=Asked(user=question.user, count=_COUNT), truth=wants, wave=self.wave, key=question.user)

    def change(self) -> tuple[str, Sequence[Item]]:
        """First what comes in half of the time that is left, then all the rest."""
        self.wave += 1
        at = self._questions[self._asked % len(self._questions)].until.start
        end = len(self.events) if self.wave > 1 else (at + len(self.events)) // 2
        new = {event.item for event in self.events[:end]} - self._came
        self._came |= new
        day = self.events[at].at.date()
        return f"it is {day}: {len(new)} new items come", [item for item in self.items if item.name in new]

    def _cut(self) -> list[_Question]:
        """A question before every so many likings."""
        likings: dict[str, list[int]] = {}
        for place, event in enumerate(self.events):
            if event.liked > 0:
                likings.setdefault(event.user, []).append(place)
        able: list[tuple[int, str, int]] = []
        seen: Counter[str] = Counter()
        for place, event in enumerate(self.events):
            if event.liked > 0:
                if place >= self.begun and seen[event.user] >= _LIKED_BEFORE:
                    able.append((place, event.user, seen[event.user]))
                seen[event.user] += 1
        able = able[:: max(1, len(able) // _QUESTIONS)]
        ends = [*(place for place, _, _ in able[1:]), len(self.events)][: len(able)]
        return [
            _Question(
                user=user,
                wanted=tuple(self.events[each].item for each in likings[user][nth : nth + _NEXT]),
                until=range(place, end),
            )
            for (place, user, nth), end in zip(able, ends, strict=True)
        ]


def _signal(event: Event) -> Mapping[str, Any]:
    """As a click, a skip, or so long a dwell as was liked so much."""
    if event.liked in {0.0, 1.0}:
        return {"user": event.user, "item": event.item, "signal": "click" if event.liked else "skip"}
    return {"user": event.user, "item": event.item, "signal": "dwell", "value": 60.0 * event.liked}
