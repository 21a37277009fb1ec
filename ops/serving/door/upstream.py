"""The way to Triton's own ports, over connections that are kept."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httptools

from perennial.ops.serving.door.answers import Reply
from perennial.ops.serving.door.requests import Refusal, Request
from perennial.ops.serving.secret import KEY
from perennial.ops.serving.server_record import KeptRecord

__all__ = ["LEFT", "Call", "Done", "Upstream"]

Done = Callable[[Reply | Refusal], None]
_AWAY = Refusal(503, "the server is starting; try again in 1 s", retry_s=1)
_SILENT = Refusal(504, "the server took too long to answer")
_BROKEN = Refusal(503, "the server ended before it answered; try again in 1 s", retry_s=1)
LEFT = Refusal(499, "the client left before it was answered")  # told to nobody: whoever waited has gone


class Call:
    """One question on its way; its client may leave before the answer comes."""

    def __init__(self, done: Done) -> None:
        self._done: Done | None = done
        self._connection: _Connection | None = None
        self.left = False

    def leave(self) -> None:
        """Nobody waits any more: the connection ends, by which Triton knows it, and the router drops what waits."""
        self.left = True
        self.answer(LEFT)
        if self._connection is not None:
            self._connection.close()

    def taken(self, connection: "_Connection") -> None:
        """It goes by this connection."""
        self._connection = connection

    def answer(self, answer: Reply | Refusal) -> None:
        """Hand the answer on, once; from now on there is nothing to leave."""
        done, self._done = self._done, None
        if answer is not LEFT:
            self._connection = None
        if done is not None:
            done(answer)


class _Connection(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self, idle: "list[_Connection]") -> None:
        self._idle = idle
        self._transport: Any = None  # uvloop's own, which derives from nothing
        self._parser = httptools.HttpResponseParser(self)
        self._reply = Reply()
        self._done: Done | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, head: bytes, body: bytes, done: Done) -> None:
        self._reply, self._done = Reply(), done
        self._parser = httptools.HttpResponseParser(self)
        if len(body) < 65_536:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self._reply.content_type = value
        elif name == b"inference-header-content-length":
            self._reply.head_length = value

    def on_body(self, chunk: bytes) -> None:
        self._reply.body.append(chunk)

    def on_message_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()
        done, self._done = self._done, None
        if not self._parser.should_keep_alive():
            self.close()
        elif not self.closed:
            self._idle.append(self)
        if done is not None:
            done(self._reply)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed = True
        with suppress(ValueError):
            self._idle.remove(self)
        done, self._done = self._done, None
        if done is not None:
            done(_BROKEN)

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def give_up(self) -> None:
        """Answer in Triton's place: it took too long."""
        done, self._done = self._done, None
        self.close()
        if done is not None:
            done(_SILENT)


class Upstream:
    """Asks one of Triton's ports. Where that is, and the secret, its record tells, also after a restart."""

    def __init__(self, record: KeptRecord, *, metrics: bool, answer_s: float) -> None:
        self._record, self._metrics, self._answer_s = record, metrics, answer_s
        self._idle: list[_Connection] = []
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, request: Request, body: bytes, done: Done) -> Call:
        """Send a request; `done` is called once, with the answer or with why there is none."""
        call = Call(done)
        record = self._record()
        port = 0 if record is None else record.metrics_port if self._metrics else record.http_port
        if record is None or not port:
            asyncio.get_running_loop().call_soon(call.answer, _AWAY)  # not from within: its caller may go on
            return call
        if port != self._port:
            self._port = port
            for old in self._idle:
                old.close()
            self._idle = []
        head = _head(request, len(body), record.secret)
        if self._idle:
            self._send(self._idle.pop(), head, body, call)
            return call
        task = asyncio.get_running_loop().create_task(self._connect(head, body, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call

    async def _connect(self, head: bytes, body: bytes, call: Call) -> None:
        idle = self._idle
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(idle), "127.0.0.1", self._port
            )
        except OSError:
            call.answer(_AWAY)
            return
        if call.left:
            idle.append(connection)
        else:
            self._send(connection, head, body, call)

    def _send(self, connection: _Connection, head: bytes, body: bytes, call: Call) -> None:
        late = asyncio.get_running_loop().call_later(self._answer_s, connection.give_up)

        def in_time(answer: Reply | Refusal) -> None:
            late.cancel()
            call.answer(answer)

        call.taken(connection)
        connection.ask(head, body, in_time)


def _head(request: Request, length: int, secret: str) -> bytes:
    """Written anew: nothing of a client's headers reaches Triton but one number, and the name of its trace."""
    json_length = request.json_length
    more = b"" if json_length is None else b"Inference-Header-Content-Length: %b\r\n" % json_length
    if request.trace is not None:
        more += b"traceparent: %b\r\n" % request.trace
    return b"%b %b HTTP/1.1\r\nHost: 127.0.0.1\r\n%b: %b\r\nContent-Length: %d\r\n%b\r\n" % (
        b"GET" if request.method == b"HEAD" else request.method,
        request.target,
        KEY.encode(),
        secret.encode(),
        length,
        more,
    )
