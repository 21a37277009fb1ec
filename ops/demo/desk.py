"""What customers of a service desk ask, what is right to answer them, and how both change."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from perennial.continual.errors import DataError
from perennial.continual.learning.replies import Question, Reply
from perennial.continual.learning.replies.files import ReplyFile, read_reply_file
from perennial.ops.demo.answers import ANSWERS, CHANGED
from perennial.ops.demo.grammar import FIRST_INTENTS, WAVES, Era, RequestGrammar
from perennial.ops.recipes import recipe_named

__all__ = ["Asked", "Desk", "FileDesk", "GeneratedDesk", "desk_of"]

_CUSTOMERS = 300
_FIRST_QUESTIONS = 300  # that are approved at the start
_LEARNS_AFTER, _LIVED = 300, 350  # labels of a version; requests of a change before its version may begin
_NEW, _CHATTY = 0.35, 0.7  # shares of the requests after a change: of new intents, and in the new wording
_USUAL = 0.5  # of a customer's requests: one of the two things that they usually ask about


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One message, whose it is, what is right to answer, and what was so before."""

    text: str
    customer: str
    intent: str
    right: str
    before: tuple[str, ...]
    first_time: bool  # nobody has asked it in these words before


class Desk(Protocol):
    """Customers who ask; twice everything about them changes."""

    @property
    def name(self) -> str:
        """Where the questions are from."""
        ...

    @property
    def first(self) -> ReplyFile:
        """The replies and their approved questions at the start."""
        ...

    @property
    def learns_after(self) -> int:
        """So many labels that are new begin a cycle by themselves; each change brings more."""
        ...

    @property
    def lived(self) -> int:
        """Requests after a change, before a version that answers it may begin; what is new is not all asked by then."""
        ...

    def draw(self) -> Asked:
        """The next message."""
        ...

    def change(self) -> str:
        """Let the next change happen, and say in words what is different."""
        ...


def desk_of(folder: Path | None, seed: int) -> Desk:
    """A generated desk, or that of a folder.

    Raises:
        DataError, DependencyUnreachable, RowsRefused: the folder has no file of questions and replies, or a bad one.
    """
    if folder is None:
        return GeneratedDesk(seed)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give one with replies.csv (question, reply, intent)")
    files = {file.role: file.path for file in recipe_named("service").models[0].found(folder)}
    return FileDesk(files["data"].name, read_reply_file(files["data"]), seed)


class GeneratedDesk:
    """A shop whose customers come to speak otherwise, of other products, and whose answers change. See `Desk`."""

    learns_after: ClassVar[int] = _LEARNS_AFTER
    lived: ClassVar[int] = _LIVED

    def __init__(self, seed: int) -> None:
        self._grammar, self._rng = RequestGrammar(seed), np.random.default_rng(seed + 1)
        self._seen: set[str] = set()
        self._usual = [self._rng.choice(FIRST_INTENTS, 2, replace=False).tolist() for _ in range(_CUSTOMERS)]
        self._wave = 0
        asked = self._grammar.draw_many(FIRST_INTENTS, _FIRST_QUESTIONS)
        self._seen.update(request.text.casefold() for request in asked)
        self.first = ReplyFile(
            replies=tuple(Reply(id=intent, text=ANSWERS[intent], intent=intent) for intent in FIRST_INTENTS),
            questions=tuple(Question(reply=request.intent, text=request.text) for request in asked),
        )

    @property
    def name(self) -> str:
        return "generated requests of a shop"

    def draw(self) -> Asked:
        customer = int(self._rng.integers(_CUSTOMERS))
        intents = self._intents(customer)
        era = Era.CHATTY if self._wave and self._rng.random() < _CHATTY else Era.FORMAL
        for _ in range(20):
            request = self._grammar.draw(intents, era)
            if new := request.text.casefold() not in self._seen:
                break
        self._seen.add(request.text.casefold())
        later = CHANGED if self._wave > 1 else {}
        return Asked(
            text=request.text,
            customer=f"customer-{customer:03}",
            intent=request.intent,
            right=later.get(request.intent, ANSWERS[request.intent]),
            before=(ANSWERS[request.intent],),
            first_time=new,
        )

    def change(self) -> str:
        self._wave += 1
        if self._wave == 1:
            return "customers speak otherwise, of other products, and ask about subscriptions"
        return f"{len(CHANGED)} answers are no more right, and customers ask about gift cards and points"

    def _intents(self, customer: int) -> Sequence[str]:
        if self._wave and self._rng.random() < _NEW:
            return WAVES[self._wave - 1]
        if self._rng.random() < _USUAL:
            return [str(intent) for intent in self._usual[customer]]
        return FIRST_INTENTS + sum(WAVES[: max(0, self._wave - 1)], ())


_BEGUN, _APPROVED = 0.7, 0.4  # shares: of the replies at the start, and of their questions that are approved
_REWRITTEN = 0.15  # of the replies
_ASKED_AT_ONCE = 0.4  # of the questions that a change brings, before its version may begin
_MADE_UP = ("Zenith", "Nova", "Orbit")


class FileDesk:
    """Questions and replies of a file: some replies come later, products get other names, answers change. See `Desk`.

    Questions are asked in a drawn order, each once, and then again. What is asked again is no new label: a version is
    learnt after a third of what a change brings, and less than half of that is asked before it may begin.
    """

    def __init__(self, name: str, read: ReplyFile, seed: int) -> None:
        self._name, self._rng = name, np.random.default_rng(seed)
        replies = [read.replies[at] for at in self._rng.permutation(len(read.replies))]
        begun = int(_BEGUN * len(replies))
        middle = (begun + len(replies)) // 2
        comes = {reply.id: (place >= begun) + (place >= middle) for place, reply in enumerate(replies)}
        self._reply: Mapping[str, Reply] = {reply.id: reply for reply in replies}
        asked = [read.questions[at] for at in self._rng.permutation(len(read.questions))]
        mine = [[question for question in asked if comes[question.reply] == wave] for wave in range(3)]
        approved = int(_APPROVED * len(mine[0]))
        self.first = ReplyFile(
            replies=tuple(reply for reply in replies if comes[reply.id] == 0), questions=tuple(mine[0][:approved])
        )
        self._waiting = [mine[0][approved:], *mine[1:]]
        if min(map(len, self._waiting)) < 10:
            raise DataError(f"{name} has {len(asked)} questions; a demonstration needs a hundred and more")
        brought = min(map(len, self._waiting[1:]))
        self.learns_after = min(_LEARNS_AFTER, max(3, brought // 3))
        self.lived = min(_LIVED, int(_ASKED_AT_ONCE * brought / _NEW))
        self._rewritten = {reply.id for reply in replies if self._rng.random() < _REWRITTEN}
        self._names = dict(zip(_names(reply.text for reply in replies), _MADE_UP, strict=False))
        self._used = [0, 0, 0]
        self._wave = 0

    @property
    def name(self) -> str:
        return self._name

    def draw(self) -> Asked:
        wave = self._wave if self._wave and self._rng.random() < _NEW else 0
        if wave == 0 and self._wave > 1 and self._rng.random() < _NEW / 2:
            wave = 1
        pool, place = self._waiting[wave], self._used[wave]
        self._used[wave] += 1
        question = pool[place % len(pool)]
        reply = self._reply[question.reply]
        return Asked(
            text=self._named(question.text, self._wave),
            customer=f"customer-{int(self._rng.integers(_CUSTOMERS)):03}",
            intent=reply.intent,
            right=self._now(reply, self._wave),
            before=tuple(self._now(reply, wave) for wave in range(self._wave)),
            first_time=place < len(pool),
        )

    def change(self) -> str:
        self._wave += 1
        if self._wave == 1:
            renamed = ", ".join(f"{old} is now {new}" for old, new in self._names.items())
            return f"products get other names ({renamed}), and questions come that no reply is known for"
        return f"{len(self._rewritten)} answers are written anew, and more new questions come"

    def _now(self, reply: Reply, wave: int) -> str:
        text = self._named(reply.text, wave)
        return f"As of this month: {text}" if wave > 1 and reply.id in self._rewritten else text

    def _named(self, text: str, wave: int) -> str:
        if wave > 0:
            for old, new in self._names.items():
                text = re.sub(rf"\b{re.escape(old)}\b", new, text)
        return text


def _names(texts: Iterable[str]) -> list[str]:
    """The words that are most often written with a capital inside a sentence: names of products and of their makers."""
    found = Counter(word for text in texts for word in set(re.findall(r"(?<=[a-z,] )[A-Z][A-Za-z]{4,}\b", text)))
    return [word for word, _ in found.most_common(len(_MADE_UP))]
