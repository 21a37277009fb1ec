"""Cycles and their journal, drift reports, and the small states that monitors keep."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from perennial.continual.errors import NotFound
from perennial.ops.ledger import schema
from perennial.ops.ledger.rows import (
    AttemptRow,
    Conflict,
    CycleRow,
    DriftReportRow,
    JournalRow,
    Phase,
    predictions_named,
)
from perennial.ops.ledger.tombstones import TombstoneStore

__all__ = ["CycleStore"]

_CYCLE = schema.cycle
_ENTRY = schema.journal_entry
_REPORT = [column for column in schema.drift_report.columns if column.name not in predictions_named({})]


class CycleStore(TombstoneStore):
    """The part of the ledger that follows a model's cycles."""

    def open_cycle(self, model: str, reason: str, payload: Any, *, state: str = "open") -> int:
        """Start a cycle and return its id.

        Raises:
            Conflict: the model has an active cycle, of which only one runs at a time, or a person's rows are being
                erased from it.
        """
        with self._write() as connection:
            self._lock_model(connection, model)
            self._check_no_erasure(connection, model)
            active = connection.scalar(select(_CYCLE.c.id).where(_CYCLE.c.model == model, _CYCLE.c.closed_at.is_(None)))
            if active is not None:
                raise Conflict(f"{model} has cycle {active} under way; close or abort it before opening another")
            now = self._clock()
            row = {"model": model, "reason": reason, "state": state, "payload": payload}
            row |= {"opened_at": now, "saved_at": now}
            return int(connection.execute(insert(_CYCLE).values(row).returning(_CYCLE.c.id)).scalar_one())

    def save_cycle(self, cycle_id: int, state: str, payload: Any) -> None:
        """Replace an active cycle's state. A retry changes nothing; the last writer wins.

        Raises:
            NotFound: the cycle does not exist.
            Conflict: the cycle is closed.
        """
        with self._write() as connection:
            self._open_row(connection, cycle_id)
            values = {"state": state, "payload": payload, "saved_at": self._clock()}
            connection.execute(update(_CYCLE).where(_CYCLE.c.id == cycle_id).values(values))

    def date_cycles_anew(self, model: str, *, ahead: timedelta) -> tuple[int, ...]:
        """Let the cycles that were opened later than now, by more than `ahead`, count as opened now; returns their ids.

        Such a time was stamped by a clock that was wrong.
        """
        now = self._clock()
        wrong = (_CYCLE.c.model == model) & (_CYCLE.c.opened_at > now + ahead)
        with self._read() as connection:  # which holds up nobody's writing
            cycles = sorted(connection.scalars(select(_CYCLE.c.id).where(wrong)))
        if cycles:
            with self._write() as connection:
                connection.execute(update(_CYCLE).where(wrong).values(opened_at=now))
        return tuple(cycles)

    def active_cycle(self, model: str) -> CycleRow | None:
        """Return the cycle that is under way, if any."""
        statement = select(_CYCLE).where(_CYCLE.c.model == model, _CYCLE.c.closed_at.is_(None))
        with self._read() as connection:
            row = connection.execute(statement).mappings().first()
        return None if row is None else CycleRow(**row)

    def close_cycle(self, cycle_id: int, outcome: str, note: str = "") -> None:
        """End a cycle. A retry with the same outcome changes nothing.

        Raises:
            NotFound: the cycle does not exist.
            Conflict: it was closed with another outcome.
        """
        with self._write() as connection:
            row = self._cycle(connection, cycle_id)
            if row["closed_at"] is not None and row["outcome"] == outcome:
                return
            self._open_row(connection, cycle_id)
            values = {"closed_at": self._clock(), "outcome": outcome, "note": note}
            connection.execute(update(_CYCLE).where(_CYCLE.c.id == cycle_id).values(values))

    def cycle(self, cycle_id: int) -> CycleRow:
        """Return one cycle.

        Raises:
            NotFound: it does not exist.
        """
        with self._read() as connection:
            return CycleRow(**self._cycle(connection, cycle_id))

    def cycles(self, model: str, limit: int | None = None, *, before_id: int | None = None) -> tuple[CycleRow, ...]:
        """Return a model's cycles before `before_id`, newest first."""
        statement = select(_CYCLE).where(_CYCLE.c.model == model).order_by(_CYCLE.c.id.desc()).limit(limit)
        if before_id is not None:
            statement = statement.where(_CYCLE.c.id < before_id)
        with self._read() as connection:
            return tuple(CycleRow(**row) for row in connection.execute(statement).mappings())

    def newest_attempt(self, model: str, champion: int) -> AttemptRow | None:
        """Return the newest closed cycle whose challenger was to learn in a champion's place; None where there is none.

        However it ended: the champion that still answers, or answers again, did not learn what the challenger learnt.
        What became of the challenger's bundle since does not matter. One that ended before it had learnt counts with
        the labels that were there when it was opened.
        """
        table = schema.version
        until = (table.c.lineage[name].as_integer() for name in ("last_example_id", "labels_until"))
        last, gate = func.coalesce(*until), table.c.metrics[("gate", "accepted")].as_boolean()
        statement = select(
            table.c.version,
            last.label("last_example_id"),
            _CYCLE.c.opened_at,
            _CYCLE.c.outcome,
            gate.label("gate_accepted"),
        )
        statement = statement.join_from(table, _CYCLE, _CYCLE.c.id == table.c.cycle_id)
        statement = statement.where(table.c.model == model, table.c.parent == champion)
        statement = statement.where(_CYCLE.c.closed_at.is_not(None), last.is_not(None))
        with self._read() as connection:
            row = connection.execute(statement.order_by(table.c.version.desc()).limit(1)).mappings().first()
        return None if row is None else AttemptRow(**row)

    def journal(self, cycle_id: int, model: str, step: str, phase: Phase, payload: Any) -> int:
        """Append one side of a step and return its id. Write the intent before the step, the outcome after it.

        Not idempotent: a step done again after a crash has a second intent, and the last outcome counts.
        """
        row = {"cycle_id": cycle_id, "model": model, "step": step, "phase": Phase(phase), "payload": payload}
        with self._write() as connection:
            statement = insert(_ENTRY).values(row | {"at": self._clock()}).returning(_ENTRY.c.id)
            return int(connection.execute(statement).scalar_one())

    def journal_of(self, cycle_id: int) -> tuple[JournalRow, ...]:
        """Return a cycle's journal in the order in which it was written."""
        statement = select(_ENTRY).where(_ENTRY.c.cycle_id == cycle_id).order_by(_ENTRY.c.id)
        with self._read() as connection:
            return tuple(_journal(row) for row in connection.execute(statement).mappings())

    def add_drift_report(self, report: DriftReportRow) -> int:
        """Keep one comparison and return its id. Not idempotent."""
        values = asdict(report) | predictions_named(report.payload)
        del values["id"]
        with self._write() as connection:
            self._lock_model(connection, report.model)
            statement = insert(schema.drift_report).values(values).returning(schema.drift_report.c.id)
            return int(connection.execute(statement).scalar_one())

    def drift_reports(
        self, model: str, limit: int | None = None, *, after_id: int = 0, before_id: int | None = None
    ) -> tuple[DriftReportRow, ...]:
        """Return a model's drift reports after `after_id` and before `before_id`, newest first."""
        table = schema.drift_report
        statement = select(*_REPORT).where(table.c.model == model, table.c.id > after_id)
        if before_id is not None:
            statement = statement.where(table.c.id < before_id)
        statement = statement.order_by(table.c.id.desc()).limit(limit)
        with self._read() as connection:
            return tuple(DriftReportRow(**row) for row in connection.execute(statement).mappings())

    def drift_report(self, model: str, report_id: int) -> DriftReportRow:
        """Return one drift report.

        Raises:
            NotFound: the model has no such report.
        """
        table = schema.drift_report
        with self._read() as connection:
            result = connection.execute(select(*_REPORT).where(table.c.model == model, table.c.id == report_id))
            row = result.mappings().first()
        if row is None:
            raise NotFound(f"{model} has no drift report {report_id}; see `perennial drift watch`")
        return DriftReportRow(**row)

    def place_report(self, report_id: int, path: str) -> None:
        """Note where a drift report's page lies; an empty path says that it could not be made."""
        table = schema.drift_report
        with self._write() as connection:
            connection.execute(update(table).where(table.c.id == report_id).values(path=path))

    def get_state(self, model: str, name: str) -> Any:
        """Return a monitor's state as it was put last, or None."""
        table = schema.model_state
        statement = select(table.c.value).where(table.c.model == model, table.c.name == name)
        with self._read() as connection:
            return connection.scalar(statement)

    def put_state(self, model: str, name: str, value: Any) -> None:
        """Replace a monitor's state. A retry changes nothing; the last writer wins."""
        with self._write() as connection:
            self._lock_model(connection, model)
            row = {"model": model, "name": name, "value": value, "put_at": self._clock()}
            statement = self._insert(schema.model_state).values(row)
            connection.execute(statement.on_conflict_do_update(index_elements=["model", "name"], set_=row))

    def _cycle(self, connection: Connection, cycle_id: int) -> RowMapping:
        statement = select(_CYCLE).where(_CYCLE.c.id == cycle_id).with_for_update(key_share=True)
        row = connection.execute(statement).mappings().first()
        if row is None:
            raise NotFound(f"cycle {cycle_id} is not in the ledger {self.url}")
        return row

    def _open_row(self, connection: Connection, cycle_id: int) -> None:
        row = self._cycle(connection, cycle_id)
        if row["closed_at"] is not None:
            raise Conflict(f"cycle {cycle_id} of {row['model']} was closed as {row['outcome']!r}; open a new one")


def _journal(row: RowMapping) -> JournalRow:
    return JournalRow(**dict(row) | {"phase": Phase(row["phase"])})
