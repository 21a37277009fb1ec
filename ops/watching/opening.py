"""What is known before a cycle opens: what there is to learn from, what it should buy, and what it costs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from statistics import median
from typing import Any, Protocol

from perennial.continual.records import Route
from perennial.continual.tasks import task_named
from perennial.ops.ledger import StoredExample
from perennial.ops.ledger.ports import Cycles, Examples, State, Versions
from perennial.ops.store.state import WorthState
from perennial.ops.store.workspace import Workspace

__all__ = ["Opening", "cycle_cost_s", "opening"]

_CLASSES_TOLD = 20
_CYCLES = 50  # newest ones that the cost is taken from


class CostLedger(Cycles, Versions, Protocol):
    """Where it is read what a cycle takes."""


class OpeningLedger(Cycles, Examples, State, Versions, Protocol):
    """Where it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The evidence for a cycle. `labels` train rows wait, `again` of which an attempt before had learnt already.

    `new_classes` are those that the champion does not know, with their rows, most first. `gain` is in points with its
    95% interval, on `compared` answers; None where nothing could be compared, or labels were not asked for at random.
    `cost_s` is what a promoted cycle took so far; None before the first one. `fingerprint` names the rows: equal ones
    were the same rows.
    """

    labels: int
    new_classes: dict[str, int]
    again: int
    gain_points: float | None
    low_points: float | None
    high_points: float | None
    compared: int
    cost_s: float | None
    fingerprint: str

    @property
    def sentence(self) -> str:
        """Return it in words."""
        parts = [f"{self.labels} labels wait"]
        if self.new_classes:
            named = ", ".join(list(self.new_classes)[:3])
            more = "" if len(self.new_classes) <= 3 else " and others"
            parts.append(f"{len(self.new_classes)} classes are new ({named}{more})")
        if self.again:
            parts.append(f"{self.again} of the labels were in an attempt before")
        if self.gain_points is None and self.compared:
            parts.append(
                f"{self.compared} labelled answers were compared; what learning would buy on all is not known, since "
                "labels were not asked for at random"
            )
        elif self.gain_points is None:
            parts.append("what learning them would buy is not known")
        else:
            parts.append(
                f"learning should buy {self.gain_points:+.1f} points "
                f"[{self.low_points:+.1f}, {self.high_points:+.1f}] on {self.compared} answers"
            )
        parts.append("no cycle tells the cost yet" if self.cost_s is None else f"a cycle took {self.cost_s:.0f} s")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "sentence": self.sentence}


def opening(
    ledger: OpeningLedger,
    workspace: Workspace,
    model: str,
    route: Route,
    rows: Sequence[StoredExample],
    learnt_until: int,
) -> Opening:
    """Tell what a cycle would begin with.

    `rows` are those that the champion has not learnt, `learnt_until` is the last one that an attempt before had.
    """
    task = task_named(workspace.model(model).task)
    champion = ledger.version(model, route.champion)
    known = set(champion.labels)
    classes = Counter(name for row in rows if (name := task.class_of(row.example)) is not None and name not in known)
    worth = WorthState.of(ledger, model, route.champion) or WorthState(version=route.champion)
    return Opening(
        labels=len(rows),
        new_classes=dict(sorted(classes.items(), key=lambda each: (-each[1], each[0]))[:_CLASSES_TOLD]),
        again=sum(row.id <= learnt_until for row in rows),
        gain_points=None if worth.gain is None else 100 * worth.gain,
        low_points=None if worth.low is None else 100 * worth.low,
        high_points=None if worth.high is None else 100 * worth.high,
        compared=worth.rows,
        cost_s=cycle_cost_s(ledger, model),
        fingerprint=sha256(",".join(str(row.id) for row in rows).encode()).hexdigest()[:16],
    )


def cycle_cost_s(ledger: CostLedger, model: str) -> float | None:
    """How long the promoted cycles took until their version could be loaded; None before the first one."""
    published = {row.cycle_id: row.published_at for row in ledger.versions(model)}
    took = [
        (at - row.opened_at).total_seconds()
        for row in ledger.cycles(model, limit=_CYCLES)
        if row.outcome == "promoted" and (at := published.get(row.id) or row.closed_at)
    ]
    return max(0.0, median(took)) if took else None
