"""The steps of an update, out of the loop's events and the answers that clients saw."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from perennial.ops.demo.measure import at_of
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

    @classmethod
    def of(
        cls, labelled: datetime, events: Sequence[Mapping[str, Any]], answered: Sequence[Answered], world: Stages
    ) -> "Update | None":
        """The update as far as it has come; None until its cycle is opened and has ended or answers."""
        opened = next((event for event in events if event["name"] == "cycle.opened"), None)
        if opened is None:
            return None
        version = int(opened["facts"]["version"])
        states = [event for event in events if event["name"] == "cycle.state"]
        closed = any(event["name"] == "cycle.closed" for event in events)
        first = min((_seen_at(a) for a in answered if a.version == version), default=None)
        if not closed and first is None:
            return None
        marks = [("noticed", at_of(opened))]
        under_way = "training"
        for event in states:  # each tells the end of what was under way
            marks.append((under_way, at_of(event)))
            under_way = event["facts"]["state"]
        if first is not None:
            marks = [mark for mark in marks if mark[1] <= first] + [("first_answer", first)]
        steps: dict[str, float] = {}
        before = labelled
        for name, moment in marks:
            steps[name] = steps.get(name, 0.0) + (moment - before).total_seconds()
            before = moment
        if first is not None:
            steps["total"] = (first - labelled).total_seconds()
        return cls(
            version=version,
            promoted=first is not None,
            in_probation=not closed,
            note=" ".join(str(event["facts"].get("note") or "") for event in states).strip(),
            steps=steps,
            export_stages=world.stages(version),
        )

    def record(self) -> dict[str, Any]:
        """The update as JSON."""
        return {
            "version": self.version,
            "promoted": self.promoted,
            "note": self.note,
            "steps_s": {name: round(value, 3) for name, value in self.steps.items()},
            "export_stages_s": {name: round(value, 3) for name, value in self.export_stages.items()},
        }


def timed_steps(updates: Sequence[Update]) -> dict[str, dict[str, float]]:
    """Median and 90th percentile of each step's seconds."""
    names = list(dict.fromkeys(name for update in updates for name in update.steps))
    times = {name: [update.steps[name] for update in updates if name in update.steps] for name in names}
    return {name: {"median": statistics.median(seen), "p90": _p90(seen)} for name, seen in times.items()}


def _p90(seen: Sequence[float]) -> float:
    return statistics.quantiles(seen, n=10)[-1] if len(seen) > 1 else seen[0]


def _seen_at(answered: Answered) -> datetime:
    return answered.sent_at + timedelta(milliseconds=answered.latency_ms)
