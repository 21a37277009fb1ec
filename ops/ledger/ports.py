"""What those who use the ledger need of it, in parts: each names the few calls that it makes, and takes no other.

The `Ledger` is all of them. What a call promises stands there; here is only which calls belong together.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from perennial.continual.drift.accuracy import GivenLabel
from perennial.continual.records import Route, Split
from perennial.continual.task import AnyRow
from perennial.ops.ledger.descriptions import ClassDescription
from perennial.ops.ledger.rows import (
    AttemptRow,
    AuditEntry,
    CommandRow,
    CycleRow,
    DriftReportRow,
    ExamplesReceipt,
    FeedbackReceipt,
    FeedbackRow,
    JoinOutcome,
    ModelRow,
    PendingFeedback,
    StoredExample,
    VersionRow,
)

if TYPE_CHECKING:
    from perennial.continual.replay.port import BufferState

__all__ = [
    "Audit",
    "Buffers",
    "Commands",
    "Cycles",
    "DriftReports",
    "ErasedRows",
    "ExampleCounts",
    "ExampleRows",
    "ExampleSink",
    "Examples",
    "Inbox",
    "Labels",
    "LabelsIn",
    "PendingLabels",
    "RouteMoves",
    "Routes",
    "State",
    "Transactions",
    "Versions",
    "Vocabulary",
]


class Transactions(Protocol):
    """Several calls that are kept together or not at all."""

    def transaction(self) -> AbstractContextManager[None]:
        """Make the calls inside one transaction: all of them are kept, or none."""
        ...


class State(Transactions, Protocol):
    """What monitors remember of a model, each under a name of `perennial.ops.store.state`."""

    def get_state(self, model: str, name: str) -> Any:
        """Return what was put last, or None."""
        ...

    def put_state(self, model: str, name: str, value: Any) -> None:
        """Replace it."""
        ...


class Routes(Protocol):
    """Which version answers."""

    def route(self, model: str) -> Route | None:
        """Return the model's route, or None before its first version."""
        ...


class RouteMoves(Routes, Protocol):
    """How another version comes to answer."""

    def route_held(self, model: str) -> AbstractContextManager[Route | None]:
        """Give a model's route, which no other writer can change before the block ends."""
        ...

    def move_route(
        self,
        model: str,
        change: Callable[[Route], Route],
        *,
        actor: str,
        reason: str,
        follow: Callable[[Route], object],
    ) -> tuple[Route, Route]:
        """Replace a model's route by what `change` makes of it, and return the routes before and after."""
        ...


class Versions(Protocol):
    """What versions there are."""

    def version(self, model: str, number: int) -> VersionRow:
        """Return one version."""
        ...

    def versions(
        self, model: str, *, newest: int | None = None, among: Collection[int] | None = None
    ) -> tuple[VersionRow, ...]:
        """Return the versions by number: all, the `newest` so many, or those with some numbers."""
        ...


class Vocabulary(Routes, Versions, Protocol):
    """Which classes a model knows: served, labelled or described."""

    def labels(self, model: str) -> tuple[str, ...]:
        """Return the labels of its examples."""
        ...

    def descriptions(self, model: str) -> tuple[ClassDescription, ...]:
        """Return its described classes."""
        ...


class LabelsIn(Protocol):
    """How many labels there are."""

    def labels_in(self, model: str) -> int:
        """Return how many labels wait for their prediction or are in use as examples."""
        ...


class Labels(Protocol):
    """Labels of answered requests."""

    def feedback_labels(self, model: str, prediction_ids: Sequence[str]) -> dict[str, str]:
        """Return the current label of each of these predictions that has one."""
        ...

    def first_feedback(
        self, model: str, limit: int, *, after_id: int = 0, since: datetime | None = None
    ) -> tuple[PendingFeedback, ...]:
        """Return labels in the order in which their predictions were first labelled, as they read now."""
        ...

    def last_feedback_id(self, model: str, *, after_id: int = 0) -> int:
        """Return the id of the prediction that was first labelled last, or `after_id` where none came after it."""
        ...

    def newest_feedback(self, model: str, limit: int) -> tuple[PendingFeedback, ...]:
        """Return the labels that came or changed last, newest first."""
        ...

    def given_labels(self, model: str, prediction_ids: Sequence[str]) -> tuple[GivenLabel, ...]:
        """Return every label ever given for these predictions, by time."""
        ...


class ErasedRows(Protocol):
    """What was erased, to whoever keeps rows beside the ledger."""

    def erased_among(self, model: str, marks: Sequence[tuple[str | None, str | None, datetime]]) -> tuple[bool, ...]:
        """Tell of each row, by its key, prediction id and time, whether it belongs to what was erased."""
        ...


class PendingLabels(Protocol):
    """Labels that wait for their request."""

    def add_feedback(self, model: str, rows: Sequence[FeedbackRow]) -> FeedbackReceipt:
        """Keep labels, all or none."""
        ...

    def pending_feedback(
        self, model: str, limit: int = 1000, *, after: PendingFeedback | None = None, due_by: datetime | None = None
    ) -> tuple[PendingFeedback, ...]:
        """Return labels that wait, new ones first; with `due_by` those that are to be looked for by then."""
        ...

    def postpone(self, model: str, rows: Sequence[PendingFeedback], until: datetime) -> None:
        """Look for the predictions of these labels no sooner than then."""
        ...

    def waiting_count(self, model: str) -> int:
        """Return how many labels wait for their prediction."""
        ...

    def mark_joined(
        self, model: str, rows: Sequence[PendingFeedback], *, outcome: JoinOutcome = JoinOutcome.JOINED
    ) -> int:
        """Take labels off the pending list and return how many."""
        ...


class Examples(Protocol):
    """Labelled rows."""

    def examples(
        self,
        model: str,
        *,
        split: Split | None = None,
        since_id: int | None = None,
        not_learnt_by: int | None = None,
        label: str | None = None,
        limit: int | None = None,
    ) -> tuple[StoredExample, ...]:
        """Return current examples by id."""
        ...


class ExampleCounts(Protocol):
    """How many labelled rows there are."""

    def example_count(self, model: str, split: Split) -> int:
        """Return how many current examples there are."""
        ...

    def contradiction_count(self, model: str) -> int:
        """Return how many were overruled since the beginning."""
        ...

    def last_example_id(self, model: str) -> int:
        """Return the newest one's id; 0 without one."""
        ...


class ExampleRows(Examples, Protocol):
    """Labelled rows, and whether some were erased."""

    def example_rows_between(self, model: str, after_id: int, until_id: int) -> int:
        """Return how many rows have ids in this range, superseded ones included."""
        ...


class ExampleSink(Protocol):
    """Where labelled rows of a registered model go."""

    def models(self) -> tuple[ModelRow, ...]:
        """Return the registered models."""
        ...

    def add_examples(self, model: str, examples: Sequence[AnyRow], split_by: Callable[[Any], Split]) -> ExamplesReceipt:
        """Keep examples, one an input, all or none."""
        ...


class Buffers(Protocol):
    """Replay buffers as they were saved last."""

    def load_buffer(self, model: str) -> "BufferState[Any] | None":
        """Return a model's buffer, or None before the first save."""
        ...


class Cycles(Protocol):
    """Retrainings, under way and past."""

    def active_cycle(self, model: str) -> CycleRow | None:
        """Return the cycle that is under way, if any."""
        ...

    def cycles(self, model: str, limit: int | None = None) -> tuple[CycleRow, ...]:
        """Return a model's cycles, newest first."""
        ...

    def newest_attempt(self, model: str, champion: int) -> AttemptRow | None:
        """Return the newest closed cycle whose challenger was to learn in this champion's place."""
        ...


class DriftReports(Protocol):
    """Measured comparisons of the traffic."""

    def add_drift_report(self, report: DriftReportRow) -> int:
        """Keep one and return its id."""
        ...

    def drift_reports(self, model: str, limit: int | None = None, *, after_id: int = 0) -> tuple[DriftReportRow, ...]:
        """Return a model's drift reports after `after_id`, newest first."""
        ...

    def drift_report(self, model: str, report_id: int) -> DriftReportRow:
        """Return one drift report."""
        ...


class Commands(Protocol):
    """Where operators ask something of the loop."""

    def request_command(self, model: str, kind: str, args: Mapping[str, Any], actor: str) -> int:
        """Put a command into the inbox and return its number."""
        ...


class Inbox(Transactions, Protocol):
    """Where the loop takes what it is asked."""

    def waiting_commands(self, model: str) -> tuple[CommandRow, ...]:
        """Return the commands that nobody took, oldest first, and leave them there."""
        ...

    def take_commands(self, model: str) -> tuple[CommandRow, ...]:
        """Hand out the commands that nobody took, oldest first."""
        ...

    def finish_command(self, command_id: int, outcome: str) -> None:
        """Note how a command ended."""
        ...


class Audit(Protocol):
    """Who did what, when and why."""

    def audit(self, actor: str, action: str, model: str | None, detail: Mapping[str, Any]) -> AuditEntry:
        """Append one entry and return it."""
        ...

    def audit_entries(
        self, model: str | None = None, *, limit: int | None = None, since_seq: int = 0
    ) -> tuple[AuditEntry, ...]:
        """Return entries after `since_seq`, oldest first; with `limit`, the newest ones of them."""
        ...

    def audit_head(self) -> tuple[int, str]:
        """Return the number and hash of the newest entry."""
        ...
