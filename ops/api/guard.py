"""What stands before every operation: who asks, from where, and how much; the body is read last."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perennial.continual.errors import DependencyUnreachable
from perennial.ops.api.auth import Where, bearer_of, check, need_of
from perennial.ops.api.body import Bodies
from perennial.ops.api.errors import answer_to
from perennial.ops.api.origin import Hosts, check_form, check_page, check_write
from perennial.ops.api.pages import Pages
from perennial.ops.safety.roles import BY_SESSION, CALLER, EVERY, LOCAL, Caller
from perennial.ops.settings import ApiSettings
from perennial.ops.views.callers import Callers

__all__ = ["STREAMS", "Guard"]

STREAMS = "x-streams"  # of an operation that reads its body bit by bit
_STREAM = "perennial.streams"
_READS = frozenset({"GET", "HEAD"})
_NO_TOKEN = "give a bearer token: Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"}
_LINGER_S = 5.0  # for a refused caller that goes on sending before it reads the refusal
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Middleware that lets a request through only when host, page, token and size are right."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Sequence[BaseRoute],
        settings: ApiSettings,
        callers: Callers,
        pages: Pages | None = None,
    ) -> None:
        self._app = app
        self._routes = routes
        self._pages = pages
        self._hosts = Hosts(settings.host, settings.hosts)
        self._callers = callers
        self._bodies = Bodies(limit=settings.body_bytes, idle_s=settings.idle_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, read the body, and pass the request on; a refusal is answered here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._pages)
        try:
            inner = await self._let_in(scope)
            if inner[_STREAM]:
                async with self._bodies.stream(exchange.receive) as passed_on:
                    await self._app(inner, passed_on, exchange.send)
                return
            async with self._bodies.read(exchange.receive) as body:
                await self._app(inner, exchange.replayed(body), exchange.send)
        except ClientDisconnect:
            return  # nobody is left to be told
        except Exception as exc:
            if exchange.answered:
                raise
            await exchange.refuse(exc)

    async def _let_in(self, scope: Scope) -> Scope:
        """The scope for the operation, when its caller may ask for it."""
        headers, method = Headers(scope=scope), scope["method"]
        server = scope.get("server")
        self._hosts.check(headers, server[0] if server else None)
        check_page(method, headers)
        inner = {**scope, "method": "GET" if method == "HEAD" else method}
        route, places = self._route(inner)
        inner[_STREAM] = STREAMS in (getattr(route, "openapi_extra", None) or {})
        is_page = self._pages is not None and self._pages.covers(scope["path"])
        need = need_of(route)
        try:
            caller, by_session = await self._caller(headers, is_page=is_page)
        except DependencyUnreachable:
            if need is not None:
                raise
            caller, by_session = None, False  # what is open to everybody needs no ledger
        inner |= {CALLER: caller, BY_SESSION: by_session}
        if need is not None:
            if caller is None:
                raise HTTPException(401, *(("sign in",) if is_page else _NO_TOKEN))
            needed, where = need
            if where is Where.SOMEWHERE:
                if caller.most is None or caller.most < needed:
                    check(caller, needed)
            else:
                check(caller, needed, places.get("model", EVERY))
        if method not in _READS:
            (check_form if is_page else check_write)(headers)
        if not inner[_STREAM]:
            self._bodies.check_declared(headers.get("content-length"))
        return inner

    async def _caller(self, headers: Headers, *, is_page: bool) -> tuple[Caller | None, bool]:
        """Who asks, and whether by a session of the console and no token; None for a stranger."""
        if not self._callers.asks:
            return LOCAL, False
        cookie = self._pages.cookie_of(headers) if is_page and self._pages is not None else ""
        token = bearer_of(headers)
        if not cookie and not token:
            return None, False
        if not self._callers.reads_ledger:
            return self._known(cookie, token)
        return await run_in_threadpool(self._known, cookie, token)

    def _known(self, cookie: str, token: str | None) -> tuple[Caller | None, bool]:
        if cookie and self._pages is not None:
            caller = self._pages.signed_in(cookie, self._callers.sessions())
            if caller is not None:
                return caller, True
        return (None if token is None else self._callers.with_token(token)), False

    def _route(self, scope: Scope) -> tuple[BaseRoute, Mapping[str, str]]:
        allowed: set[str] = set()
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                return route, found.get("path_params", {})
            if match is Match.PARTIAL:
                allowed |= set(getattr(route, "methods", None) or ())
        if not allowed:
            raise HTTPException(404, "there is no such path; /openapi.json lists those that are there")
        if "GET" in allowed:
            allowed.add("HEAD")
        methods = ", ".join(sorted(allowed))
        raise HTTPException(
            405, f"{scope['method'][:20]} is not among this path's methods: {methods}", {"Allow": methods}
        )


class _Exchange:
    """One request and its answer: what was read and sent of it so far."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, pages: Pages | None) -> None:
        self._scope = scope
        self._pages = pages
        self._receive = receive
        self._send = send
        self._headers = Headers(scope=scope)
        self._unread = "content-length" in self._headers or "transfer-encoding" in self._headers
        self.answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    def replayed(self, body: bytes) -> Receive:
        """The body as one message; after it, whatever comes from the server."""
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            return messages.pop() if messages else await self._receive()

        return receive

    async def send(self, message: Message) -> None:
        """Send with the headers that every answer has; a HEAD request gets no body."""
        if message["type"] == "http.response.start":
            self.answered = True
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Content-Security-Policy", _NOTHING)
        elif self._scope["method"] == "HEAD":
            message = {**message, "body": b""}
        await self._send(message)

    async def refuse(self, error: Exception) -> None:
        """Answer with the error; a caller still sending its body is heard a while, or it would not see the answer."""
        response = answer_to(error, self._scope, self._pages)
        lingers = self._unread and response.status_code != 408 and self._headers.get("expect") is None
        if self._unread:
            response.headers["Connection"] = "close"
        start: dict[str, Any] = {"type": "http.response.start", "status": response.status_code}
        await self.send({**start, "headers": response.raw_headers})
        await self.send({"type": "http.response.body", "body": bytes(response.body), "more_body": lingers})
        if lingers:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    while self._unread:
                        await self.receive()
            await self.send({"type": "http.response.body", "body": b""})
