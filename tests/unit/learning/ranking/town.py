"""A small town of readers: two tastes, whose items tell their taste in their texts."""

from datetime import UTC, datetime, timedelta

import numpy as np

from perennial.continual.learning.ranking import Event, Item

__all__ = ["NOON", "catalogue", "events"]

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TASTES = ("garden", "engine")
_KINDS = ("roses", "tools", "spring", "autumn", "pumps")


def catalogue(count: int = 40) -> list[Item]:
    """Items of two tastes by turns, each with words of its taste and of its own kind."""
    return [
        Item(name=f"i{n:02}", text=f"{TASTES[n % 2]} {_KINDS[n % 5]} volume{n}", language="en") for n in range(count)
    ]


def events(users: int = 30, seed: int = 0, items: int = 30) -> list[Event]:
    """Every user likes ten items of one taste in an order of their own; nobody likes the last items."""
    rng = np.random.default_rng(seed)
    found = []
    for user in range(users):
        own = [n for n in range(items) if n % 2 == user % 2]
        for step, n in enumerate(rng.permutation(own)[:10]):
            at = NOON + timedelta(minutes=int(rng.integers(0, 60)), hours=step)
            found.append(Event(user=f"u{user:02}", item=f"i{n:02}", at=at, liked=float(rng.choice([1.0, 0.5, 0.3]))))
    return found
