"""A person's rows leave the ledger, and do not come back."""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from sqlite3 import Error as SqliteError
from typing import Any

from sqlalchemy import JSON, Connection, Select, String, Text, cast, delete, func, or_, select, text, update

from perennial.continual.errors import LeaseLost, Refused
from perennial.continual.records import Split
from perennial.continual.tasks import DEFAULT_TASK, learns_labels
from perennial.ops.ledger import schema
from perennial.ops.ledger.audit import AuditStore
from perennial.ops.ledger.learnt import LearntStore
from perennial.ops.ledger.leftovers import Holds, Leftover, leftovers, overwrite
from perennial.ops.ledger.rows import SERVING_STATES, ErasureReceipt, kept_row, predictions_named
from perennial.ops.ledger.store import chunks
from perennial.ops.ledger.tallies import FEEDBACK, SUPERSEDED, WAITING, counter_of
from perennial.ops.ledger.tombstones import EVERY_MODEL, TombstoneStore, key_digest
from perennial.ops.prediction_ids import ID_DIGITS

__all__ = ["ErasureStore"]

logger = logging.getLogger(__name__)
_MARK = schema.erasure
_FREE_TEXT = frozenset({"detail", "note", "outcome", "error"})
_OF_TASK = frozenset({"input", "target"})
_ROUNDS = 3  # somebody may change a page while it is looked at
_PAGES_AT_ONCE = 50


class ErasureStore(AuditStore, LearntStore, TombstoneStore):
    """The part of the ledger that removes a person's rows.

    An erasure and a cycle of the same model exclude each other: each begins in a transaction that looks for the other.
    A cycle whose challenger is the champion by now, on probation or promoted, hinders none. An erasure corrects the
    champion and removes every other version that holds the rows, and nothing is being learnt.
    """

    def begin_erasure(self, model: str, key: str, *, every_model: bool = False) -> tuple[str, datetime]:
        """Refuse the key's rows from now on, keep cycles out, and return a token and the time of the erasure.

        With `every_model` the key is refused in all models, also in those that come later. `renew_erasure` must be
        called at least every five minutes, or the erasure counts as killed; another one may then begin.

        Raises:
            Refused: a cycle of the model, probation aside, or another erasure is under way.
        """
        with self._write() as connection:
            self._lock_model(connection, model)
            if (cycle := connection.execute(_learning(model)).first()) is not None:
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
            mine = update(_MARK).where(_MARK.c.model == model, _MARK.c.token == token)
            if (
                connection.execute(_learning(model)).first() is not None
                or not connection.execute(mine.values(seen_at=self._clock())).rowcount
            ):
                raise LeaseLost(f"the erasure in {model} was taken for dead; nothing more was removed: erase again")

    def end_erasure(self, model: str, token: str) -> None:
        """Let cycles in again. A retry changes nothing."""
        with self._write() as connection:
            connection.execute(delete(_MARK).where(_MARK.c.model == model, _MARK.c.token == token))
            connection.execute(delete(schema.answer))  # also those that were kept while it was under way

    def erasure_under_way(self, model: str) -> datetime | None:
        """When the erasure began that is under way in the model; None when none is."""
        with self._read() as connection:
            return self._erasure_at(connection, model)

    def predictions_of_key(self, model: str, key: str) -> frozenset[str]:
        """The predictions for which the key gave labels, or that its examples were."""
        with self._read() as connection:
            return frozenset(self._predictions_of(connection, model, key))

    def keys_holding(self, model: str, pieces: Collection[str]) -> frozenset[str]:
        """Every key of the model's rows that holds one of these inside; the database may overlook case."""
        keys_found: set[str] = set()
        with self._read() as connection:
            for table in (schema.feedback, schema.example, schema.buffer_row):
                holds = or_(*(table.c.key.contains(piece, autoescape=True) for piece in pieces))
                keys = select(table.c.key).where(table.c.model == model, holds).distinct()
                keys_found |= {str(key) for key in connection.scalars(keys)}
        return frozenset(keys_found)

    def key_digest(self, key: str) -> str:
        """How a key is named in the audit log: a digest that covers a secret of this ledger."""
        with self._read() as connection:
            return key_digest(self._salt(connection), key)

    def rows_of_key(
        self, model: str, key: str, *, prediction_ids: Collection[str] = ()
    ) -> tuple[tuple[Any, ...], ErasureReceipt]:
        """Return the examples that `erase_key` would remove, superseded ones included, and its receipt; read only."""
        with self._read() as connection:
            ids = set(prediction_ids) | self._predictions_of(connection, model, key)
            lost = self._rows_of(connection, schema.example, model, key, ids)
            receipt = ErasureReceipt(
                feedback=len(self._rows_of(connection, schema.feedback, model, key, ids)),
                versions=self._learners(connection, model, lost),
                buffer_rows=self._count(connection, schema.buffer_row, model, key, ids),
                examples=len(lost),
            )
            task, rows = self._task(connection, model), list[Any]()
            for part in chunks(lost):
                statement = select(schema.example).where(schema.example.c.id.in_(part)).order_by(schema.example.c.id)
                rows += [task.read_kept(kept_row(row)) for row in connection.execute(statement).mappings()]
        return tuple(rows), receipt

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
                feedback=self._delete_feedback(connection, model, key, ids),
                versions=self._learners(connection, model, lost),
                buffer_rows=self._delete(connection, schema.buffer_row, model, key, ids),
                examples=self._delete_examples(connection, model, lost),
            )
            for part in chunks(sorted(ids)):
                past = schema.feedback_history
                connection.execute(delete(past).where(past.c.model == model, past.c.prediction_id.in_(part)))
            self._scrub(connection, model, ids)
            connection.execute(delete(schema.answer))  # kept for those who ask again, and any may quote a person
            self._bury(connection, model, erased_at or self._clock(), key=key, predictions=ids)
            detail: dict[str, Any] = {"key_digest": key_digest(self._salt(connection), key)}
            detail |= {"feedback": receipt.feedback}
            detail |= {"examples": receipt.examples, "buffer_rows": receipt.buffer_rows}
            detail["versions"] = list(receipt.versions)
            self._append_audit(connection, actor=actor, action="erase", model=model, detail=detail)
        self.flush_deletions()
        return receipt

    def texts_of_others(self, model: str, keys: Collection[str], prediction_ids: Collection[str]) -> Iterator[str]:
        """Give every input of examples and buffer, as kept, whose row carries none of these keys and predictions."""
        for table in (schema.example, schema.buffer_row):
            statement = select(table.c.input, table.c.key, table.c.prediction_id).where(table.c.model == model)
            for kept, key, prediction_id in self._rows(statement):
                if key not in keys and prediction_id not in prediction_ids:
                    yield kept

    def cells(self, values: Collection[str]) -> Iterator[tuple[str, str]]:
        """Give each cell of the database that is one of the values, and each that may hold one inside, with its place.

        The second kind are JSON and free text, and rows whose task keeps more than a text: every such cell is given. A
        place is `table.column`.
        """
        structured = self._structured_models()
        for table in schema.metadata.sorted_tables:
            for column in table.columns:
                place = f"{table.name}.{column.name}"
                if isinstance(column.type, JSON) or column.name in _FREE_TEXT:
                    for (cell,) in self._rows(select(cast(column, Text)).where(column.is_not(None))):
                        yield place, str(cell)
                elif isinstance(column.type, String):
                    for part in chunks(sorted(values)):
                        for (cell,) in self._rows(select(column).where(column.in_(part)).distinct()):
                            yield place, str(cell)
                    if structured and column.name in _OF_TASK:
                        for (cell,) in self._rows(select(column).where(table.c.model.in_(structured))):
                            yield place, str(cell)

    def _structured_models(self) -> list[str]:
        """The models whose rows are no plain texts."""
        statement = select(schema.model.c.name, schema.model.c.settings)
        return [
            name for name, settings in self._rows(statement) if not learns_labels(settings.get("task", DEFAULT_TASK))
        ]

    def _rows(self, statement: Select[Any]) -> Iterator[Any]:
        with self._read() as connection:
            yield from connection.execution_options(stream_results=True, yield_per=1_000).execute(statement)

    def _scrub(self, connection: Connection, model: str, ids: Collection[str]) -> None:
        """Take prediction ids out of the cursors of the watch and its reports, and out of the label queue."""
        state, report = schema.model_state, schema.drift_report
        kept = select(state.c.name, state.c.value).where(state.c.model == model)
        for name, value in connection.execute(kept).all():
            if (without := _without_ids(value, ids)) != value:
                place = (state.c.model == model) & (state.c.name == name)
                connection.execute(update(state).where(place).values(value=without))
        for part in chunks(sorted(ids)):
            named = select(report.c.id, report.c.model, report.c.payload)  # by its model all reports would be read
            named = named.where(or_(report.c.after_id.in_(part), report.c.counting_id.in_(part)))
            for number, of, payload in connection.execute(named).all():
                if of != model:
                    continue
                without = _without_ids(payload, ids)
                values = {"payload": without, **predictions_named(without)}
                connection.execute(update(report).where(report.c.id == number).values(values))

    def flush_deletions(self, *, patience_s: float = 5.0) -> bool:
        """Have what was deleted leave SQLite's files, too; False where readers held on to it for all of `patience_s`.

        Deleted bytes are overwritten in the write-ahead log first, and in the database once no reader needs the old
        pages. On PostgreSQL that is the server's affair: vacuum.
        """
        if self._engine.dialect.name != "sqlite":
            return True
        end = time.monotonic() + patience_s
        connection = self._engine.raw_connection()  # a checkpoint cannot run inside a transaction
        try:
            while True:
                busy, _, _ = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy or time.monotonic() > end:
                    return not busy
                time.sleep(0.05)
        finally:
            connection.close()

    def leave_no_copies(self, holds: Holds) -> bool:
        """Overwrite what SQLite copied of deleted rows, then flush; False where somebody held on to the file.

        Only pages in whose free space `holds` finds something are touched, a few in each transaction, so that writers
        wait as long as one index takes: about a second for a million rows. What cannot be overwritten so has SQLite
        write the whole file anew, for which writers wait; a line of the log says so.
        """
        if self._engine.dialect.name != "sqlite":
            return True
        path, among = Path(str(self._engine.url.database)), list[int]()
        for _ in range(_ROUNDS):
            if not self.flush_deletions():
                return False
            found = self._leftovers(path, holds, among)
            if not found:
                return True
            among = [each.page for each in found]
            if not self._overwrite(path, found):
                break
        return self._write_anew()

    def _leftovers(self, path: Path, holds: Holds, among: Sequence[int]) -> list[Leftover]:
        roots = text("SELECT type, name, tbl_name, rootpage FROM sqlite_schema WHERE rootpage > 0")
        with self._read() as connection:  # while it reads, what others write stays in the write-ahead log
            trees = [tuple(row) for row in connection.execute(roots)]
            return leftovers(path, holds, trees, among)

    def _overwrite(self, path: Path, found: Sequence[Leftover]) -> bool:
        """Each index in a transaction of its own, pages of tables a few at once; False where nothing here can."""
        done = True
        for each in {each.index: each for each in found if each.index is not None}.values():
            with self._write() as connection:
                done &= overwrite(connection, path, each)
        for some in chunks([each for each in found if each.index is None and each.table is not None], _PAGES_AT_ONCE):
            with self._write() as connection:
                for each in some:
                    done &= overwrite(connection, path, each)
        return done

    def _write_anew(self) -> bool:
        logger.warning(
            "erasure.written_anew", extra={"reason": "copies of rows stand where only a new file leaves none"}
        )
        connection = self._engine.raw_connection()  # a file cannot be rewritten inside a transaction
        try:
            connection.cursor().execute("VACUUM")
        except SqliteError as error:
            logger.warning("erasure.not_rewritten", extra={"reason": str(error)})
            return False
        finally:
            connection.close()
        return self.flush_deletions()

    def _predictions_of(self, connection: Connection, model: str, key: str) -> set[str]:
        table = schema.feedback
        return set(connection.scalars(select(table.c.prediction_id).where(table.c.model == model, table.c.key == key)))

    def _rows_of(self, connection: Connection, table: Any, model: str, key: str, ids: Collection[str]) -> list[int]:
        row_ids = set(connection.scalars(select(table.c.id).where(table.c.model == model, table.c.key == key)))
        for part in chunks(sorted(ids)):
            row_ids |= set(
                connection.scalars(select(table.c.id).where(table.c.model == model, table.c.prediction_id.in_(part)))
            )
        return sorted(row_ids)

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

    def _delete_feedback(self, connection: Connection, model: str, key: str, ids: Collection[str]) -> int:
        table = schema.feedback
        waiting = select(table.c.id).where(table.c.model == model, table.c.joined_revision < table.c.revision)
        waited = set(connection.scalars(waiting.where(table.c.key == key)))
        for part in chunks(sorted(ids)):
            waited |= set(connection.scalars(waiting.where(table.c.prediction_id.in_(part))))
        gone = self._delete(connection, table, model, key, ids)
        self._tally(connection, model, {(FEEDBACK, ""): -gone, (WAITING, ""): -len(waited)})
        return gone

    def _delete_examples(self, connection: Connection, model: str, ids: list[int]) -> int:
        table, counted, in_use = schema.example, Counter[tuple[str, str]](), list[int]()
        by_target = self._counts_by_target(connection, model)
        for part in chunks(ids):
            named = select(table.c.id, table.c.split, table.c.target, table.c.superseded_at).where(table.c.id.in_(part))
            for row in connection.execute(named):
                over = row.superseded_at is not None
                counted[(SUPERSEDED, "") if over else counter_of(row.split, row.target, by_target=by_target)] -= 1
                in_use += [row.id] if not over and row.split == Split.TRAIN else []
        self._end_learnt(connection, model, in_use)
        self._tally(connection, model, counted)
        for part in chunks(ids):
            connection.execute(delete(table).where(table.c.id.in_(part)))
        return len(ids)


def _learning(model: str) -> Select[Any]:
    """The cycle that may have learnt what is to be erased, in a version that no erasure corrects."""
    cycle = schema.cycle.c
    under_way = (cycle.model == model) & cycle.closed_at.is_(None)
    return select(cycle.id, cycle.state).where(under_way, cycle.state.not_in(SERVING_STATES))


def _without_ids(value: Any, ids: Collection[str]) -> Any:
    """A JSON value without prediction ids: entries of lists that name one go, a cursor keeps the time in its id."""
    if isinstance(value, dict):
        return {name: _without_ids(inner, ids) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_ids(inner, ids) for inner in value if not _names_one(inner, ids)]
    return value[:ID_DIGITS] if isinstance(value, str) and value in ids else value


def _names_one(entry: Any, ids: Collection[str]) -> bool:
    if isinstance(entry, dict):
        return any(isinstance(inner, str) and inner in ids for inner in entry.values())
    return isinstance(entry, str) and entry in ids
