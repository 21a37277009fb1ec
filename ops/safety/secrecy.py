"""What may be told of a wrong setting: where it stands and what is wrong, but nothing that may be a secret."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

__all__ = ["is_secret_place", "shown_problems", "shown_toml_error"]

_OPEN = re.compile(r"[\w .,+-]{0,60}")
_QUOTED = re.compile(r"\([^()]*['\"][^()]*\)|'[^']*'|\"[^\"]*\"")
_SECRET_PLACES = frozenset({"tokens", "secret", "password", "headers", "user", "url", "ledger_url"})
_SECRET_NAMES = ("token", "secret", "passw", "credential", "auth", "key", "dsn")
_CHOICES = frozenset({"enum", "literal_error"})  # one of a few words was wanted
_RANGES = frozenset({"greater_than", "greater_than_equal", "int_from_float", "less_than", "less_than_equal"})


def shown_problems(error: ValidationError, meant: Callable[[Sequence[Any]], str] = lambda _: "") -> Iterator[str]:
    """One line for each problem. A value is quoted only where no secret can stand there.

    `meant` gives the known name that is nearest to an unknown one, by its place.
    """
    for wrong in error.errors(include_url=False, include_context=False):
        place = list(wrong["loc"])
        seen = _shown(place, wrong["input"], wrong["type"])
        near = meant(place) if wrong["type"] == "extra_forbidden" else ""
        more = f"; did you mean {near!r}?" if near else ""
        yield f"{_named(place)}: {wrong['msg']}{f' (seen {seen})' if seen else ''}{more}"


def shown_toml_error(error: Exception) -> str:
    """What is wrong with the file and where, without the names and values that the parser quotes."""
    return _QUOTED.sub("...", str(error))


def is_secret_place(place: Sequence[Any]) -> bool:
    """Whether what stands at this path of the settings may be a secret."""
    steps = [str(step).lower() for step in place]
    return any(step in _SECRET_PLACES or any(name in step for name in _SECRET_NAMES) for step in steps)


def _named(place: Sequence[Any]) -> str:
    """The path of a setting; below `tokens` a name may itself be the secret."""
    steps = [str(step) for step in place]
    if "tokens" in steps:
        at = steps.index("tokens") + 1
        steps = steps[:at] + ["(an entry)"] * (len(steps) > at)
    return ".".join(steps)


def _shown(place: Sequence[Any], value: Any, error: str) -> str:
    """The value as it is quoted; empty where it may be a secret."""
    if is_secret_place(place):
        return ""
    if isinstance(value, bool | int | float) and error in _RANGES:
        return repr(value)
    if isinstance(value, str) and error in _CHOICES and _OPEN.fullmatch(value):
        return repr(value)
    return ""
