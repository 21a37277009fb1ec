"""Labelling by keyboard: one text after another, for several people at once."""

import re

from perennial.continual.errors import DataError
from perennial.ops.commands.labelling_desk import LabellingDesk, Task
from perennial.ops.console.desk import Desk, Shown, to
from perennial.ops.console.visit import Done, Page, Visit

__all__ = ["add_labelling"]

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_KEYS = "123456789"
_FILL = 50


def add_labelling(desk: Desk) -> None:
    """Add the page and its forms."""
    labelling = LabellingDesk(desk.ledger, desk.workspace)

    @desk.page("/console/models/{model}/labels", needs="labeller")
    def labels(visit: Visit, model: str) -> Shown:
        task = desk.task_of(model)
        if task == "ranking":
            return Page("labelling_none.html", {"model": model, "task": task})
        named = visit.query.get("request", "")
        found = labelling.next(model, visit.seat, named=named if _ID.fullmatch(named) else "")
        return Page(
            "labelling.html", {"model": model, "task": task, "found": found, "choices": _choices(found)}, seated=True
        )

    @desk.form("/console/models/{model}/labels", needs="labeller")
    def label(visit: Visit, model: str) -> Shown:
        here = f"/console/models/{model}/labels"
        label = visit.form.get("label", "").strip() or visit.form.get("new", "")
        labelling.give(model, visit.seat, visit.form.get("request", ""), label)
        return Done(to=here)

    @desk.form("/console/models/{model}/labels/skip", needs="labeller")
    def skip(visit: Visit, model: str) -> Shown:
        name = visit.form.get("request", "")
        if not _ID.fullmatch(name):
            raise DataError("the form names no request; load the page again")
        labelling.of(model).skip(visit.seat, name)
        return Done(to=f"/console/models/{model}/labels")

    @desk.form("/console/models/{model}/labels/back", needs="labeller")
    def back(visit: Visit, model: str) -> Shown:
        name = labelling.of(model).last(visit.seat)
        here = f"/console/models/{model}/labels"
        return Done(to=here, told="nothing_before") if name is None else Done(to=to(here, {"request": name}))

    @desk.form("/console/models/{model}/labels/again", needs="labeller")
    def again(visit: Visit, model: str) -> Shown:
        labelling.of(model).again(visit.seat)
        return Done(to=f"/console/models/{model}/labels")

    @desk.form("/console/models/{model}/labels/fill", needs="labeller")
    def fill(visit: Visit, model: str) -> Shown:
        desk.control.label_queue(model, limit=1, fill=_FILL)
        return Done(to=f"/console/models/{model}/labels")


def _choices(found: Task) -> list[tuple[str, str]]:
    """The classes to choose from, each with its key: what was answered, what the person gave last, and the others."""
    answered = [] if found.item is None or found.item.answered not in found.labels else [found.item.answered]
    order = dict.fromkeys([*answered, *found.recent, *sorted(found.labels)])
    return [(label, _KEYS[place] if place < len(_KEYS) else "") for place, label in enumerate(order)]
