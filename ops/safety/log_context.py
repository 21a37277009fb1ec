"""What every line of the log tells while a thread works on it: the model, the version, the cycle."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["about", "told_about"]

_ABOUT: ContextVar[Mapping[str, object]] = ContextVar("perennial_log", default={})  # noqa: B039 - it is never changed


@contextmanager
def about(**facts: object) -> Iterator[None]:
    """Let each record that is written inside tell these facts, unless it says otherwise itself; None takes one back.

    >>> with about(model="intent"), about(cycle=7):
    ...     dict(told_about())
    {'model': 'intent', 'cycle': 7}
    """
    token = _ABOUT.set({name: value for name, value in {**_ABOUT.get(), **facts}.items() if value is not None})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def told_about() -> Mapping[str, object]:
    """Return the facts of this thread, or of this task."""
    return _ABOUT.get()
