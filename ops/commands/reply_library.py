"""The library of replies for whoever edits it: listed, added to, changed, approved, withdrawn; and what may be sent."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from perennial.continual.errors import ConfigurationError, DataError, NotFound
from perennial.continual.learning.replies import Question, Reply, Sending, SendingRule
from perennial.continual.learning.replies.files import ReplyFile, admit_reply, read_reply_file
from perennial.continual.preparation import admit_text
from perennial.continual.tasks.replies import Replies
from perennial.ops.ledger import Ledger
from perennial.ops.store.reply_store import ReplyState, ReplyStore, StoredReply
from perennial.ops.store.sending_rule import read_rule, write_rule
from perennial.ops.store.workspace import Workspace

__all__ = ["Changed", "ReplyLibrary", "ReplyView", "SendingView", "read_replies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyView:
    """One version of a reply, as it is listed."""

    id: str
    version: int
    state: str
    text: str
    intent: str
    questions: int
    language: str
    owner: str
    valid_from: datetime | None
    valid_until: datetime | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a change did; the next answer knows of it."""

    replies: int
    questions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingView:
    """Whether answers are sent by themselves, and why."""

    on: bool
    reason: str
    right: int
    judged: int
    lowest: float
    rule: SendingRule


class ReplyLibrary:
    """One model's library; every change is audited. On a `rehearsal`, a copy of its file, none is.

    Raises:
        DataError: the model is of another task.
    """

    def __init__(self, ledger: Ledger, workspace: Workspace, model: str, *, rehearsal: Path | None = None) -> None:
        if (task := workspace.settings.task_of(model)) != Replies.name:
            raise DataError(f"model {model} is of task {task!r} and has no replies; name one of task {Replies.name!r}")
        self._ledger, self.model, self._rehearses = ledger, model, rehearsal is not None
        self._path = workspace.replies(model) if rehearsal is None else rehearsal

    def listed(self, *, state: str = "", intent: str = "") -> list[ReplyView]:
        """The newest versions, or those of a state; of an intent alone where one is named."""
        if not self._path.is_file():
            return []
        chosen = _state(state) if state else None
        with ReplyStore(self._path) as store:
            rows = store.replies(chosen)
        return [_view(row) for row in rows if not intent or row.reply.intent == intent]

    def add(self, replies: Sequence[Reply], questions: Sequence[Question] = (), *, actor: str) -> Changed:
        """Add approved replies, each with the questions that it answers; an equal one changes nothing."""
        with ReplyStore(self._path) as store:
            done = Changed(replies=store.put(replies), questions=store.approve_questions(questions))
        self._audit(actor, "reply.added", {"replies": [reply.id for reply in replies][:20], **asdict(done)})
        return done

    def add_file(self, read: ReplyFile, *, actor: str) -> Changed:
        """Add what a file holds."""
        return self.add(read.replies, read.questions, actor=actor)

    def change(self, reply: str, fields: Mapping[str, str], *, actor: str) -> ReplyView:
        """Give a reply a new approved version with other fields; its questions stay.

        Raises:
            NotFound: there is no such reply.
            DataError: a field breaks its rule.
        """
        with ReplyStore(self._path) as store:
            stood, before = self._newest(store, reply), self._given(store, reply)
            old = {"reply": before.text, "intent": before.intent, "language": before.language, "owner": before.owner}
            times = {
                name: "" if (at := getattr(before, name)) is None else at.isoformat()
                for name in ("valid_from", "valid_until")
            }
            store.put([admit_reply({**old, **times, **fields, "id": reply})])
            after = self._newest(store, reply)
        self._audit(actor, "reply.changed", _change(stood, after))
        return _view(after)

    def approve(self, reply: str, *, question: str = "", actor: str) -> ReplyView:
        """Approve the newest version of a reply, or a question for it."""
        with ReplyStore(self._path) as store:
            before = self._newest(store, reply)
            if question:
                store.approve_questions([Question(reply=reply, text=admit_text(question, field="question").text)])
                row = self._newest(store, reply)
            else:
                row = store.decide(reply, ReplyState.APPROVED)
        self._audit(actor, "reply.approved", _change(before, row))
        return _view(row)

    def withdraw(self, reply: str, *, actor: str) -> ReplyView:
        """Never give a reply again, until it is approved again."""
        with ReplyStore(self._path) as store:
            before = self._newest(store, reply)
            row = store.decide(reply, ReplyState.WITHDRAWN)
        self._audit(actor, "reply.withdrawn", _change(before, row))
        return _view(row)

    def sending(self) -> SendingView:
        """Whether answers are sent now."""
        if not self._path.is_file():
            return _sending_view(Sending.of(SendingRule(), right=0, judged=0))
        with ReplyStore(self._path) as store:
            return _sending_view(_sending(store))

    def state_rule(self, changes: Mapping[str, Any], *, actor: str) -> SendingView:
        """Change the operator's rule; the next answer follows it.

        Raises:
            ConfigurationError: a value is out of range, or of no field.
        """
        with ReplyStore(self._path) as store:
            kept = read_rule(store) if self._path.is_file() else SendingRule()
            try:
                rule = replace(kept, **changes)
            except TypeError as exc:
                raise ConfigurationError(f"the rule of sending has no such field ({exc})") from exc
            write_rule(store, rule)
            view = _sending_view(_sending(store))
        self._audit(actor, "reply.sending", {"before": asdict(kept), "after": asdict(rule)})
        return view

    def _newest(self, store: ReplyStore, reply: str) -> StoredReply:
        rows = [row for row in store.replies() if row.reply.id == reply] if self._path.is_file() else []
        if not rows:
            raise NotFound(f"reply {reply!r} is not in the library; `perennial reply list` shows them")
        return max(rows, key=lambda row: row.reply.version)

    def _given(self, store: ReplyStore, reply: str) -> Reply:
        """The approved version; the newest one where none is."""
        newest = self._newest(store, reply).reply
        return next((row.reply for row in store.replies(ReplyState.APPROVED) if row.reply.id == reply), newest)

    def _audit(self, actor: str, what: str, detail: dict[str, Any]) -> None:
        if not self._rehearses:
            self._ledger.audit(actor, what, self.model, detail)


def _change(before: StoredReply, after: StoredReply) -> dict[str, Any]:
    return {"reply": after.reply.id, "before": _told(before), "after": _told(after)}


def _told(row: StoredReply) -> dict[str, Any]:
    """What the audit log keeps of a reply: its text by hash alone, for nothing is ever erased from that log."""
    facts = asdict(row.reply) | {"state": row.state.value, "questions": row.questions}
    return {name: value for name, value in facts.items() if name not in {"id", "text"}} | {
        "text_sha256": sha256(row.reply.text.encode()).hexdigest()
    }


def _sending(store: ReplyStore) -> Sending:
    rule = read_rule(store)
    right, judged = store.would_have_sent(rule.sure, last=rule.last)
    return Sending.of(rule, right=right, judged=judged)


def _sending_view(sending: Sending) -> SendingView:
    return SendingView(
        on=sending.on,
        reason=sending.reason,
        right=sending.right,
        judged=sending.judged,
        lowest=sending.lowest,
        rule=sending.rule,
    )


def _state(name: str) -> ReplyState:
    try:
        return ReplyState(name)
    except ValueError:
        raise DataError(f"state is {name!r}; use one of {', '.join(ReplyState)}") from None


def _view(row: StoredReply) -> ReplyView:
    reply = row.reply
    return ReplyView(
        id=reply.id,
        version=reply.version,
        state=row.state.value,
        text=reply.text,
        intent=reply.intent,
        questions=row.questions,
        language=reply.language,
        owner=reply.owner,
        valid_from=reply.valid_from,
        valid_until=reply.valid_until,
        at=row.at,
    )


def read_replies(file: Path | None, fields: Mapping[str, str]) -> ReplyFile:
    """What a command was given: a file of replies, or one reply with a question or none."""
    if file is not None:
        return read_reply_file(file)
    reply = admit_reply(fields)
    question = fields.get("question", "")
    asked = (Question(reply=reply.id, text=admit_text(question, field="question").text),) if question else ()
    return ReplyFile(replies=(reply,), questions=asked)
