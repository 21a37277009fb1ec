"""One item of a feed: what is asked of the model, and by what it is known again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from perennial.continual.preparation import admit_time, clean
from perennial.continual.preparation.characters import has_visible
from perennial.continual.tasks.opinion import Headline, Symbol

__all__ = ["FeedItem", "FeedPart", "item_of_row"]

_SOURCE_BYTES = 200
_MOST_SYMBOLS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedItem:
    """`identity` is the same when the feed gives the item again; where it has none of its own, its text is it."""

    text: str
    identity: str = ""
    source: str = ""
    published_at: str = ""
    symbols: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A short name of the identity."""
        return hashlib.sha256((self.identity or self.text).encode()).hexdigest()[:32]

    def headline(self, *, source: str = "") -> Headline:
        """What is asked; `source` stands in where the item tells none."""
        return Headline(
            text=self.text,
            source=_short(self.source or source),
            published_at=datetime.fromisoformat(self.published_at) if self.published_at else None,
            symbols=tuple(Symbol(name=name) for name in self.symbols),
        )

    def written(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def read(cls, written: str) -> "FeedItem":
        """What `written` gave."""
        fields = json.loads(written)
        return cls(**{**fields, "symbols": tuple(fields["symbols"])})


def _short(name: str) -> str:
    """A publisher's name as requests may have it; a feed may call itself anything, at any length."""
    return clean(name).encode()[:_SOURCE_BYTES].decode(errors="ignore").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPart:
    """Items that a feed gave, and where to go on: a mark that the feed itself reads again."""

    items: tuple[FeedItem, ...]
    mark: str
    refused: int = 0
    title: str = ""


def item_of_row(row: Mapping[str, Any], now: datetime) -> FeedItem | None:
    """The item of a row with `text` and where known `id`, `source`, `published_at` and `symbols`; None without a text.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the row has another form.
        DataError: its time cannot be.
    """
    text = clean(row["text"])
    if not has_visible(text):
        return None
    at, symbols = row.get("published_at") or None, row.get("symbols") or ()
    named = symbols.split() if isinstance(symbols, str) else list(symbols)
    return FeedItem(
        text=text,
        identity=str(row.get("id") or ""),
        source=str(row.get("source") or ""),
        published_at="" if at is None else admit_time(at, now=now, without_zone_is_utc=True).isoformat(),
        symbols=tuple(str(name) for name in named)[:_MOST_SYMBOLS],
    )
