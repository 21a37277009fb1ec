"""The counters made anew from the rows: for a ledger that something else wrote to, which did not count."""

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, union

from perennial.continual.records import Split
from perennial.ops.ledger import schema
from perennial.ops.ledger.learnt import LearntStore, learnt_by
from perennial.ops.ledger.tallies import FEEDBACK, LEARNT, SUPERSEDED, WAITING, counter_of

__all__ = ["RecountStore"]

_TALLY, _FEEDBACK, _EXAMPLE = schema.tally, schema.feedback, schema.example
_OWN, _BASE = schema.learnt, schema.learnt_base


class RecountStore(LearntStore):
    """The part of the ledger that checks its counters."""

    def recount(self, model: str, *, dry_run: bool = False) -> Mapping[str, tuple[int, int]]:
        """Count a model's rows and correct its counters; returns those that were wrong, as told and as counted.

        Reads all rows of the model, and keeps its other writers waiting meanwhile. A retry finds nothing more.
        """
        with self._write() as connection:
            self._lock_model(connection, model)
            told = {
                (row.name, row.part): int(row.rows)
                for row in connection.execute(select(_TALLY).where(_TALLY.c.model == model))
            }
            counted = self._counted(connection, model)
            wrong = {
                f"{name} {part}".strip(): (told.get((name, part), 0), counted.get((name, part), 0))
                for name, part in sorted({*told, *counted})
                if told.get((name, part), 0) != counted.get((name, part), 0)
            }
            if wrong and not dry_run:
                connection.execute(delete(_TALLY).where(_TALLY.c.model == model))
                self._tally(connection, model, counted)
        return wrong

    def _counted(self, connection: Connection, model: str) -> dict[tuple[str, str], int]:
        def count(table: Table, *conditions: ColumnElement[bool]) -> int:
            statement = select(func.count()).select_from(table).where(table.c.model == model, *conditions)
            return int(connection.scalar(statement) or 0)

        pending = _FEEDBACK.c.joined_revision < _FEEDBACK.c.revision
        in_use = _EXAMPLE.c.superseded_at.is_(None)
        counted = {
            (FEEDBACK, ""): count(_FEEDBACK),
            (WAITING, ""): count(_FEEDBACK, pending),
            (SUPERSEDED, ""): count(_EXAMPLE, ~in_use),
        }
        by_target = self._counts_by_target(connection, model)
        kinds = (_EXAMPLE.c.split, _EXAMPLE.c.target) if by_target else (_EXAMPLE.c.split,)
        rows = select(*kinds, func.count()).where(_EXAMPLE.c.model == model, in_use).group_by(*kinds)
        for split, *rest in connection.execute(rows):
            target, many = rest if by_target else ("", rest[0])
            counted[counter_of(split, target, by_target=by_target)] = int(many)
        own = select(_OWN.c.version).join(_EXAMPLE, _EXAMPLE.c.id == _OWN.c.example_id).where(_EXAMPLE.c.model == model)
        for version in connection.scalars(union(own, select(_BASE.c.version).where(_BASE.c.model == model))).all():
            learnt = count(_EXAMPLE, in_use, _EXAMPLE.c.split == Split.TRAIN, learnt_by(model, version))
            counted[LEARNT, str(version)] = learnt
        return counted
