"""A write that names an `Idempotency-Key` is carried out once, however often it is sent."""

import asyncio
import hashlib
import json
import logging
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perennial.continual.errors import DataError, PerennialError
from perennial.ops.ledger import Ledger
from perennial.ops.ledger.answers import KeptAnswer
from perennial.ops.safety.roles import CALLER

__all__ = ["KEY_HEADER", "KEY_PATTERN", "REPLAYED_HEADER", "Repeats", "takes_key"]

KEY_HEADER, REPLAYED_HEADER = "Idempotency-Key", "Idempotent-Replayed"
KEY_PATTERN = "^[!-~]{1,200}$"
_KEY = re.compile(KEY_PATTERN)
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = re.compile("/v1/erasures|/v1/models/[^/]+/(feedback|speech)|/v1/accounts/.*")  # answers not for keeping
_DID_NOTHING = frozenset({401, 403, 404, 408, 409, 412, 413, 415})
_MOST_BYTES = 1_000_000
_TOLD_AGAIN = ("content-type", "etag", "link", "location")
logger = logging.getLogger(__name__)


def takes_key(method: str, path: str) -> bool:
    """Whether an operation looks at the key."""
    return method.upper() not in _READS and path.startswith("/v1/") and not _OWN.fullmatch(path)


class Repeats:
    """Middleware that stands behind the guard: it knows who asks, and has the whole body as one message.

    An answer is kept for a day before it leaves, so that whoever did not hear it is told the same. What did nothing
    (a conflict, a fault) is not kept: the request may come again under its key.
    """

    def __init__(self, app: ASGIApp, *, ledger: Ledger, renew_s: float = 20.0) -> None:
        self._app, self._ledger, self._renew_s = app, ledger, renew_s
        self._holder = secrets.token_hex(8)
        self._held: set[str] = set()  # keys of requests that are under way here, or done and not kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as before, where the request was carried out; else pass it on, and keep the answer.

        Raises:
            DataError: the key cannot be used, or belongs to another request. Conflict: the request is under way.
        """
        given = Headers(scope=scope).getlist(KEY_HEADER) if scope["type"] == "http" else []
        if not given or not takes_key(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        if len(given) > 1 or not _KEY.fullmatch(given[0]):
            raise DataError(f"{KEY_HEADER} must be one word of 1 to 200 printable ASCII characters, e.g. a UUID")
        message = await receive()
        key, asked = _digest(_name(scope), given[0]), _asked(scope, message.get("body", b""))
        first, settled = key not in self._held, True
        self._held.add(key)
        try:
            kept = await run_in_threadpool(self._ledger.claim_answer, key, asked, holder=self._holder, resumes=first)
            if kept is not None:
                await _tell(send, kept)
                return
            settled = await self._carry_out(key, scope, _replayed(message, receive), send)
        finally:
            if first and settled:
                self._held.discard(key)

    async def _carry_out(self, key: str, scope: Scope, receive: Receive, send: Send) -> bool:
        """Pass a request on; False where it is done and its answer could not be kept."""
        heard = _Heard(send)
        renewing = asyncio.create_task(self._renew(key))  # a promotion may load an engine for minutes
        try:
            await self._app(scope, receive, heard.send)
        except BaseException:
            with suppress(PerennialError):
                await run_in_threadpool(self._ledger.release_answer, key, holder=self._holder)
            raise
        finally:
            renewing.cancel()
        answer, settled = heard.answer(), True
        try:
            await run_in_threadpool(self._settle, key, answer)
        except PerennialError as exc:  # its caller must hear what became of it
            logger.warning("api.answer_not_kept", extra={"error": str(exc)})
            settled = answer is None
        await heard.pass_on()
        return settled

    async def _renew(self, key: str) -> None:
        while True:
            await asyncio.sleep(self._renew_s)
            try:
                await run_in_threadpool(self._ledger.renew_answer, key, holder=self._holder)
            except PerennialError as exc:
                logger.warning("api.claim_not_renewed", extra={"error": str(exc)})

    def _settle(self, key: str, answer: KeptAnswer | None) -> None:
        if answer is None:
            self._ledger.release_answer(key, holder=self._holder)
        else:
            self._ledger.keep_answer(key, answer, holder=self._holder)


class _Heard:
    """An answer that waits until it is kept."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self._messages.append(message)

    def answer(self) -> KeptAnswer | None:
        """What is to be kept; None where nothing was done, or it is too long."""
        if not self._messages:  # nobody was left to be told
            return None
        start, body = self._messages[0], b"".join(message.get("body", b"") for message in self._messages[1:])
        status = int(start["status"])
        if status >= 500 or status in _DID_NOTHING or len(body) > _MOST_BYTES:
            return None
        headers = Headers(raw=start["headers"])
        told = {name: headers[name] for name in _TOLD_AGAIN if name in headers}
        return KeptAnswer(status=status, headers=told, body=body.decode("utf-8"))

    async def pass_on(self) -> None:
        for message in self._messages:
            await self._send(message)


def _name(scope: Scope) -> str:
    caller = scope[CALLER]
    return "" if caller is None else str(caller.name)


def _digest(*facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _asked(scope: Mapping[str, Any], body: bytes) -> str:
    conditions = Headers(raw=list(scope["headers"])).get("if-match")
    query = scope["query_string"].decode("latin-1")
    return _digest(scope["method"], scope["path"], query, conditions, hashlib.sha256(body).hexdigest())


def _replayed(message: Message, receive: Receive) -> Receive:
    waiting = [message]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


async def _tell(send: Send, kept: KeptAnswer) -> None:
    body = kept.body.encode()
    start: Message = {"type": "http.response.start", "status": kept.status, "headers": []}
    headers = MutableHeaders(scope=start)
    for name, value in {**kept.headers, REPLAYED_HEADER: "true", "content-length": str(len(body))}.items():
        headers[name] = value
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})
