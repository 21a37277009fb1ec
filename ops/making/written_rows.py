"""Rows as the processes that prove and judge a version read them: what their task writes, without whose they are."""

from collections.abc import Iterable
from typing import Any

from perennial.continual.task import AnyRow, AnyTask

__all__ = ["nameless"]


def nameless(task: AnyTask, rows: Iterable[AnyRow]) -> list[dict[str, Any]]:
    """The rows' fields without key and prediction id."""
    return [{**task.write_row(row), "key": None, "prediction_id": None} for row in rows]
