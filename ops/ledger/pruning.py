"""What the ledger forgets of its own past, so that it does not grow for ever."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, FromClause, Table, delete, select

from perennial.ops.ledger import schema
from perennial.ops.ledger.store import chunks
from perennial.ops.ledger.tallies import FEEDBACK, TallyStore

__all__ = ["Forgotten", "PruningStore"]

_AT_ONCE = 5_000  # rows of a table in one transaction: on SQLite it holds up every other writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """How many rows went."""

    journal: int
    commands: int
    drift_reports: int


class PruningStore(TallyStore):
    """The part of the ledger that removes what is over and old."""

    def forget_history(self, model: str, before: datetime, *, keep: int) -> Forgotten:
        """Remove journals of cycles closed before a time, commands finished before it and drift reports before it.

        The newest `keep` (at least one) cycles, commands and reports stay however old they are; so do what is under way
        and the cycles' own rows, which versions name. The audit log is never touched. A call looks at a bounded number
        of the oldest rows; a later one goes on.
        """
        cycle, entry, command, report = schema.cycle, schema.journal_entry, schema.command, schema.drift_report
        with self._write() as connection:
            self._lock_model(connection, model)
            over = select(cycle.c.id).where(cycle.c.model == model, cycle.c.closed_at < before)
            over = over.where(cycle.c.id < _first_kept(connection, cycle, model, keep))
            seen = _first_kept(connection, report, model, keep)
            done = _first_kept(connection, command, model, keep)
            return Forgotten(
                journal=_remove(connection, entry, entry.c.cycle_id, model, lambda old: old.c.cycle_id.in_(over)),
                commands=_remove(
                    connection,
                    command,
                    command.c.finished_at,
                    model,
                    lambda old: (old.c.finished_at < before) & (old.c.id < done),
                ),
                drift_reports=_remove(
                    connection, report, report.c.at, model, lambda old: (old.c.at < before) & (old.c.id < seen)
                ),
            )

    def forget_feedback(self, model: str, before: datetime) -> int:
        """Remove labels that came, or last changed, before a time and wait for nothing, with their history.

        Returns how many; a call removes a bounded number, and a later one goes on. The examples that were made of them
        stay. A label that comes again for such a prediction is a new one.
        """
        table, past = schema.feedback, schema.feedback_history
        with self._write() as connection:
            self._lock_model(connection, model)
            old = select(table.c.id, table.c.prediction_id).where(table.c.model == model, table.c.received_at < before)
            old = old.where(table.c.joined_revision >= table.c.revision).order_by(table.c.received_at)
            rows = connection.execute(old.limit(_AT_ONCE)).all()
            for part in chunks(rows):
                names = [row.prediction_id for row in part]
                connection.execute(delete(past).where(past.c.model == model, past.c.prediction_id.in_(names)))
                connection.execute(delete(table).where(table.c.id.in_([row.id for row in part])))
            self._tally(connection, model, {(FEEDBACK, ""): -len(rows)})
        return len(rows)

    def forget_notices(self, model: str, before: datetime) -> int:
        """Remove notes of messages that were sent before a time; returns how many."""
        table = schema.notice
        with self._write() as connection:
            old = delete(table).where(table.c.model == model, table.c.claimed_at < before)
            return connection.execute(old).rowcount


def _first_kept(connection: Connection, table: Table, model: str, keep: int) -> int:
    """The id of the oldest row that stays whatever its age."""
    newest = select(table.c.id).where(table.c.model == model).order_by(table.c.id.desc())
    return connection.scalar(newest.offset(max(1, keep) - 1).limit(1)) or 0


def _remove(
    connection: Connection,
    table: Table,
    column: Column[Any],
    model: str,
    is_old: Callable[[FromClause], ColumnElement[bool]],
) -> int:
    """Remove those of the model's oldest rows that are old by a column, without looking at the others."""
    oldest = select(table.c.id, column).where(table.c.model == model).order_by(table.c.id).limit(_AT_ONCE).subquery()
    some = list(connection.scalars(select(oldest.c.id).where(is_old(oldest))))
    for part in chunks(some):
        connection.execute(delete(table).where(table.c.id.in_(part)))
    return len(some)
