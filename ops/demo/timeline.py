"""What each step of a cycle took, out of the loop's events and the answers that clients saw."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from perennial.ops.demo.served import at_of
from perennial.ops.demo.world import Answered

__all__ = ["STEP_NAMES", "CycleTimes", "cycle_times"]

STEP_NAMES: Mapping[str, str] = {
    "training": "train",
    "exporting": "compile and prove",
    "judging": "judge on held-out rows",
    "publishing": "load into Triton",
    "shadow": "shadow",
    "approval": "wait for approval",
    "canary": "canary",
    "promoting": "take over",
    "first_answer": "first answer",
}
_AFTER = frozenset({"probation", "promoted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleTimes:
    """One cycle. `confirmed_at` is when the drift was confirmed that it answers to; None where another reason was told.

    `steps` are seconds by name, in order, up to the first answer of the new version, or to the cycle's end without one.
    """

    cycle: int
    version: int
    reason: str
    outcome: str
    opened_at: datetime
    confirmed_at: datetime | None
    answered_at: datetime | None
    steps: tuple[tuple[str, float], ...]

    @property
    def answered_anew_s(self) -> float | None:
        """Seconds from the drift's confirmation to the first answer of the new version."""
        if self.answered_at is None or self.confirmed_at is None:
            return None
        return (self.answered_at - self.confirmed_at).total_seconds()

    def record(self) -> dict[str, Any]:
        """JSON values only."""
        return {
            "cycle": self.cycle,
            "version": self.version,
            "reason": self.reason,
            "outcome": self.outcome,
            "steps_s": {name: round(seconds, 3) for name, seconds in self.steps},
            "answered_anew_s": self.answered_anew_s,
        }


def cycle_times(events: Sequence[Mapping[str, Any]], answered: Iterable[Answered]) -> tuple[CycleTimes, ...]:
    """Every cycle that was opened, in order."""
    first: dict[int, datetime] = {}
    for one in answered:
        if one.version:
            seen_at = one.sent_at + timedelta(milliseconds=one.latency_ms)
            first[one.version] = min(seen_at, first.get(one.version, seen_at))
    alerts = [at_of(e) for e in events if e["name"] in {"drift.window", "drift.errors"} and e["facts"].get("alert")]
    opened = [event for event in events if event["name"] == "cycle.opened"]
    times, before = list[CycleTimes](), datetime.min.replace(tzinfo=UTC)
    for event in opened:
        at, facts = at_of(event), event["facts"]
        confirmed = [alert for alert in alerts if alert <= at and alert > before]
        states = [e for e in events if e["name"] == "cycle.state" and e["facts"]["cycle"] == facts["cycle"]]
        answered_at = first.get(int(facts["version"]))
        times.append(
            CycleTimes(
                cycle=int(facts["cycle"]),
                version=int(facts["version"]),
                reason=str(facts["reason"]),
                outcome=str(states[-1]["facts"]["state"]) if states else "training",
                opened_at=at,
                confirmed_at=confirmed[-1] if confirmed else None,
                answered_at=answered_at,
                steps=tuple(_steps(at, states, answered_at)),
            )
        )
        before = at
    return tuple(times)


def _steps(
    opened_at: datetime, states: Sequence[Mapping[str, Any]], answered_at: datetime | None
) -> Iterable[tuple[str, float]]:
    """Each event of a state tells the end of what was under way before it."""
    under_way, before = "training", opened_at
    for event in states:
        at, state = at_of(event), str(event["facts"]["state"])
        if under_way in _AFTER or (answered_at is not None and at > answered_at):
            break
        yield under_way, (at - before).total_seconds()
        under_way, before = state, at
    if answered_at is not None:
        yield "first_answer", max(0.0, (answered_at - before).total_seconds())
