"""Held-out lists out of a file, each with what its user had done by then."""

from bisect import bisect_left
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking import Event, Profile
from perennial.continual.tasks.ranking import Query, Ranking
from perennial.exporters.held_out_rows import read_held_out_rows
from perennial.exporters.port import HeldOut
from perennial.exporters.ranking.asked import Asked

__all__ = ["read_held_out"]


def read_held_out(path: Path, histories: Mapping[str, tuple[Event, ...]]) -> HeldOut:
    """Lists and, where every row has them, relevances: JSON rows as the task writes them, in a list or one a line.

    Raises:
        DataError: the file cannot be read so, or has no rows.
    """
    rows = _rows(path)
    task, now = Ranking(), datetime.now(UTC)
    known = all("relevances" in row for row in rows)
    impressions = [task.read_row({"relevances": {}, **row}, now=now) for row in rows]
    return HeldOut(
        inputs=[_asked(row.input, histories.get(row.input.user, ())) for row in impressions],
        targets=[row.target for row in impressions] if known else None,
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = read_held_out_rows(path, holds="lists", give="JSON with users and times")
    if not rows:
        raise DataError(f"{path} has no rows; give at least one")
    return rows


def _asked(query: Query, history: tuple[Event, ...]) -> Asked:
    """A list as it would have been asked for; what its user did then or later is not known."""
    before = history[: bisect_left(history, query.at, key=lambda event: event.at)]
    return Asked(
        user=query.user,
        segment=query.segment,
        context=query.context,
        at=query.at,
        profile=Profile(user=query.user, events=before),
    )
