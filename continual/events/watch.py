"""The watch over headlines: copies, surprise, events. Its state is the latest headlines and the open events."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np

from perennial.continual.errors import ConfigurationError
from perennial.continual.events.burst import BurstSettings, BurstWatch, Surprise
from perennial.continual.events.copies import Originals
from perennial.continual.events.event import Event, Phase
from perennial.continual.events.item import Item

__all__ = ["EventSettings", "EventWatch", "Sighting"]

_SHORT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """What counts as an event.

    Args:
        limit: the surprise from which headlines are an event; `perennial.continual.events.calibration` sets it.
        sources: from so many different ones at least; copies of one headline are one.
        quiet: an event that nobody tells of for so long is over.
        joins: how near in meaning a headline must be to belong to an open event: 0 is as near as one in a thousand of
            the headlines that do not, by the same encoder; 1 is never, and its words must tell.
    """

    limit: float = 12.0
    sources: int = 2
    quiet: timedelta = timedelta(hours=24)
    joins: float = 0.0
    burst: BurstSettings = field(default_factory=BurstSettings)

    def __post_init__(self) -> None:
        if self.limit <= 0 or self.sources < 1 or self.quiet <= timedelta(0) or not 0 <= self.joins <= 1:
            raise ConfigurationError(
                f"events of limit {self.limit}, {self.sources} sources, quiet {self.quiet} and joins {self.joins}: the "
                "limit and the time must be above 0, one source is the least, and joins lies in [0, 1]"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the watch says of one headline: the event it belongs to, where there is one, and what it is a copy of.

    `opened` are the headlines that make up a new event, this one the last; empty where the event was there before.
    """

    item: Item
    surprise: Surprise
    event: Event | None = None
    phase: Phase | None = None
    opened: tuple[int, ...] = ()


class EventWatch:
    """Sees headlines one by one. The same headlines in the same order give the same answers, in every process.

    `recall` and `reopen` restore it: the latest headlines in order, then the events that were open.
    """

    def __init__(self, settings: EventSettings | None = None) -> None:
        self.settings = settings or EventSettings()
        self._burst = BurstWatch(self.settings.burst)
        self._originals = Originals()
        self._events: dict[str, Event] = {}
        self._event_of: dict[int, str] = {}
        self._tones: deque[float] = deque(maxlen=self.settings.burst.base)

    @property
    def kept_items(self) -> int:
        """How many of the latest originals its state is made of."""
        return self.settings.burst.recent + self.settings.burst.base + 1

    def events(self) -> Sequence[Event]:
        """Those that are not known to be over, the oldest first."""
        return tuple(self._events.values())

    def recall(self, item: Item) -> None:
        """Count a headline that was seen before."""
        if item.copy_of is None:
            self._count(item)

    def reopen(self, events: Iterable[Event], members: Mapping[int, str]) -> None:
        """Take up events where they were left, with the headlines that belong to them."""
        self._events = {event.name: event for event in events}
        self._event_of = dict(members)

    def see(self, item: Item) -> Sighting:
        """What to make of the next headline; `item.copy_of` is found here."""
        self._close(item)
        item = replace(item, copy_of=self._originals.of(item.tokens))
        if item.copy_of is not None:
            return self._joined(item, Surprise(score=0.0), self._events.get(self._event_of.get(item.copy_of, "")))
        surprise = self._burst.surprise(item)
        item = replace(item, surprise=surprise.own)
        nearest = self._nearest(item)
        if surprise.score >= self.settings.limit and (nearest is None or not set(surprise.words) & set(nearest.words)):
            sighting = self._opened(item, surprise, else_joins=nearest)
        else:
            sighting = self._joined(item, surprise, nearest)
        self._count(item)
        return sighting

    def _count(self, item: Item) -> None:
        self._burst.add(item)
        self._originals.add(item)
        self._tones.append(item.tone)

    def _close(self, item: Item) -> None:
        over = [e.name for e in self._events.values() if e.phase(item.at, quiet=self.settings.quiet) is Phase.OVER]
        for name in over:
            del self._events[name]
        if over:
            self._event_of = {number: name for number, name in self._event_of.items() if name in self._events}

    def _nearest(self, item: Item) -> Event | None:
        best = max(((event.takes(item), event.name) for event in self._events.values()), default=(0.0, ""))
        return self._events[best[1]] if best[0] > 0.0 else None

    def _joined(self, item: Item, surprise: Surprise, event: Event | None) -> Sighting:
        if event is None:
            return Sighting(item=item, surprise=surprise)
        self._event_of[item.number] = event.name
        event = event.with_item(item, score=surprise.score)
        event = self._events[event.name] = self._placed(event) if item.copy_of is None else event
        return Sighting(item=item, surprise=surprise, event=event, phase=Phase.GROWING)

    def _opened(self, item: Item, surprise: Surprise, *, else_joins: Event | None) -> Sighting:
        """A new event, where enough sources tell of it; what bursts with words of its own is no part of another.

        Company that is an event already makes no other one.
        """
        near = set(surprise.neighbours)
        if 2 * len(near & self._event_of.keys()) > len(near):
            return self._joined(item, surprise, else_joins)
        members = [one for one in self._burst.recent if one.number in near and one.number not in self._event_of]
        sources = {member.source for member in (*members, item)}
        if len(sources) < self.settings.sources:
            return self._joined(item, surprise, else_joins)
        tones = np.array(self._tones or [0.0])
        event = Event(
            name=f"e{item.number}",
            opened_at=item.at,
            last_at=item.at,
            words=Event.words_kept(surprise.words),
            sources=frozenset(),
            score=surprise.score,
            items=0,
            originals=0,
            tone=0.0,
            usual_tone=float(tones.mean()),
            usual_spread=float(tones.std()),
            novelty=self._burst.novelty(item),
        )
        for member in (*members, item):
            event = event.with_item(member, score=surprise.score)
            self._event_of[member.number] = event.name
        event = self._events[event.name] = self._placed(replace(event, last_at=item.at))
        numbers = tuple(member.number for member in (*members, item))
        return Sighting(item=item, surprise=surprise, event=event, phase=Phase.NEW, opened=numbers)

    def _placed(self, event: Event) -> Event:
        """The event with how near to it headlines that are no part of it lie, by its encoder."""
        if event.centre is None or self.settings.joins >= 1.0:
            return event
        length = float(np.linalg.norm(event.centre))
        own = frozenset(number for number, name in self._event_of.items() if name == event.name)
        usual, chance = self._burst.nearness(event.centre / max(length, _SHORT), event.encoder, without=own)
        return replace(event, usual_cosine=usual, near=chance + (1.0 - chance) * self.settings.joins)
