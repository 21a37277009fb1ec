"""Readers of a library: each follows threads of books, threads change, and new books come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

import numpy as np

from perennial.continual.learning.ranking import Event, Item
from perennial.exporters.ranking.asked import Asked
from perennial.ops.demo.lived import Pace
from perennial.ops.demo.paced import Asking
from perennial.ops.demo.readership import Wants

__all__ = ["Library", "Readers"]

_FIRST = ("garden", "engine", "harbour", "winter", "letter", "circus")
_NEW = ("comet", "orchard")
_KINDS = ("story", "guide", "mystery", "diary", "atlas")
_BOOKS = 16  # of a word
_THREAD = 8  # books that are read one after the other
_AHEAD = 3  # books that a reader wants next
_COUNT = 10  # of a list
_HISTORY = 6  # books that a reader has read at the start
_WHIM = 0.2  # the chance that a reader wants something else first


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Books, and the order in which they are read: one set of threads for each state of the world.

    Threads cross the words of the titles, so that no text tells what follows what.
    """

    first: tuple[Item, ...]
    new: tuple[Item, ...]  # they come with the second change
    threads: tuple[tuple[tuple[str, ...], ...], ...]

    @classmethod
    def generated(cls, seed: int) -> "Library":
        """A library: threads, other threads, and others once more with the new books among them."""
        rng = np.random.default_rng(seed)
        first, new = _books(_FIRST), _books(_NEW)
        old = [book.name for book in first]
        everything = old + [book.name for book in new]
        return cls(first=first, new=new, threads=tuple(_threads(names, rng) for names in (old, old, everything)))


@dataclass(kw_only=True)
class Readers:
    """Who asks for lists, in turns, and what each will like next, whatever the list says.

    See `perennial.ops.demo.readership.Readership`.
    """

    title: ClassVar[str] = "Recommendation: lists that follow their readers"
    pace: ClassVar[Pace] = Pace(rate=12.0, steady=420, lived=400, settle=150, last=500)
    params: ClassVar[Mapping[str, Any]] = {"ridge": 5.0}  # of a small library; the recipe's suits thousands of items

    learns_after: ClassVar[int] = 700
    told_at_once: ClassVar[bool] = False

    library: Library
    count: int
    seed: int
    wave: int = 0
    _rng: np.random.Generator = field(init=False)
    _ahead: list[list[str]] = field(init=False)  # what is left of each reader's thread
    _seen: list[set[str]] = field(init=False)
    _asked: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._ahead, self._seen = [[] for _ in range(self.count)], [set() for _ in range(self.count)]

    @property
    def first(self) -> tuple[Item, ...]:
        """The library's own."""
        return self.library.first

    def history(self, now: datetime) -> list[Event]:
        """What every reader liked before anything was served, the last of it an hour ago."""
        events = []
        for reader in range(self.count):
            for step in range(_HISTORY):
                at = now - timedelta(hours=1 + 20 * (_HISTORY - 1 - step), seconds=reader)
                events.append(Event(user=_name(reader), item=self._next(reader, 1)[0], at=at))
        return events

    def draw(self) -> Asking:
        """The next reader's question; what they want is liked soon after."""
        reader, self._asked = self._asked % self.count, self._asked + 1
        wanted = self._next(reader, _AHEAD)
        name = _name(reader)
        signals = tuple({"user": name, "item": book} for book in wanted)
        truth = Wants(items=dict.fromkeys(wanted, 1.0), signals=signals)
        return Asking(asked=Asked(user=name, count=_COUNT), truth=truth, wave=self.wave, key=name)

    def change(self) -> tuple[str, Sequence[Item]]:
        """Let every reader begin with the next state's threads."""
        self.wave += 1
        self._ahead = [[] for _ in range(self.count)]
        if self.wave + 1 < len(self.library.threads):
            return "readers follow other threads", ()
        return f"{len(self.library.new)} new books come, and threads lead through them", self.library.new

    def _whim(self, threads: Sequence[Sequence[str]]) -> str:
        """Any book."""
        thread = threads[int(self._rng.integers(len(threads)))]
        return thread[int(self._rng.integers(len(thread)))]

    def _next(self, reader: int, books: int) -> Sequence[str]:
        ahead, threads = self._ahead[reader], self.library.threads[self.wave]
        while len(ahead) < books:
            if len(self._seen[reader]) > _BOOKS * len(_FIRST) - _THREAD:
                self._seen[reader].clear()  # they begin to read again
            thread, start = threads[int(self._rng.integers(len(threads)))], int(self._rng.integers(_THREAD))
            thread = (*thread[start:], *thread[:start])
            ahead += [book for book in thread if book not in self._seen[reader] and book not in ahead]
        if self._rng.random() < _WHIM and (whim := self._whim(threads)) not in self._seen[reader] | set(ahead):
            ahead.insert(0, whim)
        taken, self._ahead[reader] = ahead[:books], ahead[books:]
        self._seen[reader].update(taken)
        return taken


def _books(words: Sequence[str]) -> tuple[Item, ...]:
    return tuple(
        Item(name=f"{word}-{number:02}", text=f"{word} {_KINDS[number % len(_KINDS)]}")
        for word in words
        for number in range(_BOOKS)
    )


def _threads(names: Sequence[str], rng: np.random.Generator) -> tuple[tuple[str, ...], ...]:
    order = [names[place] for place in rng.permutation(len(names))]
    return tuple(tuple(order[start : start + _THREAD]) for start in range(0, len(order), _THREAD))


def _name(reader: int) -> str:
    return f"reader-{reader:04}"
