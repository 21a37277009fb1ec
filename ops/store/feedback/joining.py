"""How a label and the logged request that it belongs to become a row, by the model's task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.images import ImageStore
from perennial.continual.preparation import KnownLabels, admit_example
from perennial.continual.records import Example
from perennial.continual.task import AnyRow, AnyTask
from perennial.continual.tasks import task_named
from perennial.continual.tasks.generation import AcceptedEdit, Generation, Rewrite
from perennial.continual.tasks.generation.task import SOMEBODY
from perennial.continual.tasks.ranking import Impression, Query, Ranking
from perennial.ops.ledger import PendingFeedback
from perennial.ops.ledger.ports import ErasedRows, Vocabulary
from perennial.ops.store.feedback.labels import known_labels
from perennial.ops.store.feedback.signals import remember_events
from perennial.ops.store.workspace import Workspace

__all__ = ["Joiner", "LabelJoiner", "joiner_of"]

_LOGGED_BYTES = 1 << 20  # more than the router keeps of any text


class JoinerLedger(ErasedRows, Vocabulary, Protocol):
    """What a joiner asks of the ledger."""


class Joiner(Protocol):
    """Makes the rows of one pass over the labels that wait."""

    @property
    def task(self) -> AnyTask:
        """Whose rows it makes."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the log that it needs, beside `prediction_id`."""
        ...

    def row(self, pending: PendingFeedback, logged: Mapping[str, Any]) -> AnyRow:
        """The row, by the rule once more: logs and labels may be older than it.

        Raises:
            DataError: the rule refuses it.
        """
        ...

    def stored(self, rows: Sequence[AnyRow]) -> None:
        """Rows that it made are in the ledger now; a repetition changes nothing."""
        ...


class LabelJoiner:
    """Joins labels of texts, whose classes are those that are known in the pass."""

    task: AnyTask = task_named("text_classification")
    columns: Sequence[str] = ("text", "key", "redacted")

    def __init__(self, ledger: Vocabulary, model: str) -> None:
        self._ledger, self._model = ledger, model

    @cached_property
    def known(self) -> KnownLabels:
        """The model's labels; read where a label waits."""
        return known_labels(self._ledger, self._model)

    def row(self, pending: PendingFeedback, logged: Mapping[str, Any]) -> Example:
        example = admit_example(
            text=logged["text"],
            label=self.known.settle(pending.label),  # a twin may have become known meanwhile
            at=pending.at,
            origin=pending.origin,
            known=self.known,
            prediction_id=pending.prediction_id,
            redacted=bool(logged["redacted"]),
            most_bytes=_LOGGED_BYTES,
            attributes=pending.attributes,
        )
        return replace(example, key=pending.key or logged["key"])  # as kept: an erasure looks for that spelling too

    def stored(self, rows: Sequence[AnyRow]) -> None:
        """Nothing more is to be done."""


@dataclass(frozen=True, slots=True)
class _SignalJoiner:
    ledger: JoinerLedger
    workspace: Workspace
    model: str
    task: AnyTask = Ranking()  # noqa: RUF009  frozen
    columns: Sequence[str] = ("user", "asked_at", "segment", "context", "redacted")

    def row(self, pending: PendingFeedback, logged: Mapping[str, Any]) -> Impression:
        asked = Query(
            user=logged["user"],
            at=datetime.fromisoformat(logged["asked_at"]),
            segment=logged["segment"],
            context=logged["context"],
        )
        return Impression(
            input=asked,
            target=Ranking().read_target(pending.label),
            at=pending.at,
            origin=pending.origin,
            key=asked.user,
            prediction_id=pending.prediction_id,
            redacted=bool(logged["redacted"]),
        )

    def stored(self, rows: Sequence[AnyRow]) -> None:
        """The users' next answers know of it, also where nobody knew whose it was when it came."""
        from perennial.continual.learning.ranking import events_of

        events = [(event, row.prediction_id) for row in rows for event in events_of(row)]
        remember_events(self.ledger, self.workspace, self.model, events)


class _ImageJoiner(LabelJoiner):
    """Joins labels of images, of which the picture is kept: what cannot be looked at cannot be learnt."""

    def __init__(self, ledger: Vocabulary, workspace: Workspace, model: str) -> None:
        super().__init__(ledger, model)
        self._store = ImageStore(workspace.images(model))

    def row(self, pending: PendingFeedback, logged: Mapping[str, Any]) -> Example:
        if not self._store.holds(logged["text"]):
            raise DataError("the picture of this request was not kept, or is gone; label another request")
        return super().row(pending, logged)


@dataclass(frozen=True, slots=True)
class _EditJoiner:
    """Joins an accepted text with the reply that it is an edit of."""

    ledger: JoinerLedger
    workspace: Workspace
    model: str
    task: AnyTask = Generation()  # noqa: RUF009  frozen
    columns: Sequence[str] = ("approved", "tone", "language", "key", "redacted")

    def row(self, pending: PendingFeedback, logged: Mapping[str, Any]) -> AcceptedEdit:
        approved = logged["approved"]
        greets = pending.label.count(SOMEBODY) > approved.count(SOMEBODY)
        return AcceptedEdit(
            input=Rewrite(
                approved=approved, tone=logged["tone"], language=logged["language"], name=SOMEBODY if greets else ""
            ),
            target=pending.label,
            at=pending.at,
            origin=pending.origin,
            key=pending.key or logged["key"],
            prediction_id=pending.prediction_id,
            redacted=bool(logged["redacted"]),
        )

    def stored(self, rows: Sequence[AnyRow]) -> None:
        """Nothing more is to be done."""


def _labels(ledger: JoinerLedger, _: Workspace, model: str) -> LabelJoiner:
    return LabelJoiner(ledger, model)


_JOINERS: Mapping[str, Callable[[JoinerLedger, Workspace, str], Joiner]] = {
    "generation": _EditJoiner,
    "image_classification": _ImageJoiner,
    "opinion": _labels,
    "ranking": _SignalJoiner,
    "replies": _labels,
    "text_classification": _labels,
}


def joiner_of(ledger: JoinerLedger, workspace: Workspace, model: str) -> Joiner:
    """What joins the labels of a model, by its task.

    Raises:
        ConfigurationError: labels of the task are not joined here.
    """
    task = workspace.settings.task_of(model)
    if task not in _JOINERS:
        raise ConfigurationError(f"task {task!r} has no feedback here; known are {', '.join(sorted(_JOINERS))}")
    return _JOINERS[task](ledger, workspace, model)
