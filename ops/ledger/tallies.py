"""Counters beside the tables that grow: each write counts with it, so that nobody has to count the rows."""

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from perennial.continual.tasks import DEFAULT_TASK, learns_labels
from perennial.ops.ledger import schema
from perennial.ops.ledger.store import Store, chunks

__all__ = ["FEEDBACK", "LEARNT", "SUPERSEDED", "WAITING", "Counts", "TallyStore", "counter_of"]

FEEDBACK, WAITING = "feedback", "waiting"  # labels of predictions; those of them whose prediction was not found yet
SUPERSEDED = "superseded"  # examples that were overruled; those in use are counted under the name of their split
LEARNT = "learnt"  # training examples in use that a version has learnt, by its number
_TABLE = schema.tally

Counts = Mapping[tuple[str, str], int]  # by name and part


class TallyStore(Store):
    """Base of the parts that count what they keep. All of it happens under the model's lock."""

    def _tally(self, connection: Connection, model: str, counts: Counts) -> None:
        """Add to the counters."""
        rows = [
            {"model": model, "name": name, "part": part, "rows": rows} for (name, part), rows in counts.items() if rows
        ]
        statement = self._insert(_TABLE)
        statement = statement.on_conflict_do_update(
            index_elements=["model", "name", "part"], set_={"rows": _TABLE.c.rows + statement.excluded.rows}
        )
        for some in chunks(rows):
            connection.execute(statement, list(some))

    def _tallied(self, connection: Connection, model: str, name: str, part: str | None = None) -> int:
        """What a counter tells; without `part` all of its parts together."""
        statement = select(func.sum(_TABLE.c.rows)).where(_TABLE.c.model == model, _TABLE.c.name == name)
        if part is not None:
            statement = statement.where(_TABLE.c.part == part)
        return int(connection.scalar(statement) or 0)

    def _counts_by_target(self, connection: Connection, model: str) -> bool:
        """Whether examples are counted by their target: labels are few, and a ranking's lists are not."""
        settings = connection.scalar(select(schema.model.c.settings).where(schema.model.c.name == model)) or {}
        return learns_labels(settings.get("task", DEFAULT_TASK))


def counter_of(split: str, target: str, *, by_target: bool) -> tuple[str, str]:
    """Which counter an example in use is in."""
    return split, target if by_target else ""
