"""Whose request this is part of: the headers of the W3C trace context, passed on to the servers that are asked."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["TRACE_HEADERS", "trace_context", "trace_headers"]

TRACE_HEADERS = ("traceparent", "tracestate")
_current: ContextVar[Mapping[str, str]] = ContextVar("perennial_client.trace", default={})  # noqa: B039 (never changed)


@contextmanager
def trace_context(headers: Mapping[str, str]) -> Iterator[None]:
    """Pass the `traceparent` and `tracestate` among these headers on with every request of the block.

    They may be those of a request that came in, or what `opentelemetry.propagate.inject` writes. The block holds for
    its own thread or task.
    """
    named = {name.lower(): value for name, value in headers.items()}
    token = _current.set({name: named[name] for name in TRACE_HEADERS if named.get(name)})
    try:
        yield
    finally:
        _current.reset(token)


def trace_headers() -> dict[str, str]:
    """What to send now; nothing outside of a block."""
    return dict(_current.get())
