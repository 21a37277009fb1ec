"""A model's labelling queue: which answered requests a person should label next, and what the labels say so far.

The queue is a list of prediction ids in the ledger, with the reason and the probability of each choice; texts stay in
the traffic log, so that what is erased there is gone here too.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.labelling import (
    Choice,
    Doubt,
    Estimate,
    Reason,
    Shares,
    doubts_of,
    estimate_accuracy,
    novelty,
    select,
    speaks_for,
)
from perennial.continual.task import score_kept
from perennial.continual.tasks import task_named
from perennial.ops.ledger.ports import Labels, Routes, State
from perennial.ops.store.state import DISPUTED, LABEL_QUEUE, QueueChoice
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic.shown import ShownRequest, shown_requests

__all__ = ["DoubtedLabel", "LabelQueue", "OpenQueue", "QueueItem"]

_LOOKED_UP = 50  # requests at once, at least
_FILL = 50  # requests that are chosen where none waits


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItem:
    """One request to label: what was asked and answered, why it was chosen, and how likely that was."""

    prediction_id: str
    text: str
    answered: str
    confidence: float | None
    version: int
    reason: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQueue:
    """What waits for a label, and what the labels say so far of all traffic; None before there are any."""

    items: tuple[QueueItem, ...]
    accuracy: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtedLabel:
    """A given label that the answering model has good reason to doubt; `index` is its place among the looked at."""

    prediction_id: str
    text: str
    index: int
    given: str
    suggested: str
    excess: float
    version: int


class QueueLedger(Labels, Routes, State, Protocol):
    """Where labels come from, and where the choices are kept."""


class LabelQueue:
    """Filled from the newest traffic, worked off by labels; any number of labellers may work on it at once."""

    def __init__(self, ledger: QueueLedger, workspace: Workspace, model: str) -> None:
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self._task = task_named(workspace.model(model).task)
        self._traffic = traffic_of(workspace, model)

    def open_items(self, limit: int = 50) -> tuple[QueueItem, ...]:
        """What still waits for a label, in an order that is random: stopping early skews nothing."""
        waiting, found = self.waiting_choices(), list[QueueItem]()
        at_once = max(limit, _LOOKED_UP)  # what was chosen long ago may have left the log
        for start in range(0, len(waiting), at_once):
            found += self.items_of(waiting[start : start + at_once])
            if len(found) >= limit:
                break
        return tuple(found[:limit])

    def waiting_choices(self, limit: int | None = None) -> tuple[QueueChoice, ...]:
        """What was chosen and waits for a label, in the order of `open_items`, without a look at the traffic."""
        chosen = self._chosen()
        labelled = self._ledger.feedback_labels(self._model, [row.prediction_id for row in chosen])
        return tuple(row for row in chosen if row.prediction_id not in labelled)[:limit]

    def items_of(self, choices: Sequence[QueueChoice]) -> tuple[QueueItem, ...]:
        """Those of the choices whose request is still in the traffic log."""
        rows = shown_requests(self._traffic, [row.prediction_id for row in choices], self._task)
        return tuple(_item(row, rows[row.prediction_id]) for row in choices if row.prediction_id in rows)

    def refill(self, *, budget: int = 50, rows: int = 5_000, shares: Shares | None = None) -> tuple[QueueItem, ...]:
        """Choose up to `budget` of the newest `rows` requests that have no label, beside what waits already.

        While two versions are compared, half of them are drawn from the requests on which they disagree: a label there
        tells as much of their difference as dozens elsewhere. Requests of none of the classes come first in the share
        of the drifted ones. The drift score of a request is its distance from the traffic that the champion's reference
        was made of (from the bulk of the newest requests before there is one), where requests were logged with their
        embedding. Where answers have no margin, chance takes the share of the uncertain ones.
        """
        told = [name for name in ("margin", "known") if name in self._task.log_columns]
        table = self._traffic.read(last=rows, columns=["prediction_id", "embedding", *told])
        ids = table["prediction_id"].to_pylist()
        known = self._chosen()
        taken = {row.prediction_id for row in known} | self._ledger.feedback_labels(self._model, ids).keys()
        disputed = self._disputed(taken, budget)
        taken |= set(disputed)
        free = [place for place, name in enumerate(ids) if name not in taken]
        batch = 1 + max((row.batch for row in known), default=0)
        shares = shares or Shares()
        margins = np.zeros(len(free))
        if "margin" in told:
            margins = table["margin"].to_numpy()[free].astype(float).clip(0.0, 1.0)
        else:
            shares = replace(shares, uncertain=0.0, uniform=shares.uniform + shares.uncertain)
        rng = np.random.default_rng([self._workspace.settings.seed, batch])
        drift = _drift_scores(table["embedding"], free, self._reference())
        known_or_not = table["known"].to_pylist() if "known" in told else [None] * len(ids)
        unknown = [known_or_not[place] is False for place in free]
        left = budget - len(disputed)
        choices = select(margins, budget=left, rng=rng, shares=shares, drift=drift, unknown=unknown)
        fresh = [
            QueueChoice(prediction_id=ids[free[s.index]], reason=s.reason.value, probability=s.probability, batch=batch)
            for s in choices
        ]
        if disputed:
            fresh += [
                QueueChoice(prediction_id=name, reason=Reason.DISPUTED.value, probability=1.0, batch=batch)
                for name in disputed
            ]
            fresh = [fresh[int(place)] for place in rng.permutation(len(fresh))]
        self._keep(fresh, frozenset(ids))
        return self.open_items(limit=budget + len(known))

    def _disputed(self, taken: AbstractSet[str], budget: int) -> list[str]:
        """Some of the requests on which two versions under comparison disagree, drawn by chance: half of the budget.

        None where no comparison is under way.
        """
        kept, route = DISPUTED.read(self._ledger, self._model), self._ledger.route(self._model)
        compared = set() if route is None else {route.champion, route.challenger, route.previous}
        if kept is None or not {kept.champion, kept.challenger} <= compared:
            return []
        labelled = self._ledger.feedback_labels(self._model, kept.ids)
        waiting = [name for name in kept.ids if name not in taken and name not in labelled]
        rng = np.random.default_rng([self._workspace.settings.seed, len(taken), len(waiting)])
        return [waiting[int(place)] for place in rng.permutation(len(waiting))[: budget // 2]]

    def _keep(self, fresh: list[QueueChoice], population: frozenset[str]) -> None:
        """Add a batch, and note which earlier choices belong to the requests that it was drawn from."""
        if not fresh:
            return
        with self._ledger.transaction():  # another labeller may have filled the queue meanwhile
            batch = fresh[0].batch
            known = [
                replace(row, seen=(*row.seen, batch)) if row.prediction_id in population else row
                for row in self._chosen()
            ]
            names = {row.prediction_id for row in known}
            added = [row for row in fresh if row.prediction_id not in names]
            LABEL_QUEUE.keep(self._ledger, self._model, (*known, *added)[-QueueChoice.KEPT :])

    def _reference(self) -> Any:
        """Embeddings of the champion's reference traffic, float32 (rows, d), or None before it is made."""
        route = self._ledger.route(self._model)
        folder = None if route is None else self._workspace.reference(self._model, route.champion)
        if folder is None or not folder.is_dir():
            return None
        embeddings = ReferenceProfile.load(folder).sample.embeddings
        return None if embeddings is None else np.asarray(embeddings, np.float32)

    def waiting(self, *, limit: int, fill: int | None = 0) -> OpenQueue:
        """What waits and the accuracy so far; `fill` > 0 chooses so many more first, None some where nothing waits."""
        items = () if fill else self.open_items(limit)
        if fill or (fill is None and not items):
            items = self.refill(budget=fill or _FILL)
        return OpenQueue(items=items[:limit], accuracy=self.accuracy())

    def accuracy(self) -> Estimate | None:
        """What the labelled part of the queue says about the traffic it was drawn from; None without labels.

        Rows chosen for their doubt count for themselves alone, rows chosen by chance for all that were not chosen.
        Requests that were labelled without the queue are not spoken for.
        """
        chosen = self._chosen()
        labels = self._ledger.feedback_labels(self._model, [row.prediction_id for row in chosen])
        table = self._traffic.lookup(list(labels), columns=["prediction_id", "prediction"])
        answered = dict(zip(table["prediction_id"].to_pylist(), table["prediction"].to_pylist(), strict=True))
        known = [row.prediction_id in labels and row.prediction_id in answered for row in chosen]
        judged = [row for row, is_known in zip(chosen, known, strict=True) if is_known]
        if not any(row.reason == Reason.UNIFORM.value for row in judged):
            return None
        scores = [score_kept(self._task, answered[row.prediction_id], labels[row.prediction_id]) for row in judged]
        return estimate_accuracy(scores, 1.0 / speaks_for([_choice(row) for row in chosen], known))

    def doubts(self, *, rows: int = 5_000) -> list[DoubtedLabel]:
        """Labels of the newest requests that the model which answered them has good reason to doubt, worst first.

        The model had not learnt them when it answered, so its probabilities are fair witnesses. Where a task has none,
        nothing is doubted.
        """
        if "margin" not in self._task.log_columns:
            return []
        table = self._traffic.read(last=rows, columns=["prediction_id", "text", "version", "embedding"])
        ids = table["prediction_id"].to_pylist()
        labels = self._ledger.feedback_labels(self._model, ids)
        doubted: list[DoubtedLabel] = []
        for version in sorted({*table["version"].to_pylist()}):
            places = [i for i, v in enumerate(table["version"].to_pylist()) if v == version and ids[i] in labels]
            for doubt in self._doubts_of(version, table, places, [labels[ids[i]] for i in places]):
                place = places[doubt.index]
                doubted.append(
                    DoubtedLabel(
                        prediction_id=ids[place],
                        text=table["text"][place].as_py(),
                        index=doubt.index,
                        given=doubt.given,
                        suggested=doubt.suggested,
                        excess=doubt.excess,
                        version=version,
                    )
                )
        return sorted(doubted, key=lambda row: -row.excess)

    def _doubts_of(self, version: int, table: Any, places: list[int], given: list[str]) -> Sequence[Doubt]:
        embeddings, known = _embeddings(table["embedding"], places)
        if embeddings is None or len(known) < len(places):
            return ()
        texts = [table["text"][place].as_py() for place in places]
        return doubts_of(self._workspace.bundle(self._model, version), embeddings, given, texts=texts)

    def _chosen(self) -> tuple[QueueChoice, ...]:
        return LABEL_QUEUE.read(self._ledger, self._model) or ()


def _choice(row: QueueChoice) -> Choice:
    return Choice(probability=row.probability, batch=row.batch, seen=row.seen)


def _item(chosen: QueueChoice, request: ShownRequest) -> QueueItem:
    return QueueItem(
        prediction_id=chosen.prediction_id,
        text=request.text,
        answered=request.answered,
        confidence=None if request.confidence is None else round(float(request.confidence), 4),
        version=int(request.version),
        reason=chosen.reason,
        probability=chosen.probability,
    )


def _drift_scores(column: Any, places: list[int], reference: Any) -> Any:
    """How far each request lies from the reference, (rows,); NaN where unknown, None when nothing is known."""
    embeddings, known = _embeddings(column, places)
    if embeddings is None:
        return None
    novelties = np.full(len(places), np.nan)
    novelties[known] = novelty(embeddings, reference)
    return novelties


def _embeddings(column: Any, places: list[int]) -> tuple[Any, Any]:
    """The embeddings of those of the rows that have one, float32 (known, d), and which those are; None without any."""
    taken = column.combine_chunks().take(places) if places else None
    size = getattr(taken.type, "list_size", None) if taken is not None else None
    if taken is None or size is None:
        return None, ()
    known = np.flatnonzero(taken.is_valid().to_numpy(zero_copy_only=False))
    if not len(known):
        return None, ()
    return taken.take(known).flatten().to_numpy(zero_copy_only=False).reshape(-1, size).astype(np.float32), known
