"""An event: headlines that came together and mean the same, from its first alarm until it is quiet."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np

from perennial.continual.events.item import Item, Place

__all__ = ["Event", "Phase"]

_MOST_WORDS = 6
_LEADING = 2
_WITH_WORD = 2 / 3  # of the way from the usual headline to the event that is near enough for one with a leading word


class Phase(StrEnum):
    """How far an event is: its first alarm, more headlines of it, or none for a while."""

    NEW = "new"
    GROWING = "growing"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Event:
    """What is known of one event. `centre` is the sum of its originals' places, by `encoder`.

    `items` counts all headlines of it, `originals` those that are no copies; `tone` is the sum of the originals'.
    `usual_tone` and `usual_spread` tell what the headlines before it were like. `usual_cosine` is how near to its
    centre the usual headline lies, by this encoder, and `near` from where one belongs to it.
    """

    name: str
    opened_at: datetime
    last_at: datetime
    words: tuple[str, ...]
    sources: frozenset[str]
    score: float
    items: int
    originals: int
    tone: float
    usual_tone: float = 0.0
    usual_spread: float = 1.0
    novelty: float = 1.0
    encoder: str = ""
    centre: Place | None = None
    usual_cosine: float = 0.0
    near: float = 1.0

    def with_item(self, item: Item, *, score: float) -> "Event":
        """The event with one more headline."""
        if item.copy_of is not None:
            return replace(self, last_at=max(self.last_at, item.at), items=self.items + 1)
        centre = self.centre
        if item.place is not None and (centre is None or item.encoder == self.encoder):
            centre = item.place if centre is None else centre + item.place
        return replace(
            self,
            last_at=max(self.last_at, item.at),
            sources=self.sources | {item.source},
            score=max(self.score, score),
            items=self.items + 1,
            originals=self.originals + 1,
            tone=self.tone + item.tone,
            encoder=self.encoder or item.encoder,
            centre=centre,
        )

    def phase(self, now: datetime, *, quiet: timedelta) -> Phase:
        """Over when nothing came for so long; new while nothing came after the alarm."""
        if now - self.last_at > quiet:
            return Phase.OVER
        return Phase.NEW if self.last_at <= self.opened_at else Phase.GROWING

    def takes(self, item: Item) -> float:
        """How surely a headline belongs to it, 0 where it does not.

        It does with both of the event's leading words, or near its centre; with one of the words it may be less near.
        Where nobody knows what is near, one leading word is enough for an event that has no other.
        """
        leading = self.words[:_LEADING]
        shared = sum(word in item.words for word in leading)
        if leading and shared == len(leading) and (shared == _LEADING or self.centre is None):
            return 1.0
        if self.centre is None or item.place is None or item.encoder != self.encoder or self.near >= 1.0:
            return 0.0
        length = float(np.linalg.norm(self.centre))
        cosine = float(self.centre @ item.place) / length if length else 0.0
        enough = self.usual_cosine + (self.near - self.usual_cosine) * (_WITH_WORD if shared else 1.0)
        return max(0.0, min(1.0, cosine)) if cosine >= enough else 0.0

    def to_record(self) -> dict[str, Any]:
        """JSON values only."""
        return {
            "name": self.name,
            "opened_at": self.opened_at.isoformat(),
            "last_at": self.last_at.isoformat(),
            "words": list(self.words),
            "sources": sorted(self.sources),
            "score": self.score,
            "items": self.items,
            "originals": self.originals,
            "tone": self.tone,
            "usual_tone": self.usual_tone,
            "usual_spread": self.usual_spread,
            "novelty": self.novelty,
            "encoder": self.encoder,
            "usual_cosine": self.usual_cosine,
            "near": self.near,
            "centre": None if self.centre is None else [float(value) for value in self.centre],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Event":
        """What `to_record` gave, after JSON."""
        centre = record["centre"]
        return cls(
            **{
                **record,
                "opened_at": datetime.fromisoformat(record["opened_at"]),
                "last_at": datetime.fromisoformat(record["last_at"]),
                "words": tuple(record["words"]),
                "sources": frozenset(record["sources"]),
                "centre": None if centre is None else np.array(centre, dtype=np.float32),
            }
        )

    @staticmethod
    def words_kept(words: tuple[str, ...]) -> tuple[str, ...]:
        """Those that an event is told by."""
        return words[:_MOST_WORDS]
