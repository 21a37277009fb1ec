"""Who asks for lists in a demonstration: readers who are made up, or the users of a folder's events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from perennial.continual.learning.ranking import Event, Item
from perennial.ops.demo.lived import Pace
from perennial.ops.demo.paced import Asking

__all__ = ["Readership", "Wants", "named"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What a user likes next, and what becomes known after the list.

    `signals` are as `POST /v1/signals` takes them, of the same user and of others; only the prediction id is missing.
    """

    items: Mapping[str, float]
    signals: tuple[Mapping[str, Any], ...]


class Readership(Protocol):
    """Users in turns, whose wishes change twice, and a catalogue that grows."""

    @property
    def title(self) -> str:
        """Of the page."""
        ...

    @property
    def pace(self) -> Pace:
        """How fast they ask."""
        ...

    @property
    def params(self) -> Mapping[str, Any]:
        """What the learner is told."""
        ...

    @property
    def learns_after(self) -> int:
        """So many rows of feedback begin a cycle by themselves."""
        ...

    @property
    def told_at_once(self) -> bool:
        """Whether what a user does is known before the next question, as it is where time is not pressed together."""
        ...

    @property
    def first(self) -> Sequence[Item]:
        """The catalogue at the start."""
        ...

    def history(self, now: datetime) -> Sequence[Event]:
        """What everybody did before anything was served."""
        ...

    def draw(self) -> Asking:
        """The next question; its truth is `Wants`."""
        ...

    def change(self) -> tuple[str, Sequence[Item]]:
        """Let the next change happen, and say in words what is different, and which items are new."""
        ...


def named(path: Path) -> str:
    """What a folder is called on a page."""
    return path.resolve().name.replace("_", " ")
