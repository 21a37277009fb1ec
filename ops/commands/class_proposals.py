"""Classes that the traffic asks for: requests that the champion knows no class for, in groups of texts alike.

A proposal is kept as the ids of its requests; texts stay in the traffic log, so that what is erased there is gone here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.explain import TextGroup, group_texts
from perennial.continual.drift.window import Window
from perennial.continual.errors import ConfigurationError, NotFound
from perennial.continual.tasks import task_named
from perennial.ops.ledger.ports import ExampleSink, Labels, PendingLabels, State, Vocabulary
from perennial.ops.store.feedback import GivenLabel, add_labels, admit_given, known_labels
from perennial.ops.store.state import CLASS_PROPOSALS
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace

__all__ = ["Accepted", "ClassProposal", "ClassProposals", "Proposed"]

_COLUMNS = ("prediction_id", "text", "prediction", "confidence", "tokens", "known", "version", "embedding")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassProposal:
    """Texts alike of no known class. `name` is made of their words; `texts` are the most central ones."""

    number: int
    name: str
    rows: int
    answered_as: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What was looked at, how much of it is of no class, and the groups in it.

    `untold` requests came from versions that cannot tell.
    """

    requests: int
    of_no_class: int
    untold: int
    proposals: tuple[ClassProposal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A proposal that became labels: of how many requests, and how many rows its class has with them."""

    label: str
    labelled: int
    least_rows: int


class ProposalLedger(Labels, ExampleSink, PendingLabels, Vocabulary, State, Protocol):
    """Where labels come from and go to, and where proposals are kept."""


class ClassProposals:
    """The proposals of one model that classifies."""

    def __init__(self, ledger: ProposalLedger, workspace: Workspace, model: str) -> None:
        task = workspace.model(model).task
        if "known" not in task_named(task).log_columns:
            raise ConfigurationError(f"{model} is of task {task}, which has no classes; classes are proposed for texts")
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self._traffic = traffic_of(workspace, model)

    def look(self, *, rows: int = 5_000, most: int = 10) -> Proposed:
        """Group the newest requests of no class that have no label yet, and keep the groups until the next look."""
        table = self._traffic.read(last=rows, columns=list(_COLUMNS))
        known = table["known"].to_pylist()
        ids = table["prediction_id"].to_pylist()
        labelled = self._ledger.feedback_labels(self._model, ids)
        strange = [place for place, is_known in enumerate(known) if is_known is False]
        free = [place for place in strange if ids[place] not in labelled]
        groups: Sequence[tuple[TextGroup, NDArray[np.int64]]] = ()
        if free:
            window = Window.from_columns({name: table[name] for name in _COLUMNS if name != "known"})
            familiar = [text for text, is_known in zip(window.texts, known, strict=True) if is_known is not False]
            rng = np.random.default_rng(self._workspace.settings.seed)
            groups = group_texts(window, np.array(free), familiar, rng)[:most]
        kept = {str(number): [ids[row] for row in members] for number, (_, members) in enumerate(groups, start=1)}
        CLASS_PROPOSALS.keep(self._ledger, self._model, kept)
        return Proposed(
            requests=len(ids),
            of_no_class=len(strange),
            untold=known.count(None),
            proposals=tuple(_proposal(number, group) for number, (group, _) in enumerate(groups, start=1)),
        )

    def accept(self, number: int, label: str, *, now: datetime, dry_run: bool = False) -> Accepted:
        """Give the requests of a proposal a label, which starts a class where it is a new one.

        A request that got a label meanwhile keeps it; one that was erased is left out.

        Raises:
            NotFound: there is no such proposal, or nothing of it is left.
            DataError: the label breaks the rule of the entrance.
        """
        proposals = CLASS_PROPOSALS.read(self._ledger, self._model) or {}
        ids = proposals.get(str(number), [])
        there = self._traffic.lookup(ids, columns=["prediction_id"])["prediction_id"].to_pylist()
        labelled = self._ledger.feedback_labels(self._model, there)
        left = [name for name in there if name not in labelled]
        if not left:
            numbers = ", ".join(sorted(proposals, key=int)) or "none"
            raise NotFound(
                f"proposal {number} of {self._model} has no request without a label; proposals are {numbers}: look "
                f"again with `perennial label proposals --model {self._model}`"
            )
        known = known_labels(self._ledger, self._model)
        rows = [admit_given(GivenLabel(prediction_id=name, label=label), known=known, now=now) for name in left]
        if not dry_run:
            with self._ledger.transaction():
                add_labels(self._ledger, self._model, rows)
                others = {name: ids for name, ids in proposals.items() if name != str(number)}
                CLASS_PROPOSALS.keep(self._ledger, self._model, others)
        least = self._workspace.model(self._model).learning.min_class_rows
        return Accepted(label=rows[0].label, labelled=len(rows), least_rows=least)


def _proposal(number: int, group: TextGroup) -> ClassProposal:
    return ClassProposal(
        number=number, name=group.name, rows=group.rows, answered_as=group.answered_as, texts=group.texts
    )
