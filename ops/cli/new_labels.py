"""A hint for whoever gives labels: which of them the served version does not know, and what they resemble."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from perennial.ops.cli.console import say

if TYPE_CHECKING:
    from perennial.ops.parts import Parts

__all__ = ["say_new_labels"]

_SHOWN = 5


def say_new_labels(parts: "Parts", model: str, labels: Iterable[str]) -> None:
    """Say on stderr which labels would start a class, with the closest known one: a slip of the pen is seen at once."""
    route = parts.ledger.route(model)
    if route is None:
        return
    known = parts.ledger.version(model, route.champion).labels
    fresh = sorted(set(labels) - set(known))
    least = parts.workspace.model(model).learning.min_class_rows
    for label in fresh[:_SHOWN]:
        near = get_close_matches(label, known, n=1)
        hint = f"; did you mean {near[0]!r}? A later label for the same request replaces this one" if near else ""
        say(f"label {label!r} is new to {model} and becomes a class with {least} rows{hint}")
    if len(fresh) > _SHOWN:
        say(f"... and {len(fresh) - _SHOWN} more new labels")
