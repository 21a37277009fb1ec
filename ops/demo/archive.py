"""Dated headlines as the world wrote them: their language changed by itself, and nobody noted which were stories."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, ClassVar

from perennial.continual.records import Example
from perennial.continual.tasks.opinion import Headline
from perennial.ops.demo.data import FIRST_DATED, dated_rows
from perennial.ops.demo.lived import Pace
from perennial.ops.demo.news import ToldStory
from perennial.ops.demo.paced import Asking

__all__ = ["Archive"]

_CALLER = 20  # headlines in a row count as one caller's: they are of a few days, and alike
_RATE = 30.0


@dataclass(kw_only=True)
class Archive:
    """See `perennial.ops.demo.news.News`. The last headline is given again where more are asked for."""

    watched: ClassVar[Mapping[str, Any]] = {"false_alerts_per_day": 0.005, "sources": 1, "quiet_hours": 48.0}
    learns_after: ClassVar[int] = 500
    changes: ClassVar[int] = 0
    stories: ClassVar[tuple[ToldStory, ...]] = ()

    title: str
    first: tuple[Example, ...]
    headlines: tuple[tuple[Headline, str], ...]  # each with its sentiment
    _next: int = field(default=0, init=False)

    @classmethod
    def read(cls, path: Path, *, first: int = FIRST_DATED) -> "Archive":
        """The rows of a file with date, text and label; the first ones are what the first version learns.

        Raises:
            DataError: a row has no date, or there are too few rows.
        """
        rows = dated_rows(path, first=first)
        at = datetime.now(UTC)
        told: list[tuple[Headline, str]] = []
        for number, (day, text, label) in enumerate(rows[first:]):
            # all of a day have midnight; a millisecond apart they keep their order
            published = datetime.combine(date.fromisoformat(day), time(tzinfo=UTC)) + number * timedelta(milliseconds=1)
            told.append((Headline(text=text, published_at=published), label))
        return cls(
            title=f"Opinion over {path.stem}, {rows[first][0]} to {rows[-1][0]}",
            first=tuple(Example(text=text, label=label, at=at) for _, text, label in rows[:first]),
            headlines=tuple(told),
        )

    @property
    def pace(self) -> Pace:
        """All of them, one after the other."""
        return Pace(rate=_RATE, steady=len(self.headlines), lived=0, settle=0, last=0, patience_s=1_800.0)

    def labelled(self) -> tuple[Example, ...]:
        """The first rows."""
        return self.first

    def wired(self) -> tuple[Headline, ...]:
        """Nothing: every headline is asked about."""
        return ()

    def draw(self) -> Asking:
        """The next headline."""
        number, self._next = min(self._next, len(self.headlines) - 1), self._next + 1
        asked, sentiment = self.headlines[number]
        return Asking(asked=asked, truth=sentiment, wave=0, key=f"desk {number // _CALLER}")

    def change(self) -> str:
        """Never called: the world changes by itself."""
        return "nothing"

    def story_of(self, text: str) -> ToldStory | None:
        """Nobody knows."""
        del text
        return None
