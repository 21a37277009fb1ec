"""The library of replies of a model, who approved what, and what became of answers. The next answer is made from it.

One SQLite file a model. A reply's versions stay; one of them at most is approved. Whatever changes what may be answered
moves the revision, by which routers know that they must read the library again.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from perennial.continual.errors import DataError, NotFound
from perennial.continual.learning.replies import Library, Question, Reply
from perennial.ops.store.private_file import PrivateFile

__all__ = ["Habits", "ReplyState", "ReplyStore", "StoredReply", "Verdict"]

_TABLES = """
CREATE TABLE IF NOT EXISTS reply (
    id TEXT NOT NULL, version INTEGER NOT NULL, text TEXT NOT NULL, intent TEXT NOT NULL, language TEXT NOT NULL,
    owner TEXT NOT NULL, valid_from TEXT, valid_until TEXT, state TEXT NOT NULL, at TEXT NOT NULL, customer TEXT,
    PRIMARY KEY (id, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS question (
    reply TEXT NOT NULL, text TEXT NOT NULL, weight REAL NOT NULL, customer TEXT, at TEXT NOT NULL,
    PRIMARY KEY (reply, text)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verdict (
    prediction_id TEXT PRIMARY KEY, at TEXT NOT NULL, customer TEXT, reply TEXT NOT NULL, sure REAL NOT NULL,
    intent TEXT NOT NULL, previous TEXT NOT NULL, verdict TEXT NOT NULL, good INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS verdict_at ON verdict (at);
CREATE INDEX IF NOT EXISTS verdict_customer ON verdict (customer);
"""
_REVISION = "revision"


class ReplyState(StrEnum):
    """What a version of a reply is: only an approved one is ever given."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    REPLACED = "replaced"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReply:
    """One version of a reply with its state, since when, and how many questions the reply is approved for."""

    reply: Reply
    state: ReplyState
    at: datetime
    questions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one answer. `good`: whether its first reply was right as it stood; None where nobody can tell."""

    prediction_id: str
    at: datetime
    customer: str | None
    reply: str
    sure: float
    intent: str
    previous: str
    verdict: str
    good: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How often each intent was settled: with anybody, after each intent, and with each customer who was looked up."""

    overall: Mapping[str, int]
    after: Mapping[str, Mapping[str, int]]
    of: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class ReplyStore:
    """See `PrivateFile`, which a read does not make."""

    def __init__(self, path: Path, *, wait_s: float = 10.0) -> None:
        self._file = PrivateFile(path, tables=_TABLES, holds="the library of replies", wait_s=wait_s)

    def __enter__(self) -> "ReplyStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def revision(self) -> int:
        """Grows with every change of what may be answered.

        Raises:
            DependencyUnreachable: the file is missing or cannot be read.
        """
        with self._file.reading() as connection:
            return _revision(connection)

    @property
    def state(self) -> tuple[object, int]:
        """See `PrivateFile.state`: while it is the same, so is everything that others have written."""
        return self._file.state()

    def library(self) -> Library:
        """Every approved reply with its questions, also one whose time has not come or is over."""
        with self._file.reading() as connection:
            connection.execute("BEGIN")
            try:
                rows = _replies(connection, "state = ?", ReplyState.APPROVED)
                asked = connection.execute("SELECT reply, text, weight FROM question ORDER BY reply, text").fetchall()
                revision = _revision(connection)
            finally:
                connection.execute("COMMIT")
        known = {row.reply.id for row in rows}
        return Library(
            replies=tuple(row.reply for row in rows),
            questions=tuple(Question(reply=r, text=t, weight=w) for r, t, w in asked if r in known),
            revision=revision,
        )

    def replies(self, state: ReplyState | None = None) -> tuple[StoredReply, ...]:
        """The versions of replies in a state; of all of them the newest that is not replaced."""
        with self._file.reading() as connection:
            if state is not None:
                return _replies(connection, "state = ?", state)
            return _replies(connection, "state <> ?", ReplyState.REPLACED)

    def together(self) -> AbstractContextManager[object]:
        """One transaction around several calls: all of it or nothing is kept, and written to the disk once."""
        return self._file.writing()

    def put(
        self, replies: Iterable[Reply], *, state: ReplyState = ReplyState.APPROVED, customer: str | None = None
    ) -> int:
        """Add replies, or new versions of those that are there; an equal one changes nothing. Returns the changes."""
        changed = 0
        with self._file.writing() as connection:
            for reply in replies:
                changed += _put(connection, reply, state, customer)
            if changed and state is ReplyState.APPROVED:
                _move(connection)
        return changed

    def decide(self, reply: str, state: ReplyState) -> StoredReply:
        """Approve the newest proposed version of a reply, or where none is, the newest; or withdraw the reply.

        Raises:
            NotFound: there is no reply of this id.
        """
        with self._file.writing() as connection:
            rows = _replies(connection, "id = ?", reply)
            if not rows:
                raise NotFound(f"reply {reply!r} is not in the library; `perennial reply list` shows them")
            newest = max(rows, key=lambda row: (row.state is ReplyState.PROPOSED, row.reply.version))
            if state is ReplyState.APPROVED:
                _set(connection, reply, ReplyState.APPROVED, ReplyState.REPLACED)
                values = (state.value, _now(), reply, newest.reply.version)
                connection.execute("UPDATE reply SET state = ?, at = ? WHERE id = ? AND version = ?", values)
            else:
                _set(connection, reply, ReplyState.APPROVED, state)
                _set(connection, reply, ReplyState.PROPOSED, state)
            _move(connection)
            return next(r for r in _replies(connection, "id = ?", reply) if r.reply.version == newest.reply.version)

    def approve_questions(
        self, questions: Iterable[Question], *, customer: str | None = None, over: bool = True
    ) -> int:
        """Say which reply questions are answered by, or, with a weight below 0, are not. Returns the changes.

        Not `over` what was said of the same question and reply before, it is only said of others.

        Raises:
            DataError: a reply is not in the library.
        """
        with self._file.writing() as connection:
            known = {row[0] for row in connection.execute("SELECT DISTINCT id FROM reply")}
            before = connection.total_changes
            for question in questions:
                if question.reply not in known:
                    raise DataError(
                        f"reply {question.reply!r} is not in the library; add it with `perennial reply add`"
                    )
                connection.execute(
                    "INSERT INTO question VALUES (?, ?, ?, ?, ?) ON CONFLICT (reply, text) DO UPDATE SET "
                    "weight = excluded.weight, at = excluded.at WHERE weight <> excluded.weight AND ?",
                    (question.reply, question.text, question.weight, customer, _now(), over),
                )
            if changed := connection.total_changes - before:
                _move(connection)
        return changed

    def note(self, verdicts: Iterable[Verdict]) -> None:
        """Keep what became of answers; a later verdict of the same answer takes the place of an earlier one."""
        with self._file.writing() as connection:
            for one in verdicts:
                good = None if one.good is None else int(one.good)
                row = (one.prediction_id, _text(one.at), one.customer, one.reply, one.sure, one.intent, one.previous)
                connection.execute(
                    "INSERT OR REPLACE INTO verdict VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, one.verdict, good)
                )

    def would_have_sent(self, sure: float, *, last: int) -> tuple[int, int]:
        """How many of the last answers were right that were at least so sure and judged, and how many those are."""
        with self._file.reading() as connection:
            found = connection.execute(
                "SELECT good FROM verdict WHERE good IS NOT NULL AND sure >= ? ORDER BY at DESC, prediction_id LIMIT ?",
                (sure, last),
            ).fetchall()
        return sum(good for (good,) in found), len(found)

    def habits(self) -> Habits:
        """What was settled so far with anybody; for one customer, see `settled_with`."""
        with self._file.reading() as connection:
            after: dict[str, dict[str, int]] = {}
            overall: dict[str, int] = {}
            for before, intent, count in connection.execute(
                "SELECT previous, intent, COUNT(*) FROM verdict WHERE intent <> '' GROUP BY previous, intent"
            ):
                overall[intent] = overall.get(intent, 0) + count
                if before:
                    after.setdefault(before, {})[intent] = count
        return Habits(overall=overall, after=after)

    def settled_with(self, customers: Iterable[str]) -> dict[str, Mapping[str, int]]:
        """How often each intent was settled with each of these customers."""
        of: dict[str, Mapping[str, int]] = {}
        with self._file.reading() as connection:
            for customer in set(customers):
                rows = connection.execute(
                    "SELECT intent, COUNT(*) FROM verdict WHERE customer = ? AND intent <> '' GROUP BY intent",
                    (customer,),
                ).fetchall()
                of[customer] = dict(rows)
        return of

    def setting(self, name: str) -> str | None:
        """One of the operator's settings of this library."""
        with self._file.reading() as connection:
            row = connection.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set(self, name: str, value: str) -> None:
        """Change one of them."""
        with self._file.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

    def carried_by(self, customer: str) -> int:
        """How many questions, proposals and verdicts came from a customer."""
        with self._file.reading() as connection:
            return sum(
                int(connection.execute(f"SELECT COUNT(*) FROM {table} WHERE customer = ?", (customer,)).fetchone()[0])
                for table in ("question", "reply", "verdict")
            )

    def texts_of(self, customer: str) -> frozenset[str]:
        """The questions and proposed replies that came from a customer, less what stays in the library without them."""
        with self._file.reading() as connection:
            values = {"customer": customer, "proposed": ReplyState.PROPOSED.value}
            found = connection.execute(
                "SELECT text FROM question WHERE customer = :customer UNION "
                "SELECT text FROM reply WHERE customer = :customer AND state = :proposed EXCEPT "
                "SELECT text FROM question WHERE customer IS NOT :customer EXCEPT "
                "SELECT text FROM reply WHERE customer IS NOT :customer OR state <> :proposed",
                values,
            ).fetchall()
        return frozenset(text for (text,) in found)

    def erase(self, customer: str) -> int:
        """Forget what came from a customer, also in what the file leaves free; an approved reply stays, without whose.

        Returns how much it was.
        """
        with self._file.writing() as connection:
            erased = 0
            for table in ("question", "verdict"):
                erased += connection.execute(f"DELETE FROM {table} WHERE customer = ?", (customer,)).rowcount
            values = (customer, ReplyState.PROPOSED.value)
            erased += connection.execute("DELETE FROM reply WHERE customer = ? AND state = ?", values).rowcount
            erased += connection.execute("UPDATE reply SET customer = NULL WHERE customer = ?", (customer,)).rowcount
            if erased:
                _move(connection)
        self._file.wipe()
        return erased


def _put(connection: sqlite3.Connection, reply: Reply, state: ReplyState, customer: str | None) -> int:
    rows = _replies(connection, "id = ?", reply.id)
    newest = max((row.reply.version for row in rows), default=0)
    content = ("text", "intent", "language", "owner", "valid_from", "valid_until")
    for row in rows:
        equal = all(getattr(row.reply, name) == getattr(reply, name) for name in content)
        if equal and row.state is state and row.reply.version == newest:
            return 0
    if state is ReplyState.APPROVED:
        _set(connection, reply.id, ReplyState.APPROVED, ReplyState.REPLACED)
    times = [None if at is None else _text(at) for at in (reply.valid_from, reply.valid_until)]
    connection.execute(
        "INSERT INTO reply VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (reply.id, newest + 1, reply.text, reply.intent, reply.language, reply.owner, *times, state, _now(), customer),
    )
    return 1


def _set(connection: sqlite3.Connection, reply: str, old: ReplyState, new: ReplyState) -> None:
    connection.execute("UPDATE reply SET state = ? WHERE id = ? AND state = ?", (new.value, reply, old.value))


def _replies(connection: sqlite3.Connection, where: str, value: Any) -> tuple[StoredReply, ...]:
    asked = dict(connection.execute("SELECT reply, COUNT(*) FROM question WHERE weight > 0 GROUP BY reply").fetchall())
    found = connection.execute(
        "SELECT id, version, text, intent, language, owner, valid_from, valid_until, state, at FROM reply "
        f"WHERE {where} ORDER BY id, version",
        (str(value),),
    ).fetchall()
    return tuple(
        StoredReply(
            reply=Reply(
                id=row[0],
                version=row[1],
                text=row[2],
                intent=row[3],
                language=row[4],
                owner=row[5],
                valid_from=row[6] and datetime.fromisoformat(row[6]),
                valid_until=row[7] and datetime.fromisoformat(row[7]),
            ),
            state=ReplyState(row[8]),
            at=datetime.fromisoformat(row[9]),
            questions=asked.get(row[0], 0),
        )
        for row in found
    )


def _revision(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT value FROM setting WHERE name = ?", (_REVISION,)).fetchone()
    return 0 if row is None else int(row[0])


def _move(connection: sqlite3.Connection) -> None:
    values = (_REVISION, str(_revision(connection) + 1))
    connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", values)


def _now() -> str:
    return _text(datetime.now(UTC))


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
