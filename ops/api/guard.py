"""What stands before every operation: who asks, from where, and how much; the body is read last."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perennial.ops.api.auth import ACTOR, ROLE, Needs, Role, Tokens
from perennial.ops.api.body import Bodies
from perennial.ops.api.errors import answer_to
from perennial.ops.api.origin import Hosts, check_form, check_page, check_write
from perennial.ops.api.pages import Pages
from perennial.ops.settings import ApiSettings

__all__ = ["Guard", "role_of"]

_READS = frozenset({"GET", "HEAD"})
_LINGER_S = 5.0  # for a refused caller that goes on sending before it reads the refusal
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_DOCS = (
    "default-src 'none'; frame-ancestors 'none'; connect-src 'self'; img-src data: https://fastapi.tiangolo.com; "
    "script-src 'unsafe-inline' https://cdn.jsdelivr.net; style-src 'unsafe-inline' https://cdn.jsdelivr.net"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def role_of(route: BaseRoute) -> Role | None:
    """The least role that an operation asks for; None for what is open to everybody."""
    if not isinstance(route, APIRoute):
        needs: str | None = getattr(route, "needs", None)  # of a page
        return None if needs is None else Role[needs.upper()]
    roles = [dependency.call.role for dependency in route.dependant.dependencies if isinstance(dependency.call, Needs)]
    return max(roles, default=None)


class Guard:
    """Middleware that lets a request through only when host, page, token and size are right."""

    def __init__(
        self, app: ASGIApp, *, routes: Sequence[BaseRoute], settings: ApiSettings, pages: Pages | None = None
    ) -> None:
        self._app = app
        self._routes = routes
        self._pages = pages
        self._hosts = Hosts(settings.host, settings.hosts)
        self._tokens = Tokens(settings)
        self._bodies = Bodies(limit=settings.body_bytes, idle_s=settings.idle_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, read the body, and pass the request on; a refusal is answered here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._pages)
        try:
            inner = self._let_in(scope)
            async with self._bodies.read(exchange.receive) as body:
                await self._app(inner, exchange.replayed(body), exchange.send)
        except ClientDisconnect:
            return  # nobody is left to be told
        except Exception as exc:
            if exchange.answered:
                raise
            await exchange.refuse(exc)

    def _let_in(self, scope: Scope) -> Scope:
        """The scope for the operation, when its caller may ask for it."""
        headers, method = Headers(scope=scope), scope["method"]
        server = scope.get("server")
        self._hosts.check(headers, server[0] if server else None)
        check_page(method, headers)
        inner = {**scope, "method": "GET" if method == "HEAD" else method}
        needed = role_of(self._route(inner))
        if self._pages is not None and self._pages.covers(scope["path"]):
            inner[ACTOR], inner[ROLE] = self._tokens.visitor(headers, self._pages.token_of(headers), needed)
            check = check_form
        else:
            inner[ACTOR] = self._tokens.known(headers) if needed is None else self._tokens.actor(headers, needed)
            check = check_write
        if method not in _READS:
            check(headers)
        self._bodies.check_declared(headers.get("content-length"))
        return inner

    def _route(self, scope: Scope) -> BaseRoute:
        allowed: set[str] = set()
        for route in self._routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return route
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
            headers.setdefault("Content-Security-Policy", _DOCS if self._scope["path"] == "/docs" else _NOTHING)
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
