"""What an operator sees of a replay buffer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perennial.continual.replay import ReplayBuffer
from perennial.continual.task import AnyTask

__all__ = ["BufferView", "buffer_view"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferView:
    """Its rule, its budgets, and the rows that it holds of each stratum of its task, the largest one first.

    The strata are called classes, as those of text classification are.
    """

    model: str
    kind: str
    rows: int
    capacity: int
    bytes: int
    byte_budget: int | None
    offered: int
    classes: Mapping[str, int]


def buffer_view(model: str, buffer: ReplayBuffer[Any], task: AnyTask) -> BufferView:
    """How a model's buffer is filled."""
    counts = Counter(map(task.stratum, buffer.rows()))
    return BufferView(
        model=model,
        kind=buffer.name,
        rows=len(buffer),
        capacity=buffer.capacity,
        bytes=buffer.bytes,
        byte_budget=buffer.byte_budget,
        offered=buffer.seen,
        classes=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
    )
