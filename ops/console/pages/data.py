"""The rows that a model learns from: by class, doubted labels, and labels that are pasted."""

from perennial.continual.errors import DataError
from perennial.ops.commands.label_file import read_pasted_labels
from perennial.ops.commands.label_queue import LabelQueue
from perennial.ops.commands.labelling_desk import keep_labels
from perennial.ops.console.desk import Desk, Shown, to
from perennial.ops.console.paging import ROWS, classes_found, paged
from perennial.ops.console.visit import Done, Page, Visit
from perennial.ops.store.pictures import check_pictures
from perennial.ops.views.rows import class_rows, rows_of_class
from perennial.ops.views.status import model_status

__all__ = ["add_data"]

_DOUBTS = 1_000  # newest requests that are looked at


def add_data(desk: Desk) -> None:
    """Add the pages and their form."""

    @desk.page("/console/models/{model}/data")
    def data(visit: Visit, model: str) -> Shown:
        task = desk.task_of(model)
        labelled = task != "ranking"
        classes = class_rows(desk.ledger, desk.workspace, model) if labelled else ()
        facts = {
            "status": model_status(desk.ledger, model),
            "labelled": labelled,
            **classes_found(classes, lambda each: each.label, visit.query.get("find", ""), visit.number("behind")),
        }
        return Page("data.html", {"model": model, "task": task, **facts})

    @desk.page("/console/models/{model}/data/rows", needs="labeller")
    def rows(visit: Visit, model: str) -> Shown:
        label, after = visit.query.get("label", ""), visit.number("after")
        found = rows_of_class(desk.ledger, model, label, after=after, limit=ROWS + 1)
        seen, beside = paged(found, "after", lambda row: row.id, begun=bool(after))
        facts = {"label": label, "rows": seen, **beside}
        return Page("data_rows.html", {"model": model, "task": desk.task_of(model), **facts})

    @desk.page("/console/models/{model}/data/doubts", needs="labeller")
    def doubts(_: Visit, model: str) -> Shown:
        found = LabelQueue(desk.ledger, desk.workspace, model).doubts(rows=_DOUBTS)[:ROWS]
        return Page("doubts.html", {"model": model, "task": desk.task_of(model), "doubts": found, "looked": _DOUBTS})

    @desk.form("/console/models/{model}/data/import", needs="labeller")
    def take(visit: Visit, model: str) -> Shown:
        if desk.task_of(model) == "ranking":
            raise DataError(f"model {model} learns from signals; send them with `perennial feedback import`")
        named = {
            role: column for role in ("text", "label", "prediction_id") if (column := visit.form.get(role, "").strip())
        }
        attributes = desk.workspace.model(model).fairness.attributes
        read = read_pasted_labels(visit.form.get("rows", ""), desk.ledger, model, named, attributes)
        check_pictures(desk.workspace, model, read.rows)
        keep_labels(desk.ledger, model, read.rows)
        return Done(to=to(f"/console/models/{model}/data", {"taken": len(read.rows)}), told="taken")
