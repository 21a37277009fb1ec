"""Approved answers and the questions that they were approved for."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DataError

__all__ = ["Library", "Question", "Reply", "fill", "key_of", "proves", "read_library", "variables_of", "write_library"]

_PROVING = 64  # of 256
_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An approved answer. `{name}` in its text is a variable; outside its times it is never given.

    >>> Reply(id="r1", text="Your card costs {fee}.", intent="fee").bare
    'Your card costs.'
    """

    id: str
    text: str
    intent: str
    language: str = ""
    version: int = 1
    owner: str = ""
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("id", "text", "intent"):
            if not getattr(self, name).strip():
                raise DataError(f"a reply's {name} is empty; give it one")
        for name in ("valid_from", "valid_until"):
            at = getattr(self, name)
            if at is not None and at.tzinfo is None:
                raise DataError(f"reply {self.id!r}: {name} {at.isoformat()} has no time zone; give UTC")

    @property
    def bare(self) -> str:
        """The text without its variables, which say nothing of what it is about."""
        return " ".join(re.sub(r"\s+([.,;:!?])", r"\1", _VARIABLE.sub("", self.text)).split())

    def valid(self, at: datetime) -> bool:
        """Whether it may be given at a time."""
        begun = self.valid_from is None or self.valid_from <= at
        return begun and (self.valid_until is None or at < self.valid_until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that a reply is approved for, without personal data. `weight` below 0: it was refused for it."""

    reply: str
    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Library:
    """What may be answered at one revision: approved replies, and the questions of each."""

    replies: tuple[Reply, ...]
    questions: tuple[Question, ...] = ()
    revision: int = 0

    def __post_init__(self) -> None:
        known = {reply.id for reply in self.replies}
        if len(known) != len(self.replies):
            raise DataError(f"a library of {len(self.replies)} replies has {len(known)} ids; give each its own")
        if strange := [question.reply for question in self.questions if question.reply not in known]:
            raise DataError(f"{len(strange)} questions are of no reply in the library, e.g. of {strange[0]!r}")

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that is compared with a question, each once."""
        asked = (question.text for question in self.questions)
        return tuple(dict.fromkeys([*(reply.bare for reply in self.replies), *asked]))


def key_of(text: str) -> str:
    """What a text's embedding is kept under, so that the text itself need not be."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def proves(question: str) -> bool:
    """Whether a question is held out: a quarter of all, the same ones for every version, by the text alone."""
    return hashlib.blake2b(question.encode(), digest_size=1, person=b"proof").digest()[0] < _PROVING


def variables_of(text: str) -> tuple[str, ...]:
    """The variables of a reply's text, each once.

    >>> variables_of("Dear {name}, it costs {fee}, {name}.")
    ('name', 'fee')
    """
    return tuple(dict.fromkeys(_VARIABLE.findall(text)))


def fill(text: str, values: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The text with its variables filled in, and those that no value is known of, which stay as they are.

    >>> fill("Dear {name}, it costs {fee}.", {"fee": "2 EUR"})
    ('Dear {name}, it costs 2 EUR.', ('name',))
    """
    missing = tuple(name for name in variables_of(text) if name not in values)
    return _VARIABLE.sub(lambda found: values.get(found[1], found[0]), text), missing


def write_library(path: Path, library: Library) -> None:
    """Write a library as JSON lines, a reply with its questions each; whole or not at all."""
    asked: dict[str, list[list[Any]]] = {reply.id: [] for reply in library.replies}
    for question in library.questions:
        asked[question.reply].append([question.text, question.weight])
    lines = [_line({"revision": library.revision})]
    lines += [_line({**asdict(reply), "questions": asked[reply.id]}) for reply in library.replies]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(lines))


def read_library(path: Path) -> Library:
    """What `write_library` left.

    Raises:
        DataError: the file is none.
    """
    try:
        first, *rest = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        questions = [
            Question(reply=row["id"], text=text, weight=weight) for row in rest for text, weight in row.pop("questions")
        ]
        return Library(replies=tuple(map(_reply, rest)), questions=tuple(questions), revision=first["revision"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path} is no library of replies ({type(error).__name__}: {error}); write it again") from error


def _line(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, default=datetime.isoformat) + "\n"


def _reply(row: Mapping[str, Any]) -> Reply:
    times = {name: row[name] and datetime.fromisoformat(row[name]) for name in ("valid_from", "valid_until")}
    return Reply(**{**row, **times})
