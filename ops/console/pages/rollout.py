"""A rollout: its steps, the challenger beside the champion, where they disagree, and what an operator may do."""

from perennial.ops.console.desk import Desk, Shown
from perennial.ops.console.visit import Page, Visit
from perennial.ops.views.rollout import rollout_view
from perennial.ops.views.rollout_steps import cycle_of, disputed_requests, shadow_report, states_of, steps_of
from perennial.ops.views.status import CycleView

__all__ = ["add_rollout"]


def add_rollout(desk: Desk) -> None:
    """Add the page; its forms are those of the model."""

    @desk.page("/console/models/{model}/rollout")
    def rollout(visit: Visit, model: str) -> Shown:
        seen, number, task = rollout_view(desk.ledger, model), visit.number("cycle"), desk.task_of(model)
        chosen = number or (0 if seen.cycle is None else seen.cycle.id)
        row = cycle_of(desk.ledger, model, chosen) if chosen else None
        cycle = None if row is None else CycleView.of(row)
        now = seen.cycle is not None and cycle is not None and cycle.id == seen.cycle.id
        challenger = None if cycle is None else cycle.challenger
        texts = visit.may("labeller")
        facts = {
            "seen": seen,
            "cycle": cycle,
            "now": now,
            "under_way": cycle is not None and cycle.closed_at is None,
            "states": () if row is None else states_of(row),
            "steps": () if row is None else steps_of(desk.ledger, row.id),
            "lives": [live for live in (seen.live if now else None, seen.probation_live) if live is not None],
            "disputed": disputed_requests(desk.ledger, desk.traffic.log(model), model, task) if texts and now else (),
            "shadow": shadow_report(desk.workspace, model, challenger),
            "texts": texts,
        }
        return Page("rollout.html", {"model": model, "task": task, **facts})
