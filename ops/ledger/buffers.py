"""The replay buffer's place of record: rows, counters and random state in one transaction."""

import hashlib
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, func, select

from perennial.ops.ledger import schema
from perennial.ops.ledger.audit import canonical
from perennial.ops.ledger.rows import kept_row
from perennial.ops.ledger.store import chunks
from perennial.ops.ledger.tombstones import TombstoneStore

if TYPE_CHECKING:  # its package imports numpy, which a command that prints help need not wait for
    from perennial.continual.replay.port import BufferState

__all__ = ["BufferStore"]

_ROW = schema.buffer_row


class BufferStore(TombstoneStore):
    """The part of the ledger that keeps replay buffers."""

    def save_buffer(self, model: str, state: "BufferState[Any]") -> int:
        """Replace a model's buffer whole and return how many rows had to be written.

        Either everything of `state` is kept or nothing. Only places whose row changed are written, so that a save
        after a few offers costs a few rows. A retry writes nothing. The buffer's one owner is its only writer. Rows
        that were erased since `state` was loaded are left out.
        """
        with self._write() as connection:
            self._lock_model(connection, model)
            state = self._without_erased(connection, model, state)
            head = _head(model, state) | {"saved_at": self._clock()}
            statement = self._insert(schema.buffer).values(head)
            connection.execute(statement.on_conflict_do_update(index_elements=["model"], set_=head))
            return self._save_rows(connection, model, state)

    def load_buffer(self, model: str) -> "BufferState[Any] | None":
        """Return the buffer as it was saved last, without rows erased since; None before the first save."""
        from perennial.continual.replay.port import BufferKind, BufferState

        with self._read() as connection:
            head = connection.execute(select(schema.buffer).where(schema.buffer.c.model == model)).mappings().first()
            if head is None:
                return None
            task = self._task(connection, model)
            statement = select(_ROW).where(_ROW.c.model == model).order_by(_ROW.c.position)
            rows = connection.execute(statement).mappings().all()
        has_extras = bool(rows) and all(row["extra"] is not None for row in rows)
        return BufferState(
            kind=BufferKind(head["kind"]),
            capacity=head["capacity"],
            byte_budget=head["byte_budget"],
            seen=head["seen"],
            counters=head["counters"],
            rng=head["rng"],
            rows=tuple(task.read_kept(kept_row(row)) for row in rows),
            extras=tuple(row["extra"]["value"] for row in rows) if has_extras else (),
        )

    def buffered_count(self, model: str) -> int:
        """Return how many rows a model's buffer holds."""
        with self._read() as connection:
            counted = select(func.count()).select_from(_ROW).where(_ROW.c.model == model)
            return connection.scalar(counted) or 0

    def _without_erased(self, connection: Connection, model: str, state: "BufferState[Any]") -> "BufferState[Any]":
        erased = self._tombstones(
            connection, model, keys=[r.key for r in state.rows], predictions=[r.prediction_id for r in state.rows]
        )
        places = [
            place
            for place, row in enumerate(state.rows)
            if not erased.cover(key=row.key, prediction_id=row.prediction_id, at=row.at)
        ]
        if len(places) == len(state.rows):
            return state
        extras = tuple(state.extras[place] for place in places) if state.extras else ()
        return replace(state, rows=tuple(state.rows[place] for place in places), extras=extras)

    def _save_rows(self, connection: Connection, model: str, state: "BufferState[Any]") -> int:
        statement = select(_ROW.c.position, _ROW.c.digest).where(_ROW.c.model == model)
        stored: dict[int, str] = {row.position: row.digest for row in connection.execute(statement)}
        task = self._task(connection, model)
        extras = state.extras or (None,) * len(state.rows)
        changed = []
        for position, (example, extra) in enumerate(zip(state.rows, extras, strict=True)):
            values = asdict(task.keep(example)) | {"extra": {"value": extra} if state.extras else None}
            del values["attributes"]  # what is learnt from need not say whose it is
            digest = hashlib.sha256(canonical(values).encode()).hexdigest()
            if stored.get(position) != digest:
                changed.append(values | {"model": model, "position": position, "digest": digest})
        gone = [position for position in stored if position >= len(state.rows)]
        gone += [row["position"] for row in changed if row["position"] in stored]
        for part in chunks(gone):
            connection.execute(delete(_ROW).where(_ROW.c.model == model, _ROW.c.position.in_(part)))
        for rows in chunks(changed):
            connection.execute(_ROW.insert(), list(rows))
        return len(changed)


def _head(model: str, state: "BufferState[Any]") -> dict[str, Any]:
    return {
        "model": model,
        "kind": state.kind,
        "capacity": state.capacity,
        "byte_budget": state.byte_budget,
        "seen": state.seen,
        "counters": state.counters,
        "rng": state.rng,
    }
