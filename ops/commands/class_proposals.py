"""Classes that the traffic asks for: requests that the champion knows no class for, in groups of texts alike.

A proposal is kept as the ids of its requests; texts stay in the traffic log, so that what is erased there is gone here.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np

from perennial.continual.drift.explain import TextGroup, group_texts
from perennial.continual.drift.window import Window
from perennial.continual.errors import ConfigurationError, NotFound
from perennial.continual.tasks import task_named
from perennial.ops.ledger.ports import ExampleSink, Labels, PendingLabels, RouteMoves, State, Vocabulary
from perennial.ops.store.feedback import GivenLabel, add_labels, admit_given, known_labels
from perennial.ops.store.state import CLASS_PROPOSALS, KeptProposals
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Accepted", "ClassProposal", "ClassProposals", "Proposed"]

_COLUMNS = ("prediction_id", "text", "prediction", "confidence", "tokens", "known", "version", "embedding")
_KEPT = 30  # proposals of earlier looks that may still be accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassProposal:
    """Texts alike of no known class. `name` is made of their words; `texts` are the most central ones.

    `number` means these requests for good; one that a dry run found first has none.
    """

    number: int | None
    name: str
    rows: int
    answered_as: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What was looked at, how much of it is of no class, and the groups in it.

    `undecided` requests came from versions that cannot tell. `ungrouped` ones are of no class and have no label, and no
    embedding by the champion's encoder either, so that nobody can say what they are like.
    """

    requests: int
    of_no_class: int
    undecided: int
    ungrouped: int
    proposals: tuple[ClassProposal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A proposal that became labels: of how many requests, and how many rows its class has with them."""

    label: str
    labelled: int
    least_rows: int


class ProposalLedger(Labels, ExampleSink, PendingLabels, RouteMoves, Vocabulary, State, Protocol):
    """Where labels come from and go to, and where proposals are kept."""


class ClassProposals:
    """The proposals of one model that classifies."""

    def __init__(self, ledger: ProposalLedger, workspace: Workspace, model: str) -> None:
        task = workspace.model(model).task
        if "known" not in task_named(task).log_columns:
            raise ConfigurationError(f"{model} is of task {task}, which has no classes; classes are proposed for texts")
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self._traffic = traffic_of(workspace, model)

    def look(self, *, rows: int = 5_000, most: int = 10, dry_run: bool = False) -> Proposed:
        """Group the newest requests of no class that have no label yet, and keep the groups under their numbers.

        A group of the same requests as before has its number again; any other gets a number that was never given.
        """
        asked = self._traffic.read(last=rows, columns=list(_COLUMNS))
        of_no_class = _where(asked, [known is False for known in asked["known"].to_pylist()])
        labels = self._ledger.feedback_labels(self._model, of_no_class["prediction_id"].to_pylist())
        unlabelled = _where(of_no_class, [name not in labels for name in of_no_class["prediction_id"].to_pylist()])
        comparable = self._comparable(unlabelled)
        groups = self._groups(comparable, asked)[:most]
        kept = self._kept([ids for _, ids in groups], dry_run=dry_run)
        return Proposed(
            requests=asked.num_rows,
            of_no_class=of_no_class.num_rows,
            undecided=asked["known"].null_count,
            ungrouped=unlabelled.num_rows - comparable.num_rows,
            proposals=tuple(_proposal(kept.number_of(ids), group) for group, ids in groups),
        )

    def accept(self, number: int, label: str, *, now: datetime, dry_run: bool = False) -> Accepted:
        """Give the requests of a proposal a label, which starts a class where it is a new one.

        A request that got a label meanwhile keeps it; one that was erased is left out.

        Raises:
            NotFound: there is no such proposal, or nothing of it is left.
            DataError: the label breaks the rule of the entrance.
        """
        kept = self._read()
        there = self._traffic.lookup(kept.groups.get(number, ()), columns=["prediction_id"])["prediction_id"]
        labels = self._ledger.feedback_labels(self._model, there.to_pylist())
        left = [name for name in there.to_pylist() if name not in labels]
        if not left:
            numbers = ", ".join(map(str, sorted(kept.groups))) or "none"
            raise NotFound(
                f"proposal {number} of {self._model} has no request without a label; proposals are {numbers}: look "
                f"again with `perennial label proposals --model {self._model}`"
            )
        vocabulary = known_labels(self._ledger, self._model)
        rows = [admit_given(GivenLabel(prediction_id=name, label=label), known=vocabulary, now=now) for name in left]
        if not dry_run:
            with self._ledger.route_held(self._model):
                add_labels(self._ledger, self._model, rows)
                CLASS_PROPOSALS.keep(self._ledger, self._model, self._read().without(number))
        least = self._workspace.model(self._model).learning.min_class_rows
        return Accepted(label=rows[0].label, labelled=len(rows), least_rows=least)

    def _comparable(self, rows: "pa.Table") -> "pa.Table":
        """The rows with an embedding by the champion's encoder; those of two encoders have nothing to do with another.

        Of a champion whose card tells of no encoder only its own rows count.
        """
        route = self._ledger.route(self._model)
        if route is None:
            return rows.slice(0, 0)
        encoder = self._ledger.version(self._model, route.champion).encoder_fingerprint
        alike = {route.champion}
        if encoder is not None:
            versions = self._ledger.versions(self._model)
            alike |= {row.version for row in versions if row.encoder_fingerprint == encoder}
        embedded = rows["embedding"].is_valid().to_pylist()
        of_versions = zip(embedded, rows["version"].to_pylist(), strict=True)
        return _where(rows, [there and version in alike for there, version in of_versions])

    def _groups(self, rows: "pa.Table", asked: "pa.Table") -> list[tuple[TextGroup, list[str]]]:
        """Groups of texts alike with the ids of their requests; what is of a class names none of them."""
        if not rows.num_rows:
            return []
        window = Window.from_columns({name: rows[name] for name in _COLUMNS if name != "known"})
        texts = zip(asked["text"].to_pylist(), asked["known"].to_pylist(), strict=True)
        familiar = [text for text, known in texts if known is not False]
        rng = np.random.default_rng(self._workspace.settings.seed)
        ids = rows["prediction_id"].to_pylist()
        found = group_texts(window, np.arange(len(window)), familiar, rng)
        return [(group, [ids[row] for row in members]) for group, members in found]

    def _kept(self, groups: list[list[str]], *, dry_run: bool) -> KeptProposals:
        """What is kept once these groups were shown. One look at a time gives numbers."""
        if dry_run or not groups:
            return self._read()
        with self._ledger.route_held(self._model):
            kept = self._read().joined(groups, most=_KEPT)
            CLASS_PROPOSALS.keep(self._ledger, self._model, kept)
        return kept

    def _read(self) -> KeptProposals:
        return CLASS_PROPOSALS.read(self._ledger, self._model) or KeptProposals()


def _where(rows: "pa.Table", chosen: list[bool]) -> "pa.Table":
    import pyarrow as pa

    return rows.filter(pa.array(chosen, pa.bool_()))


def _proposal(number: int | None, group: TextGroup) -> ClassProposal:
    return ClassProposal(
        number=number, name=group.name, rows=group.rows, answered_as=group.answered_as, texts=group.texts
    )
