"""What became of answers to customers: kept in the library for the next answer, and as labels for the next training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from perennial.continual.errors import DataError
from perennial.continual.learning.replies import Question, Reply
from perennial.continual.learning.replies.files import id_of
from perennial.continual.preparation import (
    KnownLabels,
    admit_key,
    admit_prediction_id,
    admit_text,
    admit_time,
    clean,
    shown,
)
from perennial.continual.records import Origin
from perennial.ops.ledger import FeedbackRow
from perennial.ops.ledger.ports import ErasedRows
from perennial.ops.store.feedback.labels import LabelLedger, add_labels
from perennial.ops.store.reply_store import ReplyState, ReplyStore, StoredReply, Verdict
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace

__all__ = ["AdmittedVerdict", "GivenVerdict", "VerdictKind", "add_verdicts", "admit_verdict"]

_LOGGED = ["prediction_id", "text", "prediction", "key", "previous", "replies"]


class VerdictKind(StrEnum):
    """What became of an answer."""

    ACCEPTED = "accepted"  # sent as it was
    EDITED = "edited"  # sent with changes, which propose a new version of the reply
    REJECTED = "rejected"
    OWN = "own"  # somebody wrote an answer, which is proposed as a reply
    HANDED_OVER = "handed_over"
    SOLVED = "solved"  # the customer is content with what was sent
    UNSOLVED = "unsolved"


class VerdictLedger(LabelLedger, ErasedRows, Protocol):
    """Where the labels that follow from verdicts are kept, and who was erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenVerdict:
    """One verdict as it came from outside, unchecked. Without `reply` it is about the first one that was suggested."""

    prediction_id: object
    verdict: object
    reply: object = None
    text: object = None  # what was sent instead, of `edited` and `own`
    intent: object = None
    at: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedVerdict:
    """One verdict by the rule of the entrance."""

    prediction_id: str
    verdict: VerdictKind
    at: datetime
    reply: str | None = None
    text: str | None = None
    intent: str | None = None
    origin: Origin = Origin.FEEDBACK


def admit_verdict(
    given: GivenVerdict,
    *,
    known: KnownLabels,
    now: datetime,
    origin: Origin = Origin.FEEDBACK,
    without_zone_is_utc: bool = False,
) -> AdmittedVerdict:
    """A verdict as it may be kept.

    Raises:
        DataError: a field breaks its rule, or an answer that was written is missing.
    """
    try:
        verdict = VerdictKind(str(given.verdict))
    except ValueError:
        raise DataError(f"verdict is {shown(given.verdict)}; use one of {', '.join(VerdictKind)}") from None
    written = verdict in {VerdictKind.EDITED, VerdictKind.OWN}
    if written != (given.text is not None):
        raise DataError(f"verdict {verdict} {'needs text, what was sent' if written else 'takes no text'}")
    return AdmittedVerdict(
        prediction_id=admit_prediction_id(given.prediction_id),
        verdict=verdict,
        at=admit_time(given.at, now=now, without_zone_is_utc=without_zone_is_utc),
        reply=admit_key(given.reply, field="reply"),
        text=None if given.text is None else admit_text(given.text).text,
        intent=None if given.intent is None else known.admit(given.intent),
        origin=origin,
    )


def add_verdicts(
    ledger: VerdictLedger, workspace: Workspace, model: str, verdicts: Sequence[AdmittedVerdict]
) -> dict[str, int]:
    """Keep verdicts, and count what became of the labels that follow from them.

    A reply that was accepted, or that solved it, is approved for the question from now on, and so is one in the words
    that somebody wrote; any other answer that somebody wrote is proposed. One that was rejected, or that did not solve
    it, counts against the reply for such questions.

    Raises:
        DataError: an answer is not in the traffic log, or a reply was not suggested and is not in the library.
    """
    answered = _answered(workspace, model, verdicts)
    labels: list[FeedbackRow] = []
    with ReplyStore(workspace.replies(model)) as store:
        marks = [(answered[one.prediction_id].customer, one.prediction_id, one.at) for one in verdicts]
        gone = ledger.erased_among(model, marks)
        rows = store.replies()
        replies = _of_now(rows)
        alive = _of_now([row for row in rows if row.state is not ReplyState.WITHDRAWN])
        for one in verdicts:
            if (named := one.reply or answered[one.prediction_id].first) and named not in replies:
                raise DataError(f"reply {named!r} is not in the library; name one that was suggested")
        with store.together():
            for one, erased in zip(verdicts, gone, strict=True):
                if erased:
                    continue
                if (intent := _keep(store, one, answered[one.prediction_id], replies, alive)) is not None:
                    labels.append(
                        FeedbackRow(
                            prediction_id=one.prediction_id,
                            label=intent,
                            at=one.at,
                            origin=one.origin,
                            key=answered[one.prediction_id].customer,
                        )
                    )
    return add_labels(ledger, model, labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoggedAnswer:
    """What the traffic log says of an answer."""

    text: str
    intent: str
    customer: str | None
    previous: str
    replies: tuple[tuple[str, int, float], ...]  # id, version, how sure

    @property
    def first(self) -> str:
        """The id of the first reply that was suggested, if any was."""
        return self.replies[0][0] if self.replies else ""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "_LoggedAnswer":
        return cls(
            text=row["text"],
            intent=row["prediction"],
            customer=row["key"],
            previous=row["previous"],
            replies=tuple((str(i), int(v), float(s)) for i, v, s in json.loads(row["replies"])),
        )


def _answered(workspace: Workspace, model: str, verdicts: Sequence[AdmittedVerdict]) -> dict[str, _LoggedAnswer]:
    ids = sorted({one.prediction_id for one in verdicts})
    rows: list[dict[str, Any]] = traffic_of(workspace, model).lookup(ids, columns=_LOGGED).to_pylist()
    found = {row["prediction_id"]: _LoggedAnswer.of(row) for row in rows}
    if missing := [number for number in ids if number not in found]:
        raise DataError(
            f"{len(missing)} of {len(ids)} answers are not in the traffic log of {model} (e.g. {missing[0]!r}); "
            "send the PREDICTION_ID that came with the answer"
        )
    return found


def _of_now(rows: Sequence[StoredReply]) -> dict[str, Reply]:
    """The approved version of each reply, or the newest one where none is."""
    order = sorted(rows, key=lambda row: (row.state is ReplyState.APPROVED, row.reply.version))
    return {row.reply.id: row.reply for row in order}


def _keep(
    store: ReplyStore,
    one: AdmittedVerdict,
    answer: _LoggedAnswer,
    replies: Mapping[str, Reply],
    alive: Mapping[str, Reply],
) -> str | None:
    """Keep one verdict, and return the intent that it tells, where it does. `alive` are replies not withdrawn."""
    written = None if one.text is None else clean(one.text)
    given = one.reply or answer.first
    reply = given if written is None else _in_the_words(written, given, alive) or given
    about = replies.get(reply)
    intent = one.intent or (about.intent if about is not None and one.verdict in _SETTLED else None)
    if one.verdict in _WEIGHTS and reply:
        question = Question(reply=reply, text=answer.text, weight=_WEIGHTS[one.verdict])
        store.approve_questions([question], customer=answer.customer, over=one.verdict is not VerdictKind.UNSOLVED)
    elif written is not None:
        if about is not None and about.text == written:
            proposed = about
            intent = intent or about.intent
        elif one.verdict is VerdictKind.EDITED and about is not None:
            proposed = replace(about, text=written, intent=intent or about.intent)
        else:
            proposed = Reply(id=id_of(written), text=written, intent=intent or answer.intent)
        if proposed is not about:
            store.put([proposed], state=ReplyState.PROPOSED, customer=answer.customer)
        store.approve_questions([Question(reply=proposed.id, text=answer.text)], customer=answer.customer)
    store.note(
        [
            Verdict(
                prediction_id=one.prediction_id,
                at=one.at,
                customer=answer.customer,
                reply=reply,
                sure=answer.replies[0][2] if answer.replies else 0.0,
                intent=intent or "",
                previous=answer.previous,
                verdict=one.verdict.value,
                good=_good(
                    one, reply, answer, as_it_stood=written is None or (about is not None and about.text == written)
                ),
            )
        ]
    )
    return intent


_SETTLED = {VerdictKind.ACCEPTED, VerdictKind.EDITED, VerdictKind.SOLVED}
_WEIGHTS = {  # of the question for the reply; a reply that did not solve it may still have been the right one
    VerdictKind.ACCEPTED: 1.0,
    VerdictKind.SOLVED: 1.0,
    VerdictKind.REJECTED: -1.0,
    VerdictKind.UNSOLVED: -0.5,
}


def _in_the_words(text: str, named: str, replies: Mapping[str, Reply]) -> str:
    """The reply that already has the words that somebody wrote, the named one before others; nothing where none has."""
    found = [reply.id for reply in replies.values() if reply.text == text]
    return named if named in found else next(iter(found), "")


def _good(one: AdmittedVerdict, reply: str, answer: _LoggedAnswer, *, as_it_stood: bool) -> bool | None:
    """Whether sending the first reply would have been right; None where there was none."""
    if not answer.first:
        return None
    return reply == answer.first and as_it_stood and one.verdict not in _NOT_RIGHT


_NOT_RIGHT = {VerdictKind.REJECTED, VerdictKind.UNSOLVED, VerdictKind.HANDED_OVER}
