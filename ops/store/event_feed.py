"""What the loop tells while it works: a bounded, numbered list that the API and the demo follow."""

import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

__all__ = ["EventFeed", "LoopEvent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopEvent:
    """One thing that happened; `number` grows by one."""

    number: int
    at: datetime
    model: str
    name: str
    facts: dict[str, Any]


class EventFeed:
    """The latest events of this process, numbered from `begins_after` on; thread-safe."""

    def __init__(self, keep: int = 2_000, *, begins_after: int = 0) -> None:
        self._kept: deque[LoopEvent] = deque(maxlen=keep)
        self._lock = threading.Lock()
        self._count = begins_after

    @property
    def last(self) -> int:
        """The number of the latest event."""
        return self._count

    def record(self, model: str, name: str, **facts: Any) -> None:
        """Add one."""
        with self._lock:
            self._count += 1
            self._kept.append(LoopEvent(number=self._count, at=datetime.now(UTC), model=model, name=name, facts=facts))

    def since(self, number: int) -> list[LoopEvent]:
        """Those after `number`, oldest first."""
        with self._lock:
            return [event for event in self._kept if event.number > number]
