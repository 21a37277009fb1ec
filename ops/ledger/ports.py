"""What those who use the ledger need of it, in parts: each names the few calls that it makes, and takes no other.

The `Ledger` is all of them; each call's promises stand in the docstring there.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from perennial.continual.drift.accuracy import GivenLabel
from perennial.continual.records import Route, Split
from perennial.ops.ledger.rows import CommandRow, CycleRow, DriftReportRow, PendingFeedback, StoredExample, VersionRow

__all__ = [
    "Commands",
    "Cycles",
    "DriftReports",
    "Examples",
    "Labels",
    "Routes",
    "State",
    "Transactions",
    "Versions",
]


class Routes(Protocol):
    """Which version answers."""

    def route(self, model: str) -> Route | None:
        """Return the model's route; see `VersionStore.route`."""
        ...


class Versions(Protocol):
    """What versions there are."""

    def version(self, model: str, number: int) -> VersionRow:
        """Return one version; see `VersionStore.version`."""
        ...

    def versions(self, model: str) -> tuple[VersionRow, ...]:
        """Return every version by number."""
        ...


class Transactions(Protocol):
    """Several calls that are kept together or not at all."""

    def transaction(self) -> AbstractContextManager[None]:
        """Make the calls inside one transaction; see `Store.transaction`."""
        ...


class State(Transactions, Protocol):
    """What monitors remember of a model, under a name; see `perennial.ops.store.state` for the names."""

    def get_state(self, model: str, name: str) -> Any:
        """Return what was put last, or None."""
        ...

    def put_state(self, model: str, name: str, value: Any) -> None:
        """Replace it. A retry changes nothing; the last writer wins."""
        ...


class Labels(Protocol):
    """Labels of answered requests; see `FeedbackStore`."""

    def feedback_labels(self, model: str, prediction_ids: Sequence[str]) -> dict[str, str]:
        """Return the current label of each of these predictions that has one."""
        ...

    def first_feedback(
        self, model: str, limit: int, *, after_id: int = 0, since: datetime | None = None
    ) -> tuple[PendingFeedback, ...]:
        """Return labels in the order in which their predictions were first labelled, as they read now."""
        ...

    def newest_feedback(self, model: str, limit: int) -> tuple[PendingFeedback, ...]:
        """Return the labels that came or changed last, newest first."""
        ...

    def given_labels(self, model: str, prediction_ids: Sequence[str]) -> tuple[GivenLabel, ...]:
        """Return every label ever given for these predictions, by time."""
        ...


class Examples(Protocol):
    """Labelled texts; see `ExampleStore`."""

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


class Cycles(Protocol):
    """Retrainings, under way and past."""

    def active_cycle(self, model: str) -> CycleRow | None:
        """Return the cycle that is under way, if any."""
        ...

    def cycles(self, model: str, limit: int | None = None) -> tuple[CycleRow, ...]:
        """Return a model's cycles, newest first."""
        ...


class DriftReports(Protocol):
    """Measured comparisons of the traffic, already made."""

    def drift_reports(self, model: str, limit: int | None = None, *, after_id: int = 0) -> tuple[DriftReportRow, ...]:
        """Return a model's drift reports after `after_id`, newest first."""
        ...

    def drift_report(self, model: str, report_id: int) -> DriftReportRow:
        """Return one drift report."""
        ...


class Commands(Protocol):
    """What operators ask of the loop."""

    def request_command(self, model: str, kind: str, args: Mapping[str, Any], actor: str) -> int:
        """Put a command into the inbox and return its number."""
        ...

    def commands(self, model: str, limit: int | None = None) -> tuple[CommandRow, ...]:
        """Return a model's commands, newest first."""
        ...
