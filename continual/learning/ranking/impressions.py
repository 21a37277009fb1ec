"""Impressions, which the ledger keeps, and events, which the sums count."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from perennial.continual.learning.ranking.events import Event
from perennial.continual.records import Origin
from perennial.continual.task import Row
from perennial.continual.tasks.ranking import Impression, Query

__all__ = ["events_of", "impressions_of"]


def events_of(row: Row[Query, Mapping[str, float]]) -> tuple[Event, ...]:
    """What the user did with each item, at the time when it became known; more than 1 of relevance is liked as 1."""
    user = row.input.user
    return tuple(
        Event(user=user, item=item, at=row.at, liked=min(1.0, relevance))
        for item, relevance in sorted(row.target.items())
    )


def impressions_of(
    events: Iterable[Event], *, origin: Origin = Origin.SEED, segments: Mapping[str, str] | None = None
) -> list[Impression]:
    """One impression a user and time, as if the user had asked then; `segments` names the segment of users.

    >>> from datetime import UTC, datetime
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> [row.target for row in impressions_of([Event(user="u", item=item, at=at) for item in ("cup", "tea")])]
    [{'cup': 1.0, 'tea': 1.0}]
    """
    targets: dict[tuple[str, datetime], dict[str, float]] = {}
    for event in events:
        target = targets.setdefault((event.user, event.at), {})
        target[event.item] = max(event.liked, target.get(event.item, 0.0))
    known = segments or {}
    return [
        Impression(
            input=Query(user=user, at=at, **({"segment": known[user]} if user in known else {})),
            target=target,
            at=at,
            origin=origin,
            key=user,
        )
        for (user, at), target in targets.items()
    ]
