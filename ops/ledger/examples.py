"""The labelled examples of a model, each input once, and which version has learnt which of them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, func, insert, select, update

from perennial.continual.records import Origin, Split
from perennial.continual.task import AnyRow, AnyTask, KeptRow
from perennial.ops.ledger import schema
from perennial.ops.ledger.learnt import LearntStore, learnt_by
from perennial.ops.ledger.rows import ExamplesReceipt, StoredExample, kept_row
from perennial.ops.ledger.store import chunks
from perennial.ops.ledger.tallies import SUPERSEDED, counter_of
from perennial.ops.ledger.tombstones import Tombstones, TombstoneStore

__all__ = ["ExampleStore"]

_TABLE = schema.example


class ExampleStore(LearntStore, TombstoneStore):
    """The part of the ledger that keeps labelled examples.

    A changed label is a new row with a new id; the old row stays, superseded, so that what a version learnt can still
    be told. Every reading method gives current rows only.
    """

    def add_examples(self, model: str, examples: Sequence[AnyRow], split_by: Callable[[Any], Split]) -> ExamplesReceipt:
        """Keep examples, one an input, the newest target winning; on equal times the later row or call.

        All or none. A retry counts them as unchanged. The model's task tells which inputs are one, and whether their
        targets add up: then none takes the place of another, and the order does not matter. The same target at a
        later time confirms the example and moves its time, so that the order of arrival decides nothing. A time ahead
        of this ledger's clock counts as now. `split_by` is asked once a new input and its answer is kept: an input
        never moves between the splits. Rows of an erased request are left out, and those of an erased key from before
        its erasure; for a file's rows no time proves that they came after it.
        """
        counts = dict.fromkeys(
            ("added", "relabelled", "confirmed", "unchanged", "stale", "contradictions", "erased"), 0
        )
        with self._write() as connection:
            self._lock_model(connection, model)
            now = self._clock()
            erased = self._tombstones(
                connection, model, keys=[e.key for e in examples], predictions=[e.prediction_id for e in examples]
            )
            task = self._task(connection, model)
            allowed = [example for example in examples if not _covered(erased, example, now)]
            counts["erased"] = len(examples) - len(allowed)
            hashes = [_input_hash(task, example) for example in allowed]
            known = self._inputs(connection, model, hashes, now)
            added: dict[str, dict[str, Any]] = {}
            ended: list[dict[str, Any]] = []
            late: list[dict[str, Any]] = []
            moved: dict[int, datetime] = {}
            said: dict[int, dict[str, str]] = {}
            for example, digest in zip(allowed, hashes, strict=True):
                current = added.get(digest) or known.get(digest)
                split = split_by(example.input) if current is None else current["split"]
                kept = _joined(task, _kept(task, example, now), current)
                kept = _with_attributes(kept, current)
                row = _values(model, kept, digest, split, now)
                outcome = _outcome(kept, current)
                counts[outcome] += 1
                counts["contradictions"] += _contradicts(task, kept, current)
                if current is not None and _says_more(kept, current):
                    current["attributes"] = row["attributes"]
                    if digest not in added:
                        said[current["id"]] = row["attributes"]
                if outcome == "confirmed" and current is not None:
                    current["at"] = kept.at
                    if digest not in added:
                        moved[current["id"]] = kept.at
                elif outcome == "stale":
                    late.append(row | {"superseded_at": now})
                elif outcome in {"added", "relabelled"}:
                    if outcome == "relabelled" and digest in known and digest not in added:
                        ended.append(known[digest])
                    elif outcome == "relabelled":
                        late.append(added[digest] | {"superseded_at": now})
                    added[digest] = row
            late = self._unknown(connection, model, late)
            self._move(connection, moved)
            self._say(connection, said)
            self._replace(connection, [row["id"] for row in ended], now, [*added.values(), *late])
            by_target = self._counts_by_target(connection, model)
            counted = Counter(counter_of(row["split"], row["target"], by_target=by_target) for row in added.values())
            counted.subtract(counter_of(row["split"], row["target"], by_target=by_target) for row in ended)
            counted[SUPERSEDED, ""] += len(ended) + len(late)
            self._tally(connection, model, counted)
            self._end_learnt(connection, model, [row["id"] for row in ended if row["split"] == Split.TRAIN])
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
            statement = statement.where(_TABLE.c.target == label)
        if not_learnt_by is not None:
            statement = statement.where(~learnt_by(model, not_learnt_by))
        with self._read() as connection:
            task = self._task(connection, model)
            return tuple(_stored(task, row) for row in connection.execute(statement).mappings())

    def examples_of(self, model: str, ids: Sequence[int]) -> dict[int, StoredExample]:
        """Return those of these examples that are current, by id."""
        found: dict[int, StoredExample] = {}
        with self._read() as connection:
            task = self._task(connection, model)
            for part in chunks(list(ids)):
                statement = _current(select(_TABLE), model, None).where(_TABLE.c.id.in_(part))
                found |= {row["id"]: _stored(task, row) for row in connection.execute(statement).mappings()}
        return found

    def targets_of(self, model: str, ids: Sequence[int]) -> dict[int, str]:
        """Return the targets, as they are kept, of those of these examples that are current, by id."""
        found: dict[int, str] = {}
        with self._read() as connection:
            for part in chunks(list(ids)):
                statement = _current(select(_TABLE.c.id, _TABLE.c.target), model, None).where(_TABLE.c.id.in_(part))
                found.update((number, target) for number, target in connection.execute(statement))
        return found

    def last_example_id(self, model: str) -> int:
        """The newest example's id; 0 without one."""
        with self._read() as connection:
            newest = connection.scalar(select(func.max(_TABLE.c.id)).where(_TABLE.c.model == model))
        return int(newest or 0)

    def label_counts(self, model: str, split: Split | None = None) -> dict[str, int]:
        """Return how many current examples each label has, by label."""
        table, names = schema.tally, list(Split) if split is None else [split]
        with self._read() as connection:
            if self._counts_by_target(connection, model):
                counted = select(table.c.part, func.sum(table.c.rows)).where(table.c.model == model)
                counted = counted.where(table.c.name.in_(names), table.c.rows > 0).group_by(table.c.part)
                rows = connection.execute(counted.order_by(table.c.part)).all()
            else:
                statement = _current(select(_TABLE.c.target, func.count()), model, split)
                rows = connection.execute(statement.group_by(_TABLE.c.target).order_by(_TABLE.c.target)).all()
        return {label: int(count) for label, count in rows}

    def example_count(self, model: str, split: Split) -> int:
        """Return how many current examples there are."""
        with self._read() as connection:
            return self._tallied(connection, model, split)

    def example_rows_between(self, model: str, after_id: int, until_id: int) -> int:
        """Return how many rows have ids in this range, superseded ones included; fewer than before tell an erasure."""
        statement = select(func.count()).select_from(_TABLE).where(_TABLE.c.model == model)
        with self._read() as connection:
            return connection.scalar(statement.where(_TABLE.c.id > after_id, _TABLE.c.id <= until_id)) or 0

    def labels(self, model: str) -> tuple[str, ...]:
        """Return every label that the model has an example of, superseded ones included; one look-up a label."""
        first = select(func.min(_TABLE.c.target).label("target")).where(_TABLE.c.model == model)
        targets = first.cte("targets", recursive=True)
        after = select(func.min(_TABLE.c.target)).where(_TABLE.c.model == model, _TABLE.c.target > targets.c.target)
        targets = targets.union_all(select(after.scalar_subquery()).where(targets.c.target.is_not(None)))
        with self._read() as connection:
            return tuple(connection.scalars(select(targets.c.target).where(targets.c.target.is_not(None))))

    def contradiction_count(self, model: str) -> int:
        """Return how many labels were overruled by another one for the same input, since the beginning."""
        with self._read() as connection:
            return self._tallied(connection, model, SUPERSEDED)

    def _inputs(
        self, connection: Connection, model: str, hashes: Sequence[str], now: datetime
    ) -> dict[str, dict[str, Any]]:
        """The current rows of these inputs; a future time, kept before times were checked, is that of arrival."""
        rows: dict[str, dict[str, Any]] = {}
        for part in chunks(list(dict.fromkeys(hashes))):
            statement = _current(select(_TABLE), model, None).where(_TABLE.c.input_hash.in_(part))
            for row in connection.execute(statement).mappings():
                rows[row["input_hash"]] = dict(row) | {"at": row["at"] if row["at"] <= now else row["added_at"]}
        return rows

    def _move(self, connection: Connection, times: Mapping[int, datetime]) -> None:
        """Give confirmed rows the time at which their label was last given."""
        statement = update(_TABLE).where(_TABLE.c.id == bindparam("moved_id")).values(at=bindparam("moved_at"))
        for part in chunks([{"moved_id": id_, "moved_at": at} for id_, at in times.items()]):
            connection.execute(statement, list(part))

    def _say(self, connection: Connection, attributes: Mapping[int, Mapping[str, str]]) -> None:
        """Give rows what was said later of whose they are."""
        statement = update(_TABLE).where(_TABLE.c.id == bindparam("said_id")).values(attributes=bindparam("said"))
        for part in chunks([{"said_id": id_, "said": dict(said)} for id_, said in attributes.items()]):
            connection.execute(statement, list(part))

    def _unknown(self, connection: Connection, model: str, late: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave out overruled rows that are stored already, so that a retry does not store them again."""
        table, stored = _TABLE, set()
        for part in chunks([row["input_hash"] for row in late]):
            statement = select(table.c.input_hash, table.c.target, table.c.at)
            statement = statement.where(table.c.model == model, table.c.input_hash.in_(part))
            stored |= {tuple(row) for row in connection.execute(statement)}
        return [row for row in late if (row["input_hash"], row["target"], row["at"]) not in stored]

    def _replace(self, connection: Connection, ended: list[int], now: datetime, rows: list[dict[str, Any]]) -> None:
        for part in chunks(ended):
            connection.execute(update(_TABLE).where(_TABLE.c.id.in_(part)).values(superseded_at=now))
        for new in chunks(rows):
            connection.execute(insert(_TABLE), list(new))


def _current(statement: Select[Any], model: str, split: Split | None) -> Select[Any]:
    statement = statement.where(_TABLE.c.model == model, _TABLE.c.superseded_at.is_(None))
    return statement if split is None else statement.where(_TABLE.c.split == split)


def _covered(erased: Tombstones, example: AnyRow, now: datetime) -> bool:
    """A file holds rows of any age: the times in it, or the time at which it is read, prove nothing."""
    dated = example.prediction_id is not None or example.origin not in {Origin.SEED, Origin.IMPORT}
    return erased.cover(key=example.key, prediction_id=example.prediction_id, at=min(example.at, now), dated=dated)


def _input_hash(task: AnyTask, example: AnyRow) -> str:
    """The name under which an input is stored once."""
    return hashlib.sha256(task.identity(example.input)).hexdigest()


def _kept(task: AnyTask, example: AnyRow, now: datetime) -> KeptRow:
    kept = task.keep(example)
    return kept if kept.at <= now else replace(kept, at=now)


def _joined(task: AnyTask, kept: KeptRow, current: dict[str, Any] | None) -> KeptRow:
    """What is known of the input with this row, where targets add up; else the row as it is."""
    if current is None or not task.adds_up:
        return kept
    return replace(kept, target=task.joined(current["target"], kept.target), at=max(kept.at, current["at"]))


def _with_attributes(kept: KeptRow, current: dict[str, Any] | None) -> KeptRow:
    """The row with what was said before of whose it is, where it says nothing new itself.

    What was said of another person who wrote the same stays with that one: an erasure finds it by its key.
    """
    known = {} if current is None or kept.key != current["key"] else current["attributes"] or {}
    return replace(kept, attributes={**known, **kept.attributes}) if known else kept


def _says_more(kept: KeptRow, current: Mapping[str, Any]) -> bool:
    """Whether a row of the same person that repeats a target says more of whose it is."""
    same = (kept.key, kept.target) == (current["key"], current["target"])
    return same and dict(kept.attributes) != (current["attributes"] or {})


def _contradicts(task: AnyTask, kept: KeptRow, current: dict[str, Any] | None) -> bool:
    return current is not None and not task.adds_up and kept.target != current["target"]


def _outcome(kept: KeptRow, current: dict[str, Any] | None) -> str:
    if current is None:
        return "added"
    if kept.at < current["at"]:
        return "stale" if kept.target != current["target"] else "unchanged"
    if kept.target != current["target"]:
        return "relabelled"
    return "confirmed" if kept.at > current["at"] else "unchanged"


def _values(model: str, kept: KeptRow, digest: str, split: Split, now: datetime) -> dict[str, Any]:
    facts = {"model": model, "input_hash": digest, "split": split, "added_at": now, "superseded_at": None}
    return asdict(kept) | {"attributes": dict(kept.attributes) or None} | facts


def _stored(task: AnyTask, row: RowMapping) -> StoredExample:
    return StoredExample(id=row["id"], example=task.read_kept(kept_row(row)), split=Split(row["split"]))
