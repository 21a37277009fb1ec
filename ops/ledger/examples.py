"""The labelled examples of a model, each text once, and which version has learnt which of them."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, func, insert, select, update

from perennial.continual.preparation.text import normalise
from perennial.continual.records import Example, Origin, Split
from perennial.ops.ledger import schema
from perennial.ops.ledger.rows import ExamplesReceipt, StoredExample, VersionState, stored_example
from perennial.ops.ledger.store import chunks
from perennial.ops.ledger.tombstones import Tombstones, TombstoneStore

__all__ = ["ExampleStore", "text_hash"]

_TABLE = schema.example
_DISCARDED = (VersionState.FAILED, VersionState.REFUSED)


def text_hash(text: str) -> str:
    """Return the name under which a text is stored once: SHA-256 of its normalised form."""
    return hashlib.sha256(normalise(text).encode()).hexdigest()


class ExampleStore(TombstoneStore):
    """The part of the ledger that keeps labelled examples.

    A changed label is a new row with a new id; the old row stays, superseded, so that what a version learnt can still
    be told. Every reading method gives current rows only.
    """

    def add_examples(
        self, model: str, examples: Sequence[Example], split_by: Callable[[str], Split]
    ) -> ExamplesReceipt:
        """Keep examples, one a normalised text, the newest label winning; on equal times the later row or call.

        All or none. A retry counts them as unchanged. The same label at a later time confirms the example and moves its
        time, so that the order of arrival decides nothing. A time ahead of this ledger's clock counts as now.
        `split_by` is asked once a new text and its answer is kept: a text never moves between the splits. Rows of an
        erased request are left out, and those of an erased key from before its erasure; for a file's rows no time
        proves that they came after it.
        """
        counts = dict.fromkeys(
            ("added", "relabelled", "confirmed", "unchanged", "stale", "contradictions", "erased"), 0
        )
        with self._write() as connection:
            self._lock_model(connection, model)
            now = self._clock()
            examples = [example if example.at <= now else replace(example, at=now) for example in examples]
            erased = self._tombstones(
                connection, model, keys=[e.key for e in examples], predictions=[e.prediction_id for e in examples]
            )
            allowed = [example for example in examples if not _covered(erased, example)]
            counts["erased"], examples = len(examples) - len(allowed), allowed
            hashes = [text_hash(example.text) for example in examples]
            known = self._texts(connection, model, hashes, now)
            added: dict[str, dict[str, Any]] = {}
            ended: list[int] = []
            late: list[dict[str, Any]] = []
            moved: dict[int, datetime] = {}
            for example, digest in zip(examples, hashes, strict=True):
                current = added.get(digest) or known.get(digest)
                split = split_by(example.text) if current is None else current["split"]
                row = _values(model, example, digest, split, now)
                outcome = _outcome(example, current)
                counts[outcome] += 1
                counts["contradictions"] += current is not None and example.label != current["label"]
                if outcome == "confirmed" and current is not None:
                    current["at"] = example.at
                    if digest not in added:
                        moved[current["id"]] = example.at
                elif outcome == "stale":
                    late.append(row | {"superseded_at": now})
                elif outcome in {"added", "relabelled"}:
                    if outcome == "relabelled" and digest in known and digest not in added:
                        ended.append(known[digest]["id"])
                    elif outcome == "relabelled":
                        late.append(added[digest] | {"superseded_at": now})
                    added[digest] = row
            self._move(connection, moved)
            self._replace(connection, ended, now, [*added.values(), *self._unknown(connection, model, late)])
        return ExamplesReceipt(**counts)

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
        """Return current examples by id. Ids grow in order of arrival, a changed label counting as an arrival."""
        statement = _current(select(_TABLE), model, split).order_by(_TABLE.c.id).limit(limit)
        if since_id is not None:
            statement = statement.where(_TABLE.c.id > since_id)
        if label is not None:
            statement = statement.where(_TABLE.c.label == label)
        if not_learnt_by is not None:
            taken = select(schema.learnt.c.example_id).where(schema.learnt.c.example_id == _TABLE.c.id)
            statement = statement.where(~taken.where(schema.learnt.c.version == not_learnt_by).exists())
        with self._read() as connection:
            return tuple(_stored(row) for row in connection.execute(statement).mappings())

    def mark_learnt(self, model: str, ids: Iterable[int], version: int) -> None:
        """Note that a version learnt from these rows. A retry changes nothing; ids erased meanwhile are left out."""
        with self._write() as connection:
            self._lock_model(connection, model)
            for part in chunks(list(ids)):
                present = select(_TABLE.c.id).where(_TABLE.c.model == model, _TABLE.c.id.in_(part))
                rows = [{"example_id": id_, "version": version} for id_ in connection.scalars(present)]
                if rows:
                    connection.execute(self._insert(schema.learnt).on_conflict_do_nothing(), rows)

    def last_example_id(self, model: str) -> int:
        """The newest example's id; 0 without one."""
        with self._read() as connection:
            newest = connection.scalar(select(func.max(_TABLE.c.id)).where(_TABLE.c.model == model))
        return int(newest or 0)

    def label_counts(self, model: str, split: Split | None = None) -> dict[str, int]:
        """Return how many current examples each label has, by label."""
        statement = _current(select(_TABLE.c.label, func.count()), model, split)
        with self._read() as connection:
            rows = connection.execute(statement.group_by(_TABLE.c.label).order_by(_TABLE.c.label)).all()
        return {label: count for label, count in rows}  # noqa: C416  Row is not a tuple to the type checker

    def labels(self, model: str) -> tuple[str, ...]:
        """Return every label that the model has an example of, superseded ones included; one look-up a label."""
        first = select(func.min(_TABLE.c.label).label("label")).where(_TABLE.c.model == model)
        found = first.cte("found", recursive=True)
        after = select(func.min(_TABLE.c.label)).where(_TABLE.c.model == model, _TABLE.c.label > found.c.label)
        found = found.union_all(select(after.scalar_subquery()).where(found.c.label.is_not(None)))
        with self._read() as connection:
            return tuple(connection.scalars(select(found.c.label).where(found.c.label.is_not(None))))

    def unlearnt_count(self, model: str, *, by: int | None = None) -> int:
        """Return how many current training examples `by` has not learnt, or without it: no version that still counts.

        A version that failed or was refused does not count.
        """
        taken = select(schema.learnt.c.example_id).where(schema.learnt.c.example_id == _TABLE.c.id)
        if by is not None:
            taken = taken.where(schema.learnt.c.version == by)
        else:
            lost = select(schema.version.c.version)
            lost = lost.where(schema.version.c.model == model, schema.version.c.state.in_(_DISCARDED))
            taken = taken.where(schema.learnt.c.version.not_in(lost))
        statement = _current(select(func.count()).select_from(_TABLE), model, Split.TRAIN)
        with self._read() as connection:
            return connection.scalar(statement.where(~taken.exists())) or 0

    def contradiction_count(self, model: str) -> int:
        """Return how many labels were overruled by another one for the same text, since the beginning."""
        statement = select(func.count()).select_from(_TABLE)
        statement = statement.where(_TABLE.c.model == model, _TABLE.c.superseded_at.is_not(None))
        with self._read() as connection:
            return connection.scalar(statement) or 0

    def _texts(
        self, connection: Connection, model: str, hashes: Sequence[str], now: datetime
    ) -> dict[str, dict[str, Any]]:
        """The current rows of these texts; a time in the future, kept before times were checked, is that of arrival."""
        found: dict[str, dict[str, Any]] = {}
        for part in chunks(list(dict.fromkeys(hashes))):
            statement = _current(select(_TABLE), model, None).where(_TABLE.c.text_hash.in_(part))
            for row in connection.execute(statement).mappings():
                found[row["text_hash"]] = dict(row) | {"at": row["at"] if row["at"] <= now else row["added_at"]}
        return found

    def _move(self, connection: Connection, times: Mapping[int, datetime]) -> None:
        """Give confirmed rows the time at which their label was last given."""
        statement = update(_TABLE).where(_TABLE.c.id == bindparam("moved_id")).values(at=bindparam("moved_at"))
        for part in chunks([{"moved_id": id_, "moved_at": at} for id_, at in times.items()]):
            connection.execute(statement, list(part))

    def _unknown(self, connection: Connection, model: str, late: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave out overruled rows that are stored already, so that a retry does not store them again."""
        table, stored = _TABLE, set()
        for part in chunks([row["text_hash"] for row in late]):
            statement = select(table.c.text_hash, table.c.label, table.c.at)
            statement = statement.where(table.c.model == model, table.c.text_hash.in_(part))
            stored |= {tuple(row) for row in connection.execute(statement)}
        return [row for row in late if (row["text_hash"], row["label"], row["at"]) not in stored]

    def _replace(self, connection: Connection, ended: list[int], now: datetime, rows: list[dict[str, Any]]) -> None:
        for part in chunks(ended):
            connection.execute(update(_TABLE).where(_TABLE.c.id.in_(part)).values(superseded_at=now))
        for new in chunks(rows):
            connection.execute(insert(_TABLE), list(new))


def _current(statement: Select[Any], model: str, split: Split | None) -> Select[Any]:
    statement = statement.where(_TABLE.c.model == model, _TABLE.c.superseded_at.is_(None))
    return statement if split is None else statement.where(_TABLE.c.split == split)


def _covered(erased: Tombstones, example: Example) -> bool:
    """A file holds rows of any age: the times in it, or the time at which it is read, prove nothing."""
    dated = example.prediction_id is not None or example.origin not in {Origin.SEED, Origin.IMPORT}
    return erased.cover(key=example.key, prediction_id=example.prediction_id, at=example.at, dated=dated)


def _outcome(example: Example, current: dict[str, Any] | None) -> str:
    if current is None:
        return "added"
    if example.at < current["at"]:
        return "stale" if example.label != current["label"] else "unchanged"
    if example.label != current["label"]:
        return "relabelled"
    return "confirmed" if example.at > current["at"] else "unchanged"


def _values(model: str, example: Example, digest: str, split: Split, now: datetime) -> dict[str, Any]:
    return {
        "model": model,
        "text": example.text,
        "text_hash": digest,
        "label": example.label,
        "at": example.at,
        "origin": example.origin,
        "key": example.key,
        "prediction_id": example.prediction_id,
        "redacted": example.redacted,
        "split": split,
        "added_at": now,
        "superseded_at": None,
    }


def _stored(row: RowMapping) -> StoredExample:
    return StoredExample(id=row["id"], example=stored_example(row), split=Split(row["split"]))
