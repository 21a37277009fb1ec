"""What the ledger forgets of its own past, so that it does not grow for ever."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, select

from perennial.ops.ledger import schema
from perennial.ops.ledger.store import Store

__all__ = ["Forgotten", "PruningStore"]

_AT_ONCE = 20_000  # rows of a table in one transaction: on SQLite it holds up every other writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """How many rows went."""

    journal: int
    commands: int
    drift_reports: int


class PruningStore(Store):
    """The part of the ledger that removes what is over and old."""

    def forget_history(self, model: str, before: datetime, *, keep: int) -> Forgotten:
        """Remove journals of cycles closed before a time, commands finished before it and drift reports before it.

        The newest `keep` (at least one) cycles, commands and reports stay however old they are; so do what is under way
        and the cycles' own rows, which versions name. The audit log is never touched. A call removes a bounded number
        of rows; a later one goes on.
        """
        cycle, entry, command, report = schema.cycle, schema.journal_entry, schema.command, schema.drift_report
        with self._write() as connection:
            self._lock_model(connection, model)
            over = _old(connection, cycle, model, keep, cycle.c.closed_at < before)
            journal = entry.c.cycle_id.in_(select(cycle.c.id).where(over))
            done = _old(connection, command, model, keep, command.c.finished_at < before)
            seen = _old(connection, report, model, keep, report.c.at < before)
            return Forgotten(
                journal=_remove(connection, entry, entry.c.id, journal),
                commands=_remove(connection, command, command.c.id, done),
                drift_reports=_remove(connection, report, report.c.id, seen),
            )


def _old(connection: Connection, table: Table, model: str, keep: int, over: ColumnElement[bool]) -> ColumnElement[bool]:
    """The model's rows that are over, but for its newest `keep` ones (at least one)."""
    newest = select(table.c.id).where(table.c.model == model).order_by(table.c.id.desc())
    first_kept = connection.scalar(newest.offset(max(1, keep) - 1).limit(1)) or 0
    return (table.c.model == model) & over & (table.c.id < first_kept)


def _remove(connection: Connection, table: Table, number: Column[Any], old: ColumnElement[bool]) -> int:
    some = select(number).where(old).order_by(number).limit(_AT_ONCE)
    return connection.execute(delete(table).where(number.in_(some))).rowcount
