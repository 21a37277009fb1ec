"""A person's rows leave the ledger, and do not come back."""

import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, or_, select, update

from continual.errors import LeaseLost, Refused
from continual.records import Example
from ops.ledger import schema
from ops.ledger.audit import AuditStore
from ops.ledger.rows import ErasureReceipt, stored_example
from ops.ledger.store import chunks
from ops.ledger.tombstones import EVERY_MODEL, TombstoneStore, key_digest

__all__ = ["ErasureStore"]

_MARK = schema.erasure


class ErasureStore(AuditStore, TombstoneStore):
    """The part of the ledger that removes a person's rows.

    An erasure and a cycle of the same model exclude each other: each begins in a transaction that looks for the other.
    """

    def begin_erasure(self, model: str, key: str, *, every_model: bool = False) -> tuple[str, datetime]:
        """Refuse the key's rows from now on, keep cycles out, and return a token and the time of the erasure.

        With `every_model` the key is refused in all models, also in those that come later. `renew_erasure` must be
        called at least every five minutes, or the erasure counts as killed; another one may then begin.

        Raises:
            Refused: a cycle of the model, or another erasure, is under way.
        """
        with self._write() as connection:
            self._lock_model(connection, model)
            active = select(schema.cycle.c.id, schema.cycle.c.state)
            active = active.where(schema.cycle.c.model == model, schema.cycle.c.closed_at.is_(None))
            if (cycle := connection.execute(active).first()) is not None:
                raise Refused(
                    f"model {model} has cycle {cycle.id} under way ({cycle.state}), whose challenger may have learnt "
                    f"this person's rows; wait for its end or abort it (POST /v1/models/{model}/commands/abort), then "
                    "erase again"
                )
            if (begun := self._erasure_at(connection, model)) is not None:
                raise Refused(
                    f"an erasure in {model} is under way since {begun:%H:%M:%S} UTC; wait for its end, then erase again"
                )
            now, token = self._clock(), secrets.token_hex(8)
            row = {"model": model, "token": token, "begun_at": now, "seen_at": now}
            statement = self._insert(_MARK).values(row)
            connection.execute(statement.on_conflict_do_update(index_elements=["model"], set_=row))
            self._bury(connection, EVERY_MODEL if every_model else model, now, key=key)
        return token, now

    def renew_erasure(self, model: str, token: str) -> None:
        """Show that the erasure still runs.

        Raises:
            LeaseLost: it gave no sign for too long, and a cycle or another erasure began meanwhile.
        """
        with self._write() as connection:
            self._lock_model(connection, model)
            active = select(schema.cycle.c.id).where(schema.cycle.c.model == model, schema.cycle.c.closed_at.is_(None))
            mine = update(_MARK).where(_MARK.c.model == model, _MARK.c.token == token)
            if (
                connection.scalar(active) is not None
                or not connection.execute(mine.values(seen_at=self._clock())).rowcount
            ):
                raise LeaseLost(f"the erasure in {model} was taken for dead; nothing more was removed: erase again")

    def end_erasure(self, model: str, token: str) -> None:
        """Let cycles in again. A retry changes nothing."""
        with self._write() as connection:
            connection.execute(delete(_MARK).where(_MARK.c.model == model, _MARK.c.token == token))

    def erasure_under_way(self, model: str) -> datetime | None:
        """When the erasure began that is under way in the model; None when none is."""
        with self._read() as connection:
            return self._erasure_at(connection, model)

    def key_digest(self, key: str) -> str:
        """How a key is named in the audit log: a digest that covers a secret of this ledger."""
        with self._read() as connection:
            return key_digest(self._salt(connection), key)

    def rows_of_key(
        self, model: str, key: str, *, prediction_ids: Collection[str] = ()
    ) -> tuple[tuple[Example, ...], ErasureReceipt]:
        """Return the examples that `erase_key` would remove, superseded ones included, and its receipt; read only."""
        with self._read() as connection:
            ids = set(prediction_ids) | self._predictions_of(connection, model, key)
            lost = self._rows_of(connection, schema.example, model, key, ids)
            receipt = ErasureReceipt(
                feedback=len(self._rows_of(connection, schema.feedback, model, key, ids)),
                versions=self._learners(connection, lost),
                buffer_rows=self._count(connection, schema.buffer_row, model, key, ids),
                examples=len(lost),
            )
            found: list[Example] = []
            for part in chunks(lost):
                statement = select(schema.example).where(schema.example.c.id.in_(part)).order_by(schema.example.c.id)
                found += [stored_example(row) for row in connection.execute(statement).mappings()]
        return tuple(found), receipt

    def erase_key(
        self,
        model: str,
        key: str,
        *,
        prediction_ids: Collection[str] = (),
        actor: str = "operator",
        erased_at: datetime | None = None,
    ) -> ErasureReceipt:
        """Remove a person's feedback, examples and buffer rows, and name the versions that had learnt from them.

        `prediction_ids` are the person's answers in the traffic log, which may carry a key that the labels lack.
        `erased_at` is what `begin_erasure` told, else the present. The
        audit entry holds a digest of the key, not the key. The key's rows from before, and these predictions, are
        refused from now on. A retry finds nothing more. On SQLite the freed bytes are
        overwritten and the write-ahead log is emptied once no reader needs it. Backups, and texts that a caller put
        into journal or report payloads, are not touched.
        """
        with self._write() as connection:
            self._lock_model(connection, model)
            ids = set(prediction_ids) | self._predictions_of(connection, model, key)
            lost = self._rows_of(connection, schema.example, model, key, ids)
            receipt = ErasureReceipt(
                feedback=self._delete(connection, schema.feedback, model, key, ids),
                versions=self._learners(connection, lost),
                buffer_rows=self._delete(connection, schema.buffer_row, model, key, ids),
                examples=self._delete_examples(connection, lost),
            )
            for part in chunks(sorted(ids)):
                past = schema.feedback_history
                connection.execute(delete(past).where(past.c.model == model, past.c.prediction_id.in_(part)))
            self._bury(connection, model, erased_at or self._clock(), key=key, predictions=ids)
            detail: dict[str, Any] = {"key_digest": key_digest(self._salt(connection), key)}
            detail |= {"feedback": receipt.feedback}
            detail |= {"examples": receipt.examples, "buffer_rows": receipt.buffer_rows}
            detail["versions"] = list(receipt.versions)
            self._append_audit(connection, actor=actor, action="erase", model=model, detail=detail)
        self._empty_log()
        return receipt

    def _empty_log(self) -> None:
        if self._engine.dialect.name != "sqlite":
            return
        connection = self._engine.raw_connection()  # a checkpoint cannot run inside a transaction
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()

    def _predictions_of(self, connection: Connection, model: str, key: str) -> set[str]:
        table = schema.feedback
        return set(connection.scalars(select(table.c.prediction_id).where(table.c.model == model, table.c.key == key)))

    def _rows_of(self, connection: Connection, table: Any, model: str, key: str, ids: Collection[str]) -> list[int]:
        found = set(connection.scalars(select(table.c.id).where(table.c.model == model, table.c.key == key)))
        for part in chunks(sorted(ids)):
            found |= set(
                connection.scalars(select(table.c.id).where(table.c.model == model, table.c.prediction_id.in_(part)))
            )
        return sorted(found)

    def _learners(self, connection: Connection, example_ids: list[int]) -> tuple[int, ...]:
        found: set[int] = set()
        for part in chunks(example_ids):
            found |= set(
                connection.scalars(select(schema.learnt.c.version).where(schema.learnt.c.example_id.in_(part)))
            )
        return tuple(sorted(found))

    def _delete(self, connection: Connection, table: Any, model: str, key: str, ids: Collection[str]) -> int:
        gone = connection.execute(delete(table).where(table.c.model == model, table.c.key == key)).rowcount
        for part in chunks(sorted(ids)):
            named = delete(table).where(table.c.model == model, table.c.prediction_id.in_(part))
            gone += connection.execute(named).rowcount
        return gone

    def _count(self, connection: Connection, table: Any, model: str, key: str, ids: Collection[str]) -> int:
        named = select(func.count()).select_from(table).where(table.c.model == model)
        count = connection.scalar(named.where(table.c.key == key)) or 0
        for part in chunks(sorted(ids)):
            other = or_(table.c.key.is_(None), table.c.key != key)
            count += connection.scalar(named.where(table.c.prediction_id.in_(part), other)) or 0
        return count

    def _delete_examples(self, connection: Connection, ids: list[int]) -> int:
        for part in chunks(ids):
            connection.execute(delete(schema.example).where(schema.example.c.id.in_(part)))
        return len(ids)
