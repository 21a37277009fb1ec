"""The steps of an update, out of the loop's events and the answers that clients saw."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from perennial.ops.demo.timeline import cycle_times
from perennial.ops.demo.world import Answered

__all__ = ["Update", "timed_steps"]


class Stages(Protocol):
    """Who knows what an export did."""

    def stages(self, version: int) -> dict[str, float]:
        """Seconds of the export's stages."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Seconds of one update by step; `in_probation` until its cycle is closed."""

    version: int
    promoted: bool
    in_probation: bool
    note: str
    steps: Mapping[str, float]
    export_stages: Mapping[str, float]
    processor_s: float = 0.0  # of all processes, from the label to the first answer

    @classmethod
    def of(
        cls, labelled: datetime, events: Sequence[Mapping[str, Any]], answered: Sequence[Answered], world: Stages
    ) -> "Update | None":
        """The update as far as it has come; None until its cycle is opened and has ended or answers."""
        cycles = cycle_times(events, answered)
        if not cycles:
            return None
        cycle, closed = cycles[-1], any(event["name"] == "cycle.closed" for event in events)
        if not closed and cycle.answered_at is None:
            return None
        steps = {"noticed": (cycle.opened_at - labelled).total_seconds(), **dict(cycle.steps)}
        if cycle.answered_at is not None:
            steps["total"] = (cycle.answered_at - labelled).total_seconds()
        states = [event for event in events if event["name"] == "cycle.state"]
        return cls(
            version=cycle.version,
            promoted=cycle.answered_at is not None,
            in_probation=not closed,
            note=" ".join(str(event["facts"].get("note") or "") for event in states).strip(),
            steps=steps,
            export_stages=world.stages(cycle.version),
        )

    def record(self) -> dict[str, Any]:
        """The update as JSON."""
        return {
            "version": self.version,
            "promoted": self.promoted,
            "note": self.note,
            "steps_s": {name: round(value, 3) for name, value in self.steps.items()},
            "export_stages_s": {name: round(value, 3) for name, value in self.export_stages.items()},
            "processor_s": round(self.processor_s, 2),
        }


def timed_steps(updates: Sequence[Update]) -> dict[str, dict[str, float]]:
    """Median and 90th percentile of each step's seconds."""
    names = list(dict.fromkeys(name for update in updates for name in update.steps))
    times = {name: [update.steps[name] for update in updates if name in update.steps] for name in names}
    return {name: {"median": statistics.median(seen), "p90": _p90(seen)} for name, seen in times.items()}


def _p90(seen: Sequence[float]) -> float:
    return statistics.quantiles(seen, n=10)[-1] if len(seen) > 1 else seen[0]
