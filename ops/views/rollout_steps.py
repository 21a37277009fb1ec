"""The steps of a cycle with their times, and the requests that two versions under comparison answered differently."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perennial.continual.cycle import decode
from perennial.continual.errors import NotFound
from perennial.continual.tasks import task_named
from perennial.ops.ledger import CycleRow, Ledger, Phase
from perennial.ops.store.state import DISPUTED
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.traffic.shown import shown_requests

__all__ = [
    "DisputedRequest",
    "ShadowReport",
    "StepView",
    "cycle_of",
    "disputed_requests",
    "shadow_report",
    "states_of",
    "steps_of",
]

_SHOWN = 50
_ALWAYS = ("training", "exporting", "judging", "publishing")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step of a cycle. `took_s` is None while it is not done; `facts` are what it was begun or ended with."""

    step: str
    began: datetime
    took_s: float | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputedRequest:
    """A request that two versions answered differently: its text, what was answered live, and its label, if any."""

    prediction_id: str
    text: str
    answered: str
    version: int
    label: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """How a challenger answered logged traffic; `figures` are as the shadow wrote them, `disagreements` with texts."""

    version: int
    figures: Mapping[str, Any]
    disagreements: tuple[Mapping[str, Any], ...]


def cycle_of(ledger: Ledger, model: str, number: int) -> CycleRow:
    """Return a cycle of this model.

    Raises:
        NotFound: it has none of this number.
    """
    row = ledger.cycle(number)
    if row.model != model:
        raise NotFound(f"{model} has no cycle {number}")
    return row


def states_of(row: CycleRow) -> tuple[str, ...]:
    """Return the states that a cycle goes through by its plan, and the one that it ended in where that is another."""
    plan = decode(row.payload).plan
    states = [*_ALWAYS]
    states += ["shadow"] if plan.shadow else []
    states += ["approval"] if plan.approval else []
    states += ["canary"] if plan.canary_shares else []
    states += ["promoting", *(["probation"] if plan.probation else []), "promoted"]
    if row.closed_at is not None and row.state not in states:
        passed = [name for name in states if any(f"-> {name}" in told for told in row.payload.get("story", ()))]
        return (*passed, row.state)
    return tuple(states)


def steps_of(ledger: Ledger, cycle: int) -> tuple[StepView, ...]:
    """Return the journal of a cycle, each step once."""
    steps: list[StepView] = []
    for entry in ledger.journal_of(cycle):
        facts = entry.payload if isinstance(entry.payload, Mapping) else {}
        if entry.phase is Phase.INTENT:
            steps.append(StepView(step=entry.step, began=entry.at, took_s=None, facts=facts))
            continue
        for place in range(len(steps) - 1, -1, -1):
            begun = steps[place]
            if begun.step == entry.step and begun.took_s is None:
                took = (entry.at - begun.began).total_seconds()
                both = {**begun.facts, **facts}
                steps[place] = StepView(step=begun.step, began=begun.began, took_s=took, facts=both)
                break
    return tuple(steps)


def disputed_requests(ledger: Ledger, traffic: TrafficLog, model: str, task: str) -> tuple[DisputedRequest, ...]:
    """Return the newest requests on which the versions under comparison disagree, the newest first."""
    kept = DISPUTED.read(ledger, model)
    ids: Sequence[str] = () if kept is None else kept.ids[-_SHOWN:]
    if not ids:
        return ()
    labels = ledger.feedback_labels(model, ids)
    shown = [
        DisputedRequest(
            prediction_id=name,
            text=request.text,
            answered=request.answered,
            version=request.version,
            label=labels.get(name),
        )
        for name, request in shown_requests(traffic, ids, task_named(task)).items()
    ]
    return tuple(reversed(shown))


def shadow_report(workspace: Workspace, model: str, version: int | None) -> ShadowReport | None:
    """Return what the shadow of a version told; None where it had none, or its run's folder is gone."""
    if version is None:
        return None
    try:
        text = (workspace.run(model, version) / "shadow.report.json").read_text(encoding="utf-8")
        report = json.loads(text)
        disagreements = tuple(report.pop("disagreements", ()))
    except (OSError, ValueError, AttributeError):
        return None
    return ShadowReport(version=version, figures=report, disagreements=disagreements[:_SHOWN])
