"""From a feed to the served model: nothing new is taken in while earlier items wait."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perennial.continual.errors import DependencyUnreachable, PerennialError, PublishFailed
from perennial.continual.tasks.opinion import Headline
from perennial.ops.feeds.documents import read_document
from perennial.ops.feeds.feed_item import FeedItem, FeedPart
from perennial.ops.feeds.feed_state import FeedState
from perennial.ops.feeds.fetching import fetch
from perennial.ops.feeds.growing_file import read_new_rows
from perennial.ops.feeds.redis_stream import read_stream
from perennial.ops.settings import FeedSettings

__all__ = ["FeedPump"]

logger = logging.getLogger(__name__)
_MOST_ROUNDS = 50  # of one pass, so that the other feeds get their turn
Ask = Callable[[Sequence[Headline], Sequence[str]], Sequence[Any]]


class FeedPump:
    """One feed of a model. `ask(headlines, keys)` asks the served model; the key names the feed, for an erasure.

    An item leaves the queue once it is answered, so that it is asked at least once; one that is given or asked twice
    is a copy to the watch of events.
    """

    def __init__(self, name: str, settings: FeedSettings, state: FeedState, ask: Ask) -> None:
        self.name, self._settings, self._state, self._ask = name, settings, state, ask

    def run(self) -> str:
        """Ask what waits, then take in what is new and ask that; returns what was done.

        Raises:
            DependencyUnreachable: neither the feed nor the model is there; what was taken in waits.
            DataError: the feed is none.
        """
        asked = refused = 0
        for _ in range(_MOST_ROUNDS):
            waiting = self._state.waiting(self.name, most=self._settings.items_at_once)
            if not waiting:
                part = self._read(datetime.now(UTC))
                refused += part.refused
                if not self._state.take(self.name, part, at=datetime.now(UTC)):
                    if part.items and not self._settings.is_document:
                        continue  # all of them known; what grows goes on
                    break
                continue
            refused += self._answer(waiting)
            asked += len(waiting)
        return f"{asked} asked, {refused} refused" if asked or refused else ""

    def _read(self, now: datetime) -> FeedPart:
        mark, title = self._state.mark(self.name)
        settings = self._settings
        if settings.file:
            return read_new_rows(
                Path(settings.file), mark, now=now, most_bytes=settings.most_bytes, most_items=settings.items_at_once
            )
        if settings.stream:
            return read_stream(
                settings.url,
                settings.stream,
                mark,
                now=now,
                timeout_s=settings.timeout_s,
                most_items=settings.items_at_once,
                secret="" if settings.secret is None else settings.secret.get_secret_value(),
            )
        found = fetch(
            settings.url,
            mark,
            timeout_s=settings.timeout_s,
            most_bytes=settings.most_bytes,
            private=settings.private_addresses,
        )
        if found.body is None:
            return FeedPart(items=(), mark=found.mark, title=title)
        return replace(read_document(found.body, now=now), mark=found.mark)

    def _answer(self, waiting: Sequence[tuple[int, FeedItem]]) -> int:
        """Ask them together; where the model refuses, one by one, and what it refuses alone is left out."""
        source = self._settings.source or self._state.mark(self.name)[1] or self.name
        numbers, headlines = [number for number, _ in waiting], [item.headline(source=source) for _, item in waiting]
        keys = [f"feed:{self.name}"] * len(headlines)
        try:
            self._ask(headlines, keys)
        except DependencyUnreachable:
            raise
        except PerennialError as exc:
            if len(waiting) > 1:
                return sum(self._answer([one]) for one in waiting)
            if isinstance(exc, PublishFailed) and "UNAVAILABLE" in str(exc):
                raise
            logger.warning("feed.refused", extra={"feed": self.name, "reason": str(exc)})
            self._state.answered(numbers)
            return 1
        self._state.answered(numbers)
        return 0
