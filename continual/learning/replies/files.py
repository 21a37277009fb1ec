"""Replies out of the files that people have: answers, and the questions that they answer."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.errors import DataError
from perennial.continual.learning.replies.library import Question, Reply
from perennial.continual.preparation import (
    FileReading,
    Role,
    admit_key,
    admit_label,
    admit_text,
    clean,
    read_table,
    refuse_rows,
    shown,
)
from perennial.continual.preparation.tables import TableRow

__all__ = ["ReplyFile", "admit_reply", "id_of", "read_reply_file"]

_ROLES = (
    Role("question", ("text", "message", "user", "utterance", "query")),
    Role("reply", ("answer", "response", "system")),
    Role("intent", ("class", "label", "category", "topic")),
    Role("id", ("reply_id", "answer_id")),
    Role("language"),
    Role("owner"),
    Role("valid_from"),
    Role("valid_until"),
)
_NOTHING_STATED = FileReading()
_ID_LETTERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFile:
    """Replies, each once, and their questions."""

    replies: tuple[Reply, ...]
    questions: tuple[Question, ...]


def read_reply_file(path: Path, *, reading: FileReading = _NOTHING_STATED) -> ReplyFile:
    """The rows of a file with `reply` and `intent`, and where known the rest.

    That is `question`, `id`, `language`, `owner`, `valid_from` and `valid_until`. An equal answer in several rows is
    one reply, approved for all of their questions.

    Raises:
        DataError, DependencyUnreachable: see `read_table`; or one id has two answers.
        RowsRefused: rows are wrong; it names each line and its cause.
    """
    table = read_table(path, _ROLES, reading)
    table.require(("reply", "intent"))
    rows, bad = table.admitted(_row)
    refuse_rows(table, bad)
    replies: dict[str, Reply] = {}
    questions: dict[tuple[str, str], Question] = {}
    for reply, question in rows:
        known = replies.setdefault(reply.id, reply)
        if known.text != reply.text:
            raise DataError(f"{table.source} has two answers of id {shown(reply.id)}; give each reply its own id")
        if question:
            questions[reply.id, question] = Question(reply=reply.id, text=question)
    if not replies:
        raise DataError(f"{table.source} has no replies; give at least one")
    return ReplyFile(replies=tuple(replies.values()), questions=tuple(questions.values()))


def admit_reply(fields: Mapping[str, str]) -> Reply:
    """A reply by the rule of the entrance; without an id it gets one of its text.

    Raises:
        DataError: a field breaks its rule.

    >>> admit_reply({"reply": "It is free.", "intent": "fee"}).intent
    'fee'
    """
    text = clean(fields.get("reply", ""))
    if not text:
        raise DataError("reply is empty; write the answer")
    return Reply(
        id=admit_key(fields.get("id"), field="id") or id_of(text),
        text=text,
        intent=admit_label(fields.get("intent", ""), field="intent"),
        language=admit_key(fields.get("language"), field="language") or "",
        owner=admit_key(fields.get("owner"), field="owner") or "",
        valid_from=_moment(fields.get("valid_from", ""), "valid_from"),
        valid_until=_moment(fields.get("valid_until", ""), "valid_until"),
    )


def id_of(text: str) -> str:
    """The same text gets the same id, so that a repetition adds nothing twice."""
    return "r-" + hashlib.blake2b(text.encode(), digest_size=8).hexdigest()[:_ID_LETTERS]


def _row(row: TableRow) -> tuple[Reply, str]:
    question = row.fields.get("question", "")
    return admit_reply(row.fields), admit_text(question, field="question").text if question else ""


def _moment(text: str, field: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"{field} is {shown(text)}; write ISO 8601, e.g. 2026-01-31T12:00:00+00:00") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
