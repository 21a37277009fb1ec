"""One client's connection: requests are read, judged, passed on and answered in order."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools

from perennial.ops.serving.door.answers import Reply, refusal_bytes, reply_bytes
from perennial.ops.serving.door.gathering import Gathering
from perennial.ops.serving.door.inference import Question, checked_request
from perennial.ops.serving.door.limits import DoorLimits
from perennial.ops.serving.door.requests import Body, Refusal, Request, Rules, caller_span, too_large
from perennial.ops.serving.door.upstream import LEFT, Done, Upstream

__all__ = ["ClientConnection", "Hall"]

_ONCE = (b"host", b"content-length", b"origin", b"inference-header-content-length", b"transfer-encoding")
_JSON_LENGTH = b"inference-header-content-length"
_LINGER_S = 5.0  # a client that is still sending would otherwise lose the answer with the connection
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_DROPPED_S = 2.0  # by then the router has dropped what nobody waits for
_FULL = Refusal(503, "too many requests are under way; try again in 1 s", retry_s=1)


class Hall:
    """What all connections of one port share: the rules, the way on, and how much is inside."""

    def __init__(
        self,
        rules: Rules,
        upstream: Upstream,
        limits: DoorLimits,
        present: "set[ClientConnection]",
        gathering: Gathering | None = None,
        *,
        traces: bool = False,
    ) -> None:
        self.rules, self.upstream, self.limits, self.present = rules, upstream, limits, present
        self.gathering, self.traces = gathering, traces
        self.buffered = 0
        self.under_way = 0  # requests that Triton works on, those of clients that have just left included

    def is_over(self) -> None:
        """One request less is under way."""
        self.under_way -= 1


class ClientConnection(asyncio.Protocol):
    """Reads while nothing waits to be answered; so a client that sends ahead fills no memory."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._transport: Any = None  # uvloop's own, which derives from nothing
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._body: Body | None = None
        self._unread = 0  # bytes of headers that are not complete
        self._waiting: deque[tuple[Request, Body]] = deque()
        self._busy = self._lingering = self._paused = self._full = self._has_ended = False
        self._leave: Callable[[], None] | None = None  # gives up what Triton does for this client
        self._old = False  # whether the request under way is of HTTP/1.0, which knows no interim response
        self._began = 0.0
        self.deadline = 0.0  # by the loop's clock; 0 while Triton is at work

    # ---- the transport ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came; the one that has waited longest without a request leaves when the hall is full."""
        self._transport = transport
        self._clock = asyncio.get_running_loop().time
        present, limits = self._hall.present, self._hall.limits
        present.add(self)
        self.deadline = self._clock() + limits.header_s  # the first request is to come soon
        if len(present) > limits.connections:
            resting = [client for client in present if client.rests and client is not self]
            if resting:
                min(resting, key=lambda client: client.deadline).abort()
            else:
                self._refuse_and_leave(_FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left; what waits for it is given up, and what Triton has begun is thrown away."""
        del exc
        self._hall.present.discard(self)
        self._release(self._body)
        for _, body in self._waiting:
            self._release(body)
        self._body = None
        self._waiting.clear()
        self._transport = None
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def data_received(self, data: bytes) -> None:
        """Take in what came; anything that is no HTTP ends the connection."""
        if self._lingering:
            return
        self._unread += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # refused by its headers
        except httptools.HttpParserError:
            self._refuse_and_leave(Refusal(400, "this is not a valid HTTP request"))
            return
        if self._body is not None and self._request.refusal is not None and not self._busy:
            self._refuse_and_leave(self._request.refusal)  # before its body has come
        elif self._body is None and self._unread > self._hall.limits.header_bytes:
            self._refuse_and_leave(Refusal(431, f"the headers exceed {self._hall.limits.header_bytes} bytes"))
        elif self._waiting and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """A client that has sent all still gets its answer; whether it still listens, `look` finds out."""
        self._has_ended = True
        self._greet()
        return self._busy

    @property
    def rests(self) -> bool:
        """Whether it waits for a request that has not begun."""
        return not self._busy and self._body is None and not self._unread and not self._lingering

    @property
    def is_busy(self) -> bool:
        """Whether Triton is at work for it."""
        return self._busy

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def look(self, now: float) -> None:
        """End what is late; called every second."""
        self._greet()
        if self._transport is None or not self.deadline or now < self.deadline:
            return
        if self._lingering or self.rests or self._transport.get_write_buffer_size():
            self.abort()
        elif not self._busy and not self._waiting:
            self._refuse_and_leave(Refusal(408, "the request did not arrive in time"))

    def _greet(self) -> None:
        """Send a client that will send no more an interim response, which any client reads over (RFC 9110, 15.2).

        One that has left altogether answers with a reset, which ends the connection at the next one.
        """
        if self._has_ended and self._busy and not self._old and self._transport is not None:
            self._transport.write(_CONTINUE)

    # ---- the parser ----

    def on_message_begin(self) -> None:
        """A request begins."""
        self._request, self._body = Request(), None
        self._began = self._clock()
        if not self._busy:
            self.deadline = self._began + self._hall.limits.header_s

    def on_url(self, piece: bytes) -> None:
        """Part of the target."""
        self._request.target += piece[: self._hall.limits.header_bytes]
        self._request.size += len(piece)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; a trailer of a chunked body is one too, and counts for nothing."""
        request = self._request
        request.size += len(name) + len(value)
        if self._body is not None or request.size > self._hall.limits.header_bytes:
            return
        name = name.lower()
        if name in request.headers and name in _ONCE:
            request.doubled = name
        if name in request.headers and name == b"traceparent":
            value = b""  # which of two callers' spans it is part of cannot be known
        request.headers[name] = value

    def on_headers_complete(self) -> None:
        """Judge the request before its body comes."""
        request, limits = self._request, self._hall.limits
        self._body, self._unread = Body(), 0
        request.method = self._parser.get_method()
        request.old = self._parser.get_http_version() == "1.0"
        request.keep_alive = self._parser.should_keep_alive() and not request.old
        if request.size > limits.header_bytes:
            request.refusal = Refusal(431, f"the headers exceed {limits.header_bytes} bytes")
            request.keep_alive = False
        elif self._parser.should_upgrade():
            request.refusal, request.keep_alive = Refusal(400, "this server speaks plain HTTP alone"), False
        else:
            request.refusal = self._hall.rules.refuse(request)
        self.deadline = self._clock() + limits.body_idle_s
        if request.refusal is None:
            if request.headers.get(b"expect", b"").lower() == b"100-continue" and not self._busy:
                self._transport.write(_CONTINUE)
        elif request.length != 0:
            request.keep_alive = False  # what follows may be anything

    def on_body(self, chunk: bytes) -> None:
        """Part of a body; kept within the bounds only."""
        request, body, hall = self._request, self._body, self._hall
        if request.refusal is not None or body is None or self._transport is None:
            return
        if body.size + len(chunk) > hall.limits.body_bytes:
            request.refusal, request.keep_alive = too_large(hall.limits.body_bytes), False
        elif hall.buffered + len(chunk) > hall.limits.buffered_bytes:
            request.refusal, request.keep_alive = _FULL, False
        else:
            body.add(chunk)
            hall.buffered += len(chunk)
            self.deadline = min(self._clock() + hall.limits.body_idle_s, self._began + hall.limits.body_s)
            return
        self._release(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        body, self._body, self._unread = self._body or Body(), None, 0
        if self._lingering:  # sent ahead, behind one after which the connection ends
            self._release(body)
            return
        self._waiting.append((self._request, body))
        self._next()

    # ---- answering ----

    def pause_writing(self) -> None:
        """The client does not take its answers: it gets no further one."""
        self._full = True

    def resume_writing(self) -> None:
        """It took them."""
        self._full = False
        self._next()

    def _next(self) -> None:
        """Pass on the request that has waited longest, or answer it here."""
        while self._waiting and not self._busy and not self._full and self._transport is not None:
            request, body = self._waiting.popleft()
            question: Question | None = None
            refusal = request.refusal
            if refusal is None and request.method == b"POST":
                checked = checked_request(body.whole(), request.headers.get(_JSON_LENGTH))
                if isinstance(checked, Refusal):
                    refusal = checked
                else:
                    question = checked
            if refusal is None and self._hall.under_way >= self._hall.limits.connections:
                refusal = _FULL
            if refusal is not None:
                self._release(body)
                head = request.method == b"HEAD"
                message = refusal_bytes(refusal, keep_alive=request.keep_alive, head=head)
                self._answer(message, keep_alive=request.keep_alive)
                continue
            body.chunks.clear()  # or a large one stands in memory twice
            self._busy, self._old, self.deadline = True, request.old, 0.0
            self._hall.under_way += 1
            self._pass_on(request, question, partial(self._done, request, body))
        if self._paused and not self._waiting and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _pass_on(self, request: Request, question: Question | None, done: Done) -> None:
        """Have it answered: together with others that wait, where it is one of those, else alone.

        One whose caller traces it goes alone: what answers several belongs to no one's trace.
        """
        hall = self._hall
        if hall.traces:
            request.trace = caller_span(request)
        leave: Callable[[], None] | None = None
        if question is not None and request.trace is None and hall.gathering is not None:
            leave = hall.gathering.takes(request, question, done)
        if leave is None:
            whole = b""
            if question is not None:
                whole, request.json_length = question.written()
            leave = hall.upstream.ask(request, whole, done).leave
        self._leave = leave if self._busy else None  # `done` may have been called already

    def _done(self, request: Request, body: Body, answer: Reply | Refusal) -> None:
        self._release(body)
        if answer is LEFT:
            asyncio.get_running_loop().call_later(_DROPPED_S, self._hall.is_over)
        else:
            self._hall.is_over()
        self._busy, self._leave = False, None
        if self._transport is None:
            return
        head, keep_alive = request.method == b"HEAD", request.keep_alive
        if isinstance(answer, Refusal):
            message = refusal_bytes(answer, keep_alive=keep_alive, head=head)
        else:
            message = reply_bytes(answer, keep_alive=keep_alive, head=head)
        self._answer(message, keep_alive=keep_alive)
        if self._waiting:
            self._next()

    def _answer(self, message: bytes, *, keep_alive: bool) -> None:
        limits = self._hall.limits
        self._transport.write(message)
        if keep_alive:
            begun = self._body is not None or self._unread
            self.deadline = self._clock() + (limits.body_idle_s if begun else limits.keep_alive_s)
            return
        self._lingering = True
        for _, body in self._waiting:
            self._release(body)
        self._waiting.clear()
        self.deadline = self._clock() + _LINGER_S
        self._transport.write_eof()

    def _refuse_and_leave(self, refusal: Refusal) -> None:
        """Answer this after all that waits, and read no more."""
        if self._lingering:
            return
        self._lingering = True
        self._release(self._body)
        self._body = None
        self._waiting.append((Request(refusal=refusal, keep_alive=False), Body()))
        self._next()

    def _release(self, body: Body | None) -> None:
        """Count a body's bytes as gone."""
        if body is not None:
            self._hall.buffered -= body.size
            body.size = 0
            body.chunks.clear()
