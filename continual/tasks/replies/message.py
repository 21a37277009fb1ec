"""A customer's message as it is served: its text, the turns before it, whose it is, and values for the replies."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Message", "Turn", "message_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """An earlier turn of the conversation: what was said, and the intent or the reply where they are known."""

    text: str = ""
    intent: str = ""
    reply: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is asked of one message. `values` fill the variables of replies; without a language all are looked at."""

    text: str
    turns: tuple[Turn, ...] = ()
    customer: str = ""
    language: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


def message_of(asked: "str | Message") -> Message:
    """A message that somebody asks about; a bare text is nobody's, and the first of its conversation.

    >>> message_of("card lost").customer
    ''
    """
    return asked if isinstance(asked, Message) else Message(text=asked)
