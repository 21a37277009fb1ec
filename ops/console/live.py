"""Tells open pages that something changed, by server-sent events that survive a restart of either side."""

import asyncio
from collections.abc import AsyncIterator, Callable
from hashlib import sha256

from anyio import to_thread

__all__ = ["Pulse"]

_EVERY_S = 1.0
_BEAT_S = 15.0  # a comment, so that whoever is gone is noticed
_AGAIN_MS = 2_000


class Pulse:
    """Looks at what pages show while somebody has one open, and wakes them when it is not as it was.

    A mark stands for one state of what is looked at. A page carries the mark from before it was made, and an event the
    mark of now: so nothing is missed between a page and its stream, and a page that comes back is told at once.
    """

    def __init__(self, look: Callable[[], object], *, every_s: float = _EVERY_S, most: int = 200) -> None:
        self._look, self._every_s, self.most = look, every_s, most
        self._seen = ""
        self._waiting: set[asyncio.Event] = set()
        self._watch: asyncio.Task[None] | None = None
        self._left = False

    @property
    def open(self) -> int:
        """How many pages listen."""
        return len(self._waiting)

    def mark(self) -> str:
        """Return the mark of now, at most as old as the time between two looks; for any thread but the loop's."""
        if self._watch is None or self._watch.done():
            self._seen = self._looked()
        return self._seen

    def leave(self) -> None:
        """End every stream within its next look; pages ask again, and find the next process."""
        self._left = True

    async def events(self, last: str) -> AsyncIterator[str]:
        """Return what one page is told, from the mark on that it knows."""
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            yield f"retry: {_AGAIN_MS}\n\n"
            await self._begin()
            yield self._event("changed" if last and last != self._seen else "hello")
            while not self._left:
                try:
                    async with asyncio.timeout(_BEAT_S):
                        await changed.wait()
                except TimeoutError:
                    await self._begin()
                    yield ": still here\n\n"
                    continue
                changed.clear()
                if not self._left:
                    yield self._event("changed")
        finally:
            self._waiting.discard(changed)

    async def _begin(self) -> None:
        """Watch, where nobody does."""
        if self._watch is None or self._watch.done():
            self._watch = asyncio.get_running_loop().create_task(self._watching())
            self._seen = await to_thread.run_sync(self._looked)

    async def _watching(self) -> None:
        try:
            while self._waiting and not self._left:
                await asyncio.sleep(self._every_s)
                seen = await to_thread.run_sync(self._looked)
                if seen != self._seen:
                    self._seen = seen
                    self._wake()
        finally:
            if self._left:
                self._wake()

    def _looked(self) -> str:
        return sha256(repr(self._look()).encode("utf-8", "backslashreplace")).hexdigest()[:16]

    def _wake(self) -> None:
        for changed in self._waiting:
            changed.set()

    def _event(self, name: str) -> str:
        return f"id: {self._seen}\nevent: {name}\ndata: {self._seen}\n\n"
