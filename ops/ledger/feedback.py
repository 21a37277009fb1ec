"""Labels that arrive for answered predictions: kept once each, corrections remembered."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, literal, select, tuple_, update

from perennial.continual.drift.accuracy import GivenLabel
from perennial.continual.records import Split
from perennial.continual.task import AnyTask
from perennial.ops.ledger import schema
from perennial.ops.ledger.rows import FeedbackReceipt, FeedbackRow, JoinOutcome, PendingFeedback
from perennial.ops.ledger.store import chunks
from perennial.ops.ledger.tallies import FEEDBACK, WAITING, TallyStore
from perennial.ops.ledger.tombstones import TombstoneStore

__all__ = ["FeedbackStore"]

_TABLE = schema.feedback
_HISTORY = schema.feedback_history
_AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
_FEW = 10_000  # rows that are read one by one rather than found through an index of their times


class FeedbackStore(TallyStore, TombstoneStore):
    """The part of the ledger that keeps labels for predictions.

    Two times are kept of each label: `at`, when it was given, and `received_at`, when it came here. The label with the
    newest `at` is the current one; every other one is in the history with the time until which it was believed. A label
    cannot be given in the future: a time ahead of this ledger's clock counts as now, also in rows kept earlier.
    """

    def add_feedback(self, model: str, rows: Sequence[FeedbackRow]) -> FeedbackReceipt:
        """Keep labels; when this returns they survive a killed process and a power cut.

        All rows or none. A retry counts them as unchanged. Where the targets of the model's task add up, a label joins
        the one that is known. Order among calls does not matter, because the newest `at`
        wins; on equal times the later call. The same label at a later time confirms it and moves its time. A stale row,
        older than the one kept, goes to the history only. A label of an erased request, or of an erased key from before
        its erasure, is not kept and counts as erased.
        """
        counts = dict.fromkeys(("new", "corrected", "confirmed", "unchanged", "stale", "erased"), 0)
        with self._write() as connection:
            self._lock_model(connection, model)
            now = self._clock()
            rows = [row if row.at <= now else replace(row, at=now) for row in rows]
            erased = self._tombstones(
                connection, model, keys=[row.key for row in rows], predictions=[row.prediction_id for row in rows]
            )
            task = self._task(connection, model)
            known = self._labelled(connection, model, [row.prediction_id for row in rows])
            for stored in known.values():
                stored["at"] = _given_at(stored["at"], stored["received_at"], now)
            reopened = 0
            fresh: dict[str, dict[str, Any]] = {}
            history: list[dict[str, Any]] = []
            for given in rows:
                if erased.cover(key=given.key, prediction_id=given.prediction_id, at=given.at):
                    counts["erased"] += 1
                    continue
                current = fresh.get(given.prediction_id) or known.get(given.prediction_id)
                row = _joined(task, given, current)
                outcome = _outcome(row, current)
                counts[outcome] += 1
                if outcome == "unchanged" and current is not None and row.at == current["at"]:
                    continue
                history.append(_past(model, row, now, superseded=now if outcome in {"stale", "unchanged"} else None))
                if outcome == "new":
                    fresh[row.prediction_id] = _values(model, row, now)
                elif outcome in {"corrected", "confirmed"} and current is not None:
                    reopened += current.get("joined_revision") == current["revision"]
                    self._correct(connection, model, row, current, now, stored=row.prediction_id in known)
            for part in chunks(list(fresh.values())):
                connection.execute(insert(_TABLE), list(part))
            for part in chunks(history):
                connection.execute(self._insert(_HISTORY).on_conflict_do_nothing(), list(part))
            self._tally(connection, model, {(FEEDBACK, ""): len(fresh), (WAITING, ""): len(fresh) + reopened})
            if counts["corrected"] or counts["confirmed"]:
                self._close_history(connection, model, [row.prediction_id for row in rows], now)
        return FeedbackReceipt(**counts)

    def pending_feedback(
        self, model: str, limit: int = 1000, *, after: PendingFeedback | None = None, due_by: datetime | None = None
    ) -> tuple[PendingFeedback, ...]:
        """Return labels that were not joined to their prediction yet, or were corrected since.

        Those come first that were not postponed yet, in order of arrival; then those that wait, by how long. So labels
        of no request never keep back a new one. `after` pages past a row that was read before; `due_by` leaves out
        those that wait longer.
        """
        place = _TABLE.c.waits_until, _TABLE.c.id  # as the index of waiting rows has them
        statement = select(_TABLE).where(_TABLE.c.model == model, _TABLE.c.joined_revision < _TABLE.c.revision)
        if due_by is not None:
            statement = statement.where(_TABLE.c.waits_until <= due_by)
        if after is not None:
            passed = tuple_(literal(after.waits_until, schema.UtcTime), literal(after.id))
            statement = statement.where(tuple_(*place) > passed)
        with self._read() as connection:
            rows = connection.execute(statement.order_by(*place).limit(limit)).mappings()
            return tuple(_pending(row, self._clock()) for row in rows)

    def postpone(self, model: str, rows: Sequence[PendingFeedback], until: datetime) -> None:
        """Look for the predictions of these labels no sooner than then. A correction is looked for at once."""
        with self._write() as connection:
            self._lock_model(connection, model)
            for part in chunks([row.id for row in rows]):
                later = update(_TABLE).where(_TABLE.c.model == model, _TABLE.c.id.in_(part))
                later = later.where(_TABLE.c.joined_revision < _TABLE.c.revision)
                connection.execute(later.values(waits_until=until))

    def waiting_count(self, model: str) -> int:
        """Return how many labels wait for their prediction."""
        with self._read() as connection:
            return self._tallied(connection, model, WAITING)

    def mark_joined(
        self, model: str, rows: Sequence[PendingFeedback], *, outcome: JoinOutcome = JoinOutcome.JOINED
    ) -> int:
        """Take labels off the pending list and return how many. A retry returns the same and changes nothing.

        A label that was corrected after it was read stays pending. `UNMATCHED` gives up on a prediction that is not in
        the traffic log; a later correction makes it pending again.
        """
        revisions = {row.id: row.revision for row in rows}
        marked = 0
        with self._write() as connection:
            self._lock_model(connection, model)
            for part in chunks(list(revisions)):
                stored = select(_TABLE.c.id, _TABLE.c.revision, _TABLE.c.joined_revision)
                stored = stored.where(_TABLE.c.model == model, _TABLE.c.id.in_(part))
                found = [row for row in connection.execute(stored) if row.revision == revisions[row.id]]
                same = [row.id for row in found]
                waited = sum(row.joined_revision < row.revision for row in found)
                self._tally(connection, model, {(WAITING, ""): -waited})
                done = update(_TABLE).where(_TABLE.c.id.in_(same))
                connection.execute(done.values(joined_revision=_TABLE.c.revision, outcome=outcome))
                marked += len(same)
        return marked

    def labels_in(self, model: str) -> int:
        """Return how many labels wait for their prediction or are in use as examples.

        Each one that comes, or corrects one that was joined, adds to it; that it is joined does not.
        """
        table = schema.tally
        statement = select(func.sum(table.c.rows)).where(table.c.model == model)
        with self._read() as connection:
            return int(connection.scalar(statement.where(table.c.name.in_([WAITING, *Split]))) or 0)

    def feedback_count(self, model: str, *, since: datetime | None = None) -> int:
        """Return how many predictions have a label, or got or changed one since a time."""
        with self._read() as connection:
            if since is None:
                return self._tallied(connection, model, FEEDBACK)
            statement = select(func.count()).select_from(_TABLE).where(_TABLE.c.model == model)
            return connection.scalar(statement.where(_TABLE.c.received_at >= since)) or 0

    def feedback_labels(self, model: str, prediction_ids: Sequence[str]) -> dict[str, str]:
        """Return the current label of each of these predictions that has one."""
        labels: dict[str, str] = {}
        with self._read() as connection:  # the two columns alone: a probation asks for hundreds a second
            for part in chunks(list(dict.fromkeys(prediction_ids))):
                statement = select(_TABLE.c.prediction_id, _TABLE.c.target)
                statement = statement.where(_TABLE.c.model == model, _TABLE.c.prediction_id.in_(part))
                labels |= {row.prediction_id: row.target for row in connection.execute(statement)}
        return labels

    def newest_feedback(self, model: str, limit: int) -> tuple[PendingFeedback, ...]:
        """Return the labels that came or changed last, newest first, joined to their prediction or not."""
        statement = select(_TABLE).where(_TABLE.c.model == model)
        statement = statement.order_by(_TABLE.c.received_at.desc(), _TABLE.c.id.desc()).limit(limit)
        with self._read() as connection:
            return tuple(_pending(row, self._clock()) for row in connection.execute(statement).mappings())

    def first_feedback(
        self, model: str, limit: int, *, after_id: int = 0, since: datetime | None = None
    ) -> tuple[PendingFeedback, ...]:
        """Return labels in the order in which their predictions were first labelled, as they read now.

        `after_id` pages on: a model's labels are kept one call after the other, so none comes in behind it. `since`
        leaves out those that came, or last changed, before that moment.
        """
        number: Any = _TABLE.c.id
        with self._read() as connection:
            if since is not None and self._newest_id(connection, model) - after_id > _FEW:
                number = _TABLE.c.id + 0  # which no index knows: the labels are found by their time
            statement = select(_TABLE).where(_TABLE.c.model == model, number > after_id)
            if since is not None:
                statement = statement.where(_TABLE.c.received_at >= since)
            rows = connection.execute(statement.order_by(number).limit(limit)).mappings()
            return tuple(_pending(row, self._clock()) for row in rows)

    def last_feedback_id(self, model: str, *, after_id: int = 0) -> int:
        """Return the id of the prediction that was first labelled last, or `after_id` where none came after it.

        Whoever has read all up to here by `first_feedback` goes on from here, however few of them it was given.
        """
        with self._read() as connection:
            return max(after_id, self._newest_id(connection, model))

    def given_labels(self, model: str, prediction_ids: Sequence[str]) -> tuple[GivenLabel, ...]:
        """Return every label ever given for these predictions, by time; where it came from is its annotator."""
        labels: list[GivenLabel] = []
        now = self._clock()
        with self._read() as connection:
            for part in chunks(list(dict.fromkeys(prediction_ids))):
                statement = select(_HISTORY).where(_HISTORY.c.model == model, _HISTORY.c.prediction_id.in_(part))
                labels += [
                    GivenLabel(
                        prediction_id=r.prediction_id,
                        label=r.target,
                        annotator=r.origin,
                        at=_given_at(r.at, r.received_at, now),
                    )
                    for r in connection.execute(statement)
                ]
        return tuple(sorted(labels, key=lambda given: (given.at, given.prediction_id, given.label)))

    def _newest_id(self, connection: Connection, model: str) -> int:
        newest = select(_TABLE.c.id).where(_TABLE.c.model == model).order_by(_TABLE.c.id.desc()).limit(1)
        return int(connection.scalar(newest) or 0)

    def _labelled(self, connection: Connection, model: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        for part in chunks(list(dict.fromkeys(ids))):
            statement = select(_TABLE).where(_TABLE.c.model == model, _TABLE.c.prediction_id.in_(part))
            rows |= {row["prediction_id"]: dict(row) for row in connection.execute(statement).mappings()}
        return rows

    def _correct(
        self,
        connection: Connection,
        model: str,
        row: FeedbackRow,
        current: dict[str, Any],
        now: datetime,
        *,
        stored: bool,
    ) -> None:
        facts: dict[str, Any] = {"target": row.label, "at": row.at, "origin": row.origin}
        if row.label != current["target"]:  # a confirmation is no news to whoever counts labels
            facts["received_at"] = now
        facts["key"] = row.key if row.key is not None else current["key"]
        of_another = current["key"] not in {None, facts["key"]}  # what was said of somebody else does not stay
        known = {} if of_another else current["attributes"] or {}
        facts["attributes"] = {**known, **row.attributes} or None
        facts["revision"] = current["revision"] + 1
        facts["waits_until"] = _AT_ONCE
        current.update(facts)
        if stored:
            place = (_TABLE.c.model == model) & (_TABLE.c.prediction_id == row.prediction_id)
            connection.execute(update(_TABLE).where(place).values(facts))

    def _close_history(self, connection: Connection, model: str, ids: Sequence[str], now: datetime) -> None:
        """Give every history row that no longer is the current label the time at which it stopped being so."""
        for part in chunks(list(dict.fromkeys(ids))):
            current = (
                select(_TABLE.c.id)
                .where(_TABLE.c.model == _HISTORY.c.model, _TABLE.c.prediction_id == _HISTORY.c.prediction_id)
                .where(_TABLE.c.target == _HISTORY.c.target, _TABLE.c.at == _HISTORY.c.at)
            )
            stale = update(_HISTORY).where(_HISTORY.c.model == model, _HISTORY.c.prediction_id.in_(part))
            stale = stale.where(_HISTORY.c.superseded_at.is_(None), ~current.exists())
            connection.execute(stale.values(superseded_at=now))


def _joined(task: AnyTask, row: FeedbackRow, current: dict[str, Any] | None) -> FeedbackRow:
    """What is known of the prediction with this row, where targets add up; else the row as it is."""
    if current is None or not task.adds_up:
        return row
    return replace(row, label=task.joined(current["target"], row.label), at=max(row.at, current["at"]))


def _outcome(row: FeedbackRow, current: dict[str, Any] | None) -> str:
    if current is None:
        return "new"
    if row.at < current["at"]:
        return "stale" if row.label != current["target"] else "unchanged"
    if row.label != current["target"]:
        return "corrected"
    return "confirmed" if row.at > current["at"] else "unchanged"


def _values(model: str, row: FeedbackRow, now: datetime) -> dict[str, Any]:
    return {
        "model": model,
        "prediction_id": row.prediction_id,
        "target": row.label,
        "at": row.at,
        "received_at": now,
        "origin": row.origin,
        "key": row.key,
        "attributes": dict(row.attributes) or None,
        "revision": 1,
        "joined_revision": 0,
        "waits_until": _AT_ONCE,  # in every row: one that is corrected in the same call states it too
    }


def _past(model: str, row: FeedbackRow, now: datetime, *, superseded: datetime | None) -> dict[str, Any]:
    return {
        "model": model,
        "prediction_id": row.prediction_id,
        "target": row.label,
        "at": row.at,
        "received_at": now,
        "origin": row.origin,
        "superseded_at": superseded,
    }


def _pending(row: RowMapping, now: datetime) -> PendingFeedback:
    names = ("id", "prediction_id", "received_at", "origin", "key", "revision", "waits_until")
    at = _given_at(row["at"], row["received_at"], now)
    attributes = row["attributes"] or {}
    return PendingFeedback(**{name: row[name] for name in names}, label=row["target"], at=at, attributes=attributes)


def _given_at(at: datetime, received_at: datetime, now: datetime) -> datetime:
    """A time in the future, kept before times were checked, counts as the time at which the label came."""
    return at if at <= now else received_at
