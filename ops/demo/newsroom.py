"""A newsroom's day: headlines about companies, stories that several sources tell, copies, and a language that moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import numpy as np

from perennial.continual.records import Example
from perennial.continual.tasks.opinion import Headline, Symbol
from perennial.ops.demo.headline_phrases import COMPANIES, MANNERS, PRODUCTS, SOURCES, STORIES
from perennial.ops.demo.lived import Pace
from perennial.ops.demo.news import ToldStory
from perennial.ops.demo.paced import Asking

__all__ = ["Newsroom"]

_GERMAN = 2  # the manner of a wire in German
_WIRES = {1: "Floor Talk", _GERMAN: "Tagesdraht"}  # who alone writes in a manner, by its number
_NEW_SHARE = 0.5  # of the headlines that come in the manner of the latest change
_COPIED = 0.04  # of the headlines are syndicated
_STORY_EVERY, _STORY_OVER = 105, 18  # headlines from one story to the next, and those that one is told among
_BETWEEN = timedelta(minutes=3)  # of two headlines
_AGO = timedelta(days=40)
_FIRST, _WIRED = 400, 620  # headlines that the first version learns, and that the wire delivers
_SYLLABLES = ("bar", "cel", "dov", "fen", "gal", "hup", "jas", "kor", "lim", "mav", "nes", "por", "rud", "sil", "tam")


@dataclass(kw_only=True)
class Newsroom:
    """Headlines that are made up. Each change brings another manner of speaking, the last one a language.

    See `perennial.ops.demo.news.News`. What its wire delivers has numbers of its own, before those of the questions.
    """

    title: ClassVar[str] = "Opinion: sentiment, events and alerts over a stream of headlines"
    pace: ClassVar[Pace] = Pace(rate=12.0, steady=420, lived=400, settle=150, last=500, patience_s=600.0)
    watched: ClassVar[Mapping[str, Any]] = {"false_alerts_per_day": 0.5, "quiet_hours": 5.0}
    learns_after: ClassVar[int] = 500
    changes: ClassVar[int] = len(MANNERS) - 1

    seed: int
    began: datetime  # when the first headline is published
    manner: int = 0
    stories: list[ToldStory] = field(default_factory=list)
    _story_of: dict[str, ToldStory] = field(default_factory=dict)  # by the texts that tell them
    _rng: np.random.Generator = field(init=False)
    _written: int = 0
    _due: dict[int, list[tuple[str, str, str]]] = field(default_factory=dict)  # text, source and truth, by number
    _latest: list[tuple[str, str, tuple[Symbol, ...]]] = field(default_factory=list)

    @classmethod
    def generated(cls, seed: int) -> "Newsroom":
        """One whose headlines are of the last days."""
        return cls(seed=seed, began=datetime.now(UTC) - _AGO)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def labelled(self) -> list[Example]:
        """Headlines of the time before, with their sentiments."""
        told = (self._about_a_company(0) for _ in range(_FIRST))
        return [Example(text=text, label=truth, at=self.began) for text, truth, _ in told]

    def draw(self) -> Asking:
        """The next headline; a story begins now and then."""
        number, self._written = self._written, self._written + 1
        if number % _STORY_EVERY == _STORY_EVERY - 1:
            self._begin_story(number)
        source = str(self._rng.choice(SOURCES))
        symbols: tuple[Symbol, ...] = ()
        if due := self._due.pop(number, []):
            text, source, truth = due[0]
        elif self._latest and self._rng.random() < _COPIED:
            text, truth, symbols = self._latest[int(self._rng.integers(len(self._latest)))]
        else:
            manner = self.manner if self._rng.random() < _NEW_SHARE else int(self._rng.integers(self.manner + 1))
            text, truth, symbols = self._about_a_company(manner)
            source = _WIRES.get(manner, source)
        self._latest = [*self._latest[-40:], (text, truth, symbols)]
        published = self.began + number * _BETWEEN
        asked = Headline(text=text, source=source, published_at=published, symbols=symbols)
        key = symbols[0].name if symbols else f"desk {number % len(COMPANIES)}"
        return Asking(asked=asked, truth=truth, wave=self.manner, key=key)

    def wired(self) -> list[Headline]:
        """Headlines that tell no story."""
        told = []
        for number in range(-_WIRED, 0):
            text, _, symbols = self._about_a_company(0)
            source, published = str(self._rng.choice(SOURCES)), self.began + number * _BETWEEN
            told.append(Headline(text=text, source=source, published_at=published, symbols=symbols))
        return told

    def story_of(self, text: str) -> ToldStory | None:
        """The story that a text tells."""
        return self._story_of.get(text)

    def change(self) -> str:
        """Bring the next manner of speaking."""
        self.manner = min(self.manner + 1, len(MANNERS) - 1)
        return (
            "a wire in German joins" if self.manner == _GERMAN else "a wire joins that talks as traders on a floor do"
        )

    def _about_a_company(self, manner: int) -> tuple[str, str, tuple[Symbol, ...]]:
        symbol = str(self._rng.choice(list(COMPANIES)))
        sentiment = str(self._rng.choice(list(MANNERS[manner])))
        product = str(self._rng.choice(list(PRODUCTS)))
        text = str(self._rng.choice(MANNERS[manner][sentiment])).format(
            c=COMPANIES[symbol],
            p=PRODUCTS[product] if manner == _GERMAN else product,
            r=self._name(),
        )
        return text, sentiment, (Symbol(name=symbol, names=(COMPANIES[symbol],)),)

    def _begin_story(self, number: int) -> None:
        """Have every text of a story told by another source than the one before, among the next headlines."""
        kind = STORIES[len(self.stories) % len(STORIES)]
        name = self._name()
        told = ToldStory(name=name, kind=kind, began=number)
        self.stories.append(told)
        texts = [text.format(n=name) for text in kind.told]
        german = [text.format(n=name) for text in kind.german] if self.manner == _GERMAN else []
        texts[1 : 1 + len(german)] = german
        places = number + np.sort(self._rng.choice(_STORY_OVER, len(texts), replace=False))
        first = int(self._rng.integers(len(SOURCES)))
        for turn, (text, place) in enumerate(zip(texts, places.tolist(), strict=True)):
            source = _WIRES[_GERMAN] if text in german else SOURCES[(first + turn) % len(SOURCES)]
            self._story_of[text] = told
            self._due.setdefault(place, []).append((text, source, kind.sentiment))

    def _name(self) -> str:
        """A place, or whatever a story is about, that nobody wrote of before."""
        return "".join(str(part) for part in self._rng.choice(_SYLLABLES, 3)).capitalize()
