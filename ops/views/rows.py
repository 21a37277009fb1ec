"""The rows that a model learns from: how many of each class and use, and some of them to look at."""

from dataclasses import dataclass
from datetime import datetime

from perennial.continual.records import Split
from perennial.ops.ledger import Ledger
from perennial.ops.store.workspace import Workspace

__all__ = ["ClassRows", "RowView", "class_rows", "rows_of_class"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRows:
    """One class: its rows by use, whether the champion answers with it, and whether it has too few to be learnt."""

    label: str
    training: int
    holdout: int
    served: bool
    too_few: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """One row of a class; the text without personal data that patterns can find."""

    id: int
    text: str
    at: datetime
    use: str
    origin: str


def class_rows(ledger: Ledger, workspace: Workspace, model: str) -> tuple[ClassRows, ...]:
    """Return every class that has rows or that the champion answers with, the largest first."""
    training, holdout = ledger.label_counts(model, Split.TRAIN), ledger.label_counts(model, Split.HOLDOUT)
    route = ledger.route(model)
    served = frozenset(() if route is None else ledger.version(model, route.champion).labels)
    configured = workspace.settings.models.get(model)
    least = 0 if configured is None else configured.learning.min_class_rows
    found = []
    for label in {*training, *holdout, *served}:
        own = (training.get(label, 0), holdout.get(label, 0))
        few = 0 < sum(own) < least
        found.append(ClassRows(label=label, training=own[0], holdout=own[1], served=label in served, too_few=few))
    return tuple(sorted(found, key=lambda each: (-each.training - each.holdout, each.label)))


def rows_of_class(ledger: Ledger, model: str, label: str, *, after: int, limit: int) -> tuple[RowView, ...]:
    """Return rows of a class with greater ids than `after`, in their order."""
    return tuple(
        RowView(
            id=stored.id,
            text=stored.example.text,
            at=stored.example.at,
            use=stored.split.value,
            origin=stored.example.origin.value,
        )
        for stored in ledger.examples(model, label=label, since_id=after or None, limit=limit)
    )
