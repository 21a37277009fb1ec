"""Whose request this is part of: the headers of the W3C trace context, passed on to the servers that are asked.

Source: W3C, "Trace Context" (https://www.w3.org/TR/trace-context/).
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["TRACE_HEADERS", "trace_context", "trace_headers"]

TRACE_HEADERS = ("traceparent", "tracestate")
_SPAN = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})(?P<span>-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-)"
    r"(?P<flags>[0-9a-f]{2})(?P<further>-.*)?"
)
_KNOWN_FLAGS = 0b11  # sampled, and that the id is random
_ENTRY = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MOST_ENTRIES, _LONGEST, _LARGE = 32, 512, 128  # entries; characters of them all; of one that goes first
_current: ContextVar[Mapping[str, str]] = ContextVar("perennial_client.trace", default={})  # noqa: B039 (never changed)


@contextmanager
def trace_context(headers: Mapping[str, str]) -> Iterator[None]:
    """Pass the `traceparent` and `tracestate` among these headers on with every request of the block.

    They may be those of a request that came in, or what `opentelemetry.propagate.inject` writes. The block holds for
    its own thread or task. A `traceparent` that breaks the rules is not passed on, and takes `tracestate` with it. A
    `tracestate` that does is dropped alone; one above 512 characters loses entries, large ones first.
    """
    named = {name.lower(): value for name, value in headers.items()}
    parent = _parent(named.get("traceparent", ""))
    state = _state(named.get("tracestate", "")) if parent else ""
    token = _current.set({name: value for name, value in zip(TRACE_HEADERS, (parent, state), strict=True) if value})
    try:
        yield
    finally:
        _current.reset(token)


def trace_headers() -> dict[str, str]:
    """What to send now; nothing outside of a block."""
    return dict(_current.get())


def _parent(value: str) -> str:
    """The span in the format that is known here, or nothing: that of a later version begins alike."""
    found = _SPAN.fullmatch(value.strip(" \t"))
    if found is None or (found["version"] == "00" and found["further"]):
        return ""
    flags = found["flags"] if found["version"] == "00" else f"{int(found['flags'], 16) & _KNOWN_FLAGS:02x}"
    return f"00{found['span']}{flags}"


def _state(value: str) -> str:
    entries = [entry for part in value.split(",") if (entry := part.strip(" \t"))]
    keys = {entry.partition("=")[0] for entry in entries}
    if len(entries) > _MOST_ENTRIES or len(keys) < len(entries) or not all(map(_ENTRY.fullmatch, entries)):
        return ""
    while len(",".join(entries)) > _LONGEST:
        large = [place for place, entry in enumerate(entries) if len(entry) > _LARGE]
        entries.pop(large[-1] if large else -1)
    return ",".join(entries)
