"""Rows whose picture is lost or broken: a training goes on without a few of them, and is refused without many."""

import logging
from dataclasses import replace

from perennial.continual.errors import DataError
from perennial.continual.images import ImageStore
from perennial.continual.preparation import shown
from perennial.ops.making.rows import HoldoutRows, TrainingRows
from perennial.ops.store.workspace import Workspace

__all__ = ["MOST_LOST", "without_lost_pictures"]

logger = logging.getLogger(__name__)
MOST_LOST = 0.1  # of the pictures that the rows name


def without_lost_pictures(
    workspace: Workspace, model: str, rows: TrainingRows, holdout: HoldoutRows
) -> tuple[TrainingRows, HoldoutRows]:
    """The rows that can be learnt and asked about; how many could not stands in `left_out`, and in the log.

    Rows that name no picture are all there. Each picture is read once: a tenth of a millisecond.

    Raises:
        DataError: more than a tenth of the pictures are lost; something happened to their folder.
    """
    folder = workspace.named_inputs(model)
    if folder is None:
        return rows, holdout
    store = ImageStore(folder)
    names = {str(row.input) for row in (*rows.examples, *rows.replay, *holdout.all)}
    lost = {name for name in names if not store.holds(name)}
    if not lost:
        return rows, holdout
    first = shown(min(lost))
    if len(lost) > MOST_LOST * len(names):
        raise DataError(
            f"{len(lost)} of the {len(names)} pictures that rows of {model} name are lost or damaged in {folder} "
            f"(limit {MOST_LOST:.0%}), such as {first}; restore the folder, or import the pictures again"
        )
    logger.warning("training.pictures_lost", extra={"model": model, "pictures": len(lost), "first": first})
    fresh = tuple(stored for stored in rows.fresh if stored.example.input not in lost)
    kept = [place for place, row in enumerate(holdout.all) if row.input not in lost]
    proof = HoldoutRows(
        old=tuple(row for row in holdout.old if row.input not in lost),
        fresh=tuple(row for row in holdout.fresh if row.input not in lost),
        ids=tuple(holdout.ids[place] for place in kept),
    )
    learnt = replace(
        rows,
        fresh=fresh,
        replay=tuple(row for row in rows.replay if row.input not in lost),
        learnt=tuple(stored.id for stored in fresh),
        left_out=len(lost),
    )
    return learnt, proof
