"""Reading bodies: never more bytes than allowed, never longer than patience lasts, never more memory than agreed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from perennial.continual.errors import DataError

__all__ = ["Bodies"]

_BODIES_HELD = 4  # of the largest size, all requests together
_MOST_READERS = 64
_MOST_STREAMS = 4
_LEAST_BYTES_PER_S = 50_000  # a body that comes slower than this is given up


@dataclass(slots=True, eq=False)
class _Reader:
    patience: asyncio.Timeout
    size: int = 0
    given_up: bool = False


class Bodies:
    """The bodies of one event loop that are read or worked on; where they are too many, the eldest is given up."""

    def __init__(self, *, limit: int, idle_s: float) -> None:
        self.limit = limit
        self._idle_s = idle_s
        self._reading: dict[_Reader, None] = {}  # by age
        self._held = self._streams = 0

    def check_declared(self, length: str | None) -> None:
        """Refuse by the declared length, before a byte is read.

        Raises:
            HTTPException: 413.
        """
        if length is not None and length.isascii() and length.isdigit() and int(length[:20]) > self.limit:
            raise self._too_large(int(length[:20]))

    @asynccontextmanager
    async def read(self, receive: Receive) -> AsyncIterator[bytes]:
        """The whole body; it counts as held until the block ends.

        Raises:
            HTTPException: 408 when it comes too slowly, 413 when it is too large, 503 when too many come at once.
            ClientDisconnect: the caller went away.
        """
        body = await self._whole(receive)
        self._held += len(body)
        try:
            yield body
        finally:
            self._held -= len(body)

    @asynccontextmanager
    async def stream(self, receive: Receive) -> AsyncIterator[Receive]:
        """Pass a body on as it comes, however long it is; whoever sends too slowly is given up.

        Raises:
            HTTPException: 503 when too many come at once. DataError: it comes too slowly (from the receiver).
        """
        if self._streams >= _MOST_STREAMS:
            raise HTTPException(503, f"{_MOST_STREAMS} streams are being read already; retry a little later")
        loop, size, waited = asyncio.get_running_loop(), 0, 0.0

        async def passed_on() -> Message:
            nonlocal size, waited
            left, began = self._idle_s + size / _LEAST_BYTES_PER_S - waited, loop.time()
            try:
                async with asyncio.timeout(min(self._idle_s, left)):
                    message = await receive()
            except TimeoutError:
                raise DataError(f"the body came too slowly: nothing for {self._idle_s:g} s") from None
            waited, size = waited + loop.time() - began, size + len(message.get("body", b""))
            return message

        self._streams += 1
        try:
            yield passed_on
        finally:
            self._streams -= 1

    async def _whole(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        loop = asyncio.get_running_loop()
        began = loop.time()
        reader = None
        try:
            async with asyncio.timeout(self._idle_s) as patience:
                reader = _Reader(patience)
                self._reading[reader] = None
                self._make_room(reader)
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    parts.append(message.get("body", b""))
                    more = message.get("more_body", False)
                    self._grow(reader, len(parts[-1]))
                    if not reader.given_up:
                        latest = began + self._idle_s + reader.size / _LEAST_BYTES_PER_S
                        patience.reschedule(min(loop.time() + self._idle_s, latest))
        except TimeoutError:
            raise HTTPException(
                408, f"the body came too slowly: nothing for {self._idle_s:g} s, or too many others came meanwhile"
            ) from None
        finally:
            if reader is not None:
                self._leave(reader)
        return b"".join(parts)

    def _grow(self, reader: _Reader, size: int) -> None:
        reader.size += size
        if not reader.given_up:
            self._held += size
        if reader.size > self.limit:
            raise self._too_large(reader.size)
        self._make_room(reader)

    def _make_room(self, reader: _Reader) -> None:
        while len(self._reading) > _MOST_READERS or self._held > _BODIES_HELD * self.limit:
            eldest = next((r for r in self._reading if r is not reader), None)
            if eldest is None:
                raise HTTPException(503, "too many large requests are being worked on; retry a little later")
            eldest.patience.reschedule(asyncio.get_running_loop().time())
            self._leave(eldest)
            eldest.given_up = True

    def _leave(self, reader: _Reader) -> None:
        if self._reading.pop(reader, reader) is None:
            self._held -= reader.size

    def _too_large(self, size: int) -> HTTPException:
        return HTTPException(
            413,
            f"the body has {size} bytes or more; at most {self.limit} are taken (api.body_bytes): send less at once",
        )
