"""What goes back to clients; nothing in it tells a browser that a page may read it."""

import json
import math
import re
from http import HTTPStatus

from perennial.ops.serving.door.requests import Refusal

__all__ = ["Reply", "refusal_bytes", "reply_bytes"]

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_CLOSED_TO_PAGES = b"X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n"
_RETRY = re.compile(rb"(?:again|retry) (?:in|after) ([0-9]{1,4}(?:\.[0-9]+)?) ?(ms|s)\b")
# Triton 2.51 answers 500 to these faults of its callers.
_CALLERS_FAULT = re.compile(rb"Unable to parse|failed to parse|parse the request JSON|attempt to access|JSON")


class Reply:
    """Triton's answer, as far as it has been read."""

    __slots__ = ("body", "content_type", "head_length", "keep_alive", "status")

    def __init__(self) -> None:
        self.status = 0
        self.body: list[bytes] = []
        self.content_type = b"application/json"
        self.head_length = b""
        self.keep_alive = True

    @property
    def is_overload(self) -> bool:
        """Whether it says when to try again: more was asked than could be answered in time."""
        return _RETRY.search(b"".join(self.body)) is not None


def reply_bytes(reply: Reply, *, keep_alive: bool, head: bool = False) -> bytes:
    """Triton's answer for the client: few headers of it, and a status that says whose fault an error is."""
    body = b"".join(reply.body)
    status, more = reply.status, b""
    if status >= 400:
        if status == 500 and _CALLERS_FAULT.search(body):
            status = 400
        more = _retry_header(body) if status == 503 else b""
        reply.content_type = b"application/json"
    if reply.head_length:
        more += b"Inference-Header-Content-Length: " + reply.head_length + b"\r\n"
    return _message(status, reply.content_type, body, more, keep_alive=keep_alive, head=head)


def refusal_bytes(refusal: Refusal, *, keep_alive: bool, head: bool = False) -> bytes:
    """A refusal in the form of Triton's own errors."""
    body = json.dumps({"error": refusal.reason}).encode()
    more = b"Retry-After: %d\r\n" % refusal.retry_s if refusal.retry_s else b""
    return _message(refusal.status, b"application/json", body, more, keep_alive=keep_alive, head=head)


def _retry_header(body: bytes) -> bytes:
    named = _RETRY.search(body)
    seconds = 1.0 if named is None else float(named[1]) / (1000.0 if named[2] == b"ms" else 1.0)
    return b"Retry-After: %d\r\n" % max(1, math.ceil(seconds))


def _message(status: int, kind: bytes, body: bytes, more: bytes, *, keep_alive: bool, head: bool) -> bytes:
    return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b%b%b\r\n%b" % (
        status,
        _PHRASES.get(status, b"Status"),
        kind,
        len(body),
        more,
        _CLOSED_TO_PAGES,
        b"" if keep_alive else b"Connection: close\r\n",
        b"" if head else body,
    )
