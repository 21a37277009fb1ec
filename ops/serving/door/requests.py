"""What a request may be: closed by default, with a reason for each refusal."""

import re
from dataclasses import dataclass, field

from perennial.ops.safety.addresses import is_loopback
from perennial.ops.serving.door.limits import DoorSettings

__all__ = ["Body", "Refusal", "Request", "Rules", "caller_span", "too_large"]

_NAME = rb"[A-Za-z0-9_.-]{1,200}"
_MODEL = rb"/v2/models/(?P<model>" + _NAME + rb")(?:/versions/[1-9][0-9]{0,17})?"
_READ = re.compile(rb"/v2(?:/health/(?:live|ready))?|" + _MODEL + rb"(?:/ready|/stats)?")
_INFER = re.compile(_MODEL + rb"/infer")
_ALL_STATISTICS = b"/v2/models/stats"  # no model's: it would show the engines too
_ENGINE = b"_engine"  # the end of the models that answer the routers alone
_TRACE = re.compile(  # of W3C's trace context, and sampled; a later version may say more behind it
    rb"(?P<version>(?!ff)[0-9a-f]{2})(?P<span>-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-)"
    rb"[0-9a-f][13579bdf](?P<further>-.*)?"
)
_OWN_SITE = (b"same-origin", b"none")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not passed on."""

    status: int
    reason: str
    retry_s: int = 0


@dataclass(slots=True)
class Request:
    """One request as far as it has been read. Header names are in lower case."""

    method: bytes = b""
    target: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    keep_alive: bool = True
    old: bool = False  # HTTP/1.0
    doubled: bytes = b""  # a header that came twice and must not
    size: int = 0  # of target and headers
    refusal: Refusal | None = None
    json_length: bytes | None = None  # as Triton is told it
    trace: bytes | None = None  # likewise: the caller's span

    @property
    def length(self) -> int | None:
        """The body's length as far as the headers tell it; None when it comes in chunks."""
        if b"transfer-encoding" in self.headers:
            return None
        return int(self.headers.get(b"content-length", b"0") or b"0")


class Body:
    """The chunks of one body."""

    __slots__ = ("chunks", "size")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0

    def add(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self.size += len(chunk)

    def whole(self) -> bytes:
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)


def caller_span(request: Request) -> bytes | None:
    """The header by which a span that the caller traces is known; None where it does not, or anything else is there."""
    found = _TRACE.fullmatch(request.headers.get(b"traceparent", b""))
    if found is None or (found["version"] == b"00" and found["further"]):
        return None
    return b"00" + found["span"] + b"01"


class Rules:
    """Decides by the headers of a request whether it may come in."""

    def __init__(self, settings: DoorSettings, *, metrics: bool) -> None:
        self._limits, self._metrics = settings.limits, metrics
        self._any_host = not settings.local and not settings.hosts
        self._hosts = {b"localhost", settings.host.lower().encode(), *(h.lower().encode() for h in settings.hosts)}
        self._origins = {origin.lower().encode() for origin in settings.origins}

    def refuse(self, request: Request) -> Refusal | None:
        """Why the request may not come in; None when it may."""
        return self._refuse_caller(request) or self._refuse_target(request) or self._refuse_shape(request)

    def _refuse_caller(self, request: Request) -> Refusal | None:
        """Pages of other sites, also those that gave this machine's address to a name of theirs."""
        headers = request.headers
        host = headers.get(b"host")
        if host is None:
            if not request.old:
                return Refusal(400, "the header Host is missing")
        elif not self._any_host and not self._knows(host):
            return Refusal(421, "the name in the header Host is not one of this server's; add it to triton.http_hosts")
        origin = headers.get(b"origin")
        if origin is not None:
            if origin.lower() not in self._origins:
                return Refusal(403, "requests of web pages are refused; add the page's origin to triton.http_origins")
        elif headers.get(b"sec-fetch-site", b"none").lower() not in _OWN_SITE:
            return Refusal(403, "requests of web pages are refused")
        return None

    def _knows(self, host: bytes) -> bool:
        name = host.lower().rpartition(b":")[0] if host.rpartition(b":")[2].isdigit() else host.lower()
        return name in self._hosts or (name.isascii() and is_loopback(name.decode("ascii")))

    def _refuse_target(self, request: Request) -> Refusal | None:
        method, target = request.method, request.target
        allowed: tuple[bytes, ...]
        if self._metrics:
            known, allowed = target == b"/metrics", (b"GET", b"HEAD")
        elif match := _INFER.fullmatch(target):
            known, allowed = not match["model"].endswith(_ENGINE), (b"POST",)
        else:
            match = _READ.fullmatch(target)
            model = None if match is None or target == _ALL_STATISTICS else match["model"] or b""
            known, allowed = model is not None and not model.endswith(_ENGINE), (b"GET", b"HEAD")
        if not known:
            return Refusal(404, "there is nothing for clients at this address")
        if method not in allowed:
            return Refusal(405, f"this address takes {' and '.join(word.decode() for word in allowed)} alone")
        return None

    def _refuse_shape(self, request: Request) -> Refusal | None:
        headers = request.headers
        if request.doubled:
            return Refusal(400, f"the header {request.doubled.decode('latin-1')} may be given once")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            return Refusal(415, "compressed bodies are not taken; send the body as it is")
        length = request.length
        if request.method != b"POST":
            return None if length == 0 else Refusal(400, "this address takes no body")
        if length is not None and length > self._limits.body_bytes:
            return too_large(self._limits.body_bytes)
        head = headers.get(b"inference-header-content-length")
        if head is not None and not (head.isdigit() and len(head) < 12):
            return Refusal(400, "Inference-Header-Content-Length must be a number of bytes")
        return None


def too_large(limit: int) -> Refusal:
    """For a body beyond the limit."""
    return Refusal(413, f"the body is larger than {limit} bytes; send fewer texts a request")
