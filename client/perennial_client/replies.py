"""Replies: a customer's message in; its intent, approved replies and what to do with them out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .tensors import PREDICTION_ID, VERSION, Array, column, given_texts, texts_of
from .texts import CONFIDENCE, LABEL, further_of, text_tensors
from .texts import FURTHER as OF_TEXTS
from .texts import USUAL as USUAL_OF_TEXTS

__all__ = ["FURTHER", "USUAL", "Message", "SuggestedReplies", "Turn", "message_tensors", "replies_in"]

CUSTOMER, LANGUAGE, TURNS, VALUES = "CUSTOMER", "LANGUAGE", "TURNS", "VALUES"
ACTION, REPLY_IDS, REPLIES, REPLY_SCORES, REASON = "ACTION", "REPLY_IDS", "REPLIES", "REPLY_SCORES", "REASON"
USUAL = (*USUAL_OF_TEXTS, ACTION, REPLY_IDS, REPLIES, REPLY_SCORES)
FURTHER = (*OF_TEXTS, REASON)


class AskedTurn(Protocol):
    """An earlier turn."""

    @property
    def text(self) -> str: ...
    @property
    def intent(self) -> str: ...
    @property
    def reply(self) -> str: ...


class AskedMessage(Protocol):
    """What is asked about a message with."""

    @property
    def text(self) -> str: ...
    @property
    def turns(self) -> Sequence[AskedTurn]: ...
    @property
    def customer(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def values(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """An earlier turn of the conversation: what was said, and the intent or the reply where they are known."""

    text: str = ""
    intent: str = ""
    reply: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A customer's message. `values` fill the variables of replies; without a language all replies are looked at."""

    text: str
    turns: tuple[Turn, ...] = ()
    customer: str = ""
    language: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuggestedReplies:
    """The answer to one message, the best reply first; `reasons`, `scores` of intents and `known` on request."""

    label: str
    confidence: float
    action: str
    reply_ids: tuple[str, ...]
    replies: tuple[str, ...]
    reply_scores: tuple[float, ...]
    version: int
    prediction_id: str
    reasons: tuple[str, ...] | None = None
    scores: dict[str, float] | None = None
    known: bool | None = None


def message_tensors(messages: Sequence[AskedMessage]) -> dict[str, Array]:
    """A request about messages."""
    return {
        **text_tensors([message.text for message in messages]),
        **given_texts(
            {
                CUSTOMER: [message.customer for message in messages],
                LANGUAGE: [message.language for message in messages],
                TURNS: [_written(message.turns) for message in messages],
                VALUES: [json.dumps(dict(message.values)) if message.values else "" for message in messages],
            }
        ),
    }


def replies_in(outputs: Mapping[str, Array]) -> list[SuggestedReplies]:
    """The answers, one a message."""
    names = (LABEL, CONFIDENCE, ACTION, VERSION, PREDICTION_ID)
    rows = zip(*(column(outputs, name) for name in names), further_of(outputs), strict=True)
    made = []
    for row, (label, confidence, action, version, number, more) in enumerate(rows):
        count = sum(bool(name) for name in outputs[REPLY_IDS][row])
        made.append(
            SuggestedReplies(
                label=label.decode(),
                confidence=confidence,
                action=action.decode(),
                reply_ids=texts_of(outputs, REPLY_IDS, row, count),
                replies=texts_of(outputs, REPLIES, row, count),
                reply_scores=tuple(outputs[REPLY_SCORES][row][:count].tolist()),
                version=version,
                prediction_id=number.decode(),
                reasons=texts_of(outputs, REASON, row, count) if REASON in outputs else None,
                scores=more.scores,
                known=more.known,
            )
        )
    return made


def _written(turns: Sequence[AskedTurn]) -> str:
    said = [{"text": turn.text, "intent": turn.intent, "reply": turn.reply} for turn in turns]
    told = [{name: value for name, value in turn.items() if value} for turn in said]
    return json.dumps(told, ensure_ascii=False) if told else ""
