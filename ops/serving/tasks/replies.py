"""Replies at the router: messages in; their intent, approved replies and what to do with them out."""

import json
import math
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from perennial.client.replies import SuggestedReplies, message_tensors, replies_in
from perennial.continual.errors import DataError, NotFound, PerennialError
from perennial.continual.learning.replies import Action, Library, Matcher, Sending, SendingRule, fill, key_of, proves
from perennial.continual.learning.replies.index import LibraryIndex, Past, Suggested, Wanted
from perennial.continual.preparation import admit_key, deidentify
from perennial.continual.preparation.characters import SURROGATE
from perennial.continual.tasks.replies import Message, Turn, message_of
from perennial.exporters.replies.signature import (
    ACTION,
    CUSTOMER,
    LANGUAGE,
    MOST_REPLIES,
    REASON,
    REPLIES,
    REPLIES_ROUTER,
    REPLY_IDS,
    REPLY_SCORES,
    TURNS,
    VALUES,
)
from perennial.exporters.signature import Array, EngineSignature, RouterSignature
from perennial.exporters.text_classification.signature import (
    INPUT_IDS,
    TEXT_ENGINE,
)
from perennial.exporters.text_classification.tokens import token_key
from perennial.ops.serving.file_memory import FileMemory
from perennial.ops.serving.port import FurtherProof
from perennial.ops.serving.tasks.text_classification import SIDE as OF_TEXTS
from perennial.ops.serving.tasks.text_classification import Classified, Floats, TextVersion
from perennial.ops.serving.tensors import column, decoded, one_a_row, read_json, wide
from perennial.ops.store.reply_store import Habits, ReplyStore
from perennial.ops.store.sending_rule import read_rule

__all__ = ["SIDE", "Answered", "RepliesVersion"]

_WAIT_S = 0.05  # for a locked library, at most
_MOST_CUSTOMERS = 10_000  # whose history is kept in memory
_PROOF_WAIT_S, _MOST_PROVING = 10.0, 200  # held-out questions that are asked of both versions
_AT_ONCE = 24  # texts of the library whose embeddings an engine is asked for beside a request
_MOST_TURNS, _MOST_BYTES = 20, 50_000  # as JSON


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shelf:
    """What may be answered now, and whether it may be sent."""

    library: Library
    sending: Sending


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    """What was read of the file in one state; what was settled with each customer is read when they ask."""

    state: tuple[object, int]
    shelf: _Shelf
    habits: Habits
    customers: dict[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recalled(Message):
    """A message with what is known now: the library, and what was settled before."""

    shelf: _Shelf | None = None
    past: Past = field(default_factory=Past)


class Answered(NamedTuple):
    """One message's answer: its intent, the replies with their variables filled in, and what to do."""

    said: Classified
    suggested: tuple[Suggested, ...] = ()
    texts: tuple[str, ...] = ()
    action: Action = Action.HAND_OVER

    @property
    def kept(self) -> str:
        """The intent."""
        return self.said.label

    @property
    def confidence(self) -> float:
        """The intent's."""
        return self.said.confidence

    @property
    def embedding(self) -> Floats:
        """The text's."""
        return self.said.embedding


class RepliesVersion:
    """A text classifier's version with the weights of a matcher, and the library as it sees it."""

    def __init__(self, texts: TextVersion, matcher: Matcher) -> None:
        self._texts, self._matcher = texts, matcher
        self._vectors: dict[str, Floats] = dict(matcher.vectors)
        self._asked: dict[bytes, str] = {}  # token rows of library texts that an engine was asked about
        self._index: LibraryIndex | None = None
        self._lock = threading.Lock()

    @property
    def signature(self) -> EngineSignature:
        """The classifier's."""
        return self._texts.signature

    @property
    def vocabulary(self) -> frozenset[str]:
        """The intents."""
        return self._texts.vocabulary

    def encode(self, inputs: Sequence[str | Message]) -> Mapping[str, Array]:
        """The messages, then some texts of the library whose embeddings are not known yet."""
        messages = [message_of(asked) for asked in inputs]
        index = self._index_of(messages)
        new = [] if index is None else index.without_vector(self._vectors, _AT_ONCE)
        rows = self._texts.encode([*(message.text for message in messages), *new])
        for text, row in zip(new, range(len(messages), len(messages) + len(new)), strict=True):
            self._asked[token_key(rows, row)] = key_of(text)
        return rows

    def answers(
        self,
        task_inputs: Sequence[str | Message],
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        *,
        within: frozenset[str] | None = None,
    ) -> list[Answered]:
        """The messages' intents, replies and actions."""
        messages = [message_of(asked) for asked in task_inputs]
        count = len(messages)
        everything = self._texts.answers(
            [message.text for message in messages] + [""] * (len(inputs[INPUT_IDS]) - count),
            inputs,
            outputs,
            within=within,
        )
        for row in range(count, len(everything)):
            if (key := self._asked.get(token_key(inputs, row))) is not None:
                self._vectors[key] = _unit(everything[row].embedding)
        said = everything[:count]
        index = self._index_of(messages)
        if index is None:
            return [Answered(one) for one in said]
        wanted = [self._wanted(message, one) for message, one in zip(messages, said, strict=True)]
        found = index.suggested(wanted, self._vectors, at=datetime.now(UTC), most=MOST_REPLIES)
        return [_answered(*each) for each in zip(messages, said, found, strict=True)]

    def _wanted(self, message: Message, said: Classified) -> Wanted:
        return Wanted(
            text=message.text,
            embedding=_unit(said.embedding),
            intents=dict(zip(said.labels, said.scores.tolist(), strict=True)),
            language=message.language,
            past=message.past if isinstance(message, _Recalled) else Past(),
        )

    def _index_of(self, messages: Sequence[Message]) -> LibraryIndex | None:
        """The newest library that the messages came with; the last one known where they came with none."""
        shelves = [
            message.shelf for message in messages if isinstance(message, _Recalled) and message.shelf is not None
        ]
        if not shelves:
            return None
        newest = max((shelf.library for shelf in shelves), key=lambda library: library.revision)
        with self._lock:
            if self._index is None or self._index.revision < newest.revision:
                self._index = LibraryIndex(newest, self._matcher, self._index)
                self._forget(newest)
            return self._index

    def _forget(self, library: Library) -> None:
        """Drop embeddings of texts that are no more in the library."""
        kept = {key_of(text) for text in library.texts}
        for key in [key for key in self._vectors if key not in kept]:
            del self._vectors[key]
        self._asked.clear()


def _answered(message: Message, said: Classified, suggested: Sequence[Suggested]) -> Answered:
    filled = [fill(one.reply.text, message.values) for one in suggested]
    if not suggested or not isinstance(message, _Recalled) or message.shelf is None:
        return Answered(said)
    action = message.shelf.sending.action(suggested[0].sure, known=said.known is not False, whole=not filled[0][1])
    return Answered(said, tuple(suggested), tuple(text for text, _ in filled), action)


class _Library(FileMemory):
    """The library and what was settled, for messages of now. See `perennial.ops.serving.port.Memory`.

    It is read again once any process has written the file, and not before.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__("library.unread")
        self._store = None if path is None else ReplyStore(path, wait_s=_WAIT_S)
        self._known: _Known | None = None
        self._lock = threading.Lock()

    def recalled(self, inputs: Sequence[str | Message]) -> Sequence[str | Message]:
        """Each with the library of now; where it cannot be read, the one that was read last."""
        if self._store is None:
            return inputs
        messages = [message_of(asked) for asked in inputs]
        known = self._known
        shelf, habits = None if known is None else known.shelf, Habits(overall={}, after={})
        try:
            known = self._current(self._store)
            shelf, habits = known.shelf, self._habits(self._store, known, messages)
        except PerennialError as exc:
            self.failed(len(messages), exc)
        else:
            self.worked()
        return [_recalled(message, shelf, habits) for message in messages]

    def _current(self, store: ReplyStore) -> _Known:
        with self._lock:
            state = store.state  # before the rest: what is written meanwhile is read with the next message
            if self._known is None or self._known.state != state:
                rule = read_rule(store)
                right, judged = store.would_have_sent(rule.sure, last=rule.last) if rule.precision else (0, 0)
                library = None if self._known is None else self._known.shelf.library
                if library is None or library.revision != store.revision:
                    library = store.library()
                shelf = _Shelf(library=library, sending=Sending.of(rule, right=right, judged=judged))
                self._known = _Known(state=state, shelf=shelf, habits=store.habits())
            return self._known

    def _habits(self, store: ReplyStore, known: _Known, messages: Sequence[Message]) -> Habits:
        """What was settled with everybody, and, where the rule lets it count, with those who ask."""
        if not known.shelf.sending.rule.personal:
            return known.habits
        asking = {message.customer for message in messages if message.customer}
        found = {customer: known.customers.get(customer) for customer in asking}
        if new := [customer for customer, settled in found.items() if settled is None]:
            read = store.settled_with(new)
            found |= read
            if len(known.customers) < _MOST_CUSTOMERS:
                known.customers.update(read)
        return replace(known.habits, of={customer: settled or {} for customer, settled in found.items()})


def _recalled(message: Message, shelf: _Shelf | None, habits: Habits) -> Message:
    fields = {name: getattr(message, name) for name in Message.__dataclass_fields__}
    previous = _previous(message, shelf)
    past = Past(
        overall=habits.overall, after=habits.after.get(previous, {}), customer=habits.of.get(message.customer, {})
    )
    return _Recalled(**fields, shelf=shelf, past=past)


def _previous(message: Message, shelf: _Shelf | None) -> str:
    """The intent of the turn before, by itself or by its reply."""
    for turn in reversed(message.turns):
        if turn.intent:
            return turn.intent
        if turn.reply and shelf is not None:
            return next((reply.intent for reply in shelf.library.replies if reply.id == turn.reply), "")
    return ""


class _Replies:
    """See `perennial.ops.serving.port.ServingSide`."""

    name: ClassVar[str] = "replies"
    signature: ClassVar[RouterSignature] = REPLIES_ROUTER
    engine: ClassVar[EngineSignature] = TEXT_ENGINE
    probe: ClassVar[Message] = Message(text="are you there")
    remembers: ClassVar[bool] = True
    reads_slowly: ClassVar[bool] = False
    input_columns: ClassVar[tuple[str, ...]] = ("text", "language", "previous")

    def request(self, inputs: Sequence[str | Message]) -> Mapping[str, Array]:
        return message_tensors([message_of(asked) for asked in inputs])

    def received(self, outputs: Mapping[str, Array]) -> list[SuggestedReplies]:
        return replies_in(outputs)

    def sizes(self, tensors: Mapping[str, Array]) -> list[int]:
        return OF_TEXTS.sizes(tensors)

    def questions(self, tensors: Mapping[str, Array], *, max_characters: int) -> list[Message]:
        texts = OF_TEXTS.questions(tensors, max_characters=max_characters)
        columns = [one_a_row(tensors, name, len(texts)) for name in (CUSTOMER, LANGUAGE, TURNS, VALUES)]
        return [
            Message(
                text=text,
                customer=admit_key(decoded(CUSTOMER, row, customer), field=f"{CUSTOMER} of row {row}") or "",
                language=admit_key(decoded(LANGUAGE, row, language), field=f"{LANGUAGE} of row {row}") or "",
                turns=_turns(row, turns),
                values=_values(row, values),
            )
            for row, (text, customer, language, turns, values) in enumerate(zip(texts, *columns, strict=True))
        ]

    def caller(self, task_input: Message) -> str:
        return task_input.customer

    def memory(self, path: Path | None) -> _Library:
        return _Library(path)

    def further_proofs(self, path: Path | None) -> Sequence[FurtherProof]:
        """The right reply is found for held-out questions as if they were not approved: 1 first, 1/2 second, 1/3."""
        if path is None or not path.is_file():
            return ()
        with ReplyStore(path, wait_s=_PROOF_WAIT_S) as store:
            library = store.library()
        right: dict[str, set[str]] = {}
        for question in library.questions:
            if question.weight > 0 and proves(question.text):
                right.setdefault(question.text, set()).add(question.reply)
        asked = sorted(right, key=key_of)[:_MOST_PROVING]
        bare = Library(
            replies=library.replies,
            questions=tuple(question for question in library.questions if question.text not in right),
            revision=library.revision + 1,  # newer than what anybody else of this process has
        )
        shelf = _Shelf(library=bare, sending=Sending.of(SendingRule(), right=0, judged=0))
        inputs = [_Recalled(text=text, shelf=shelf) for text in asked]
        return (
            FurtherProof(
                name=REPLIES.lower(),
                inputs=inputs,
                strata=[REPLIES.lower()] * len(inputs),
                scores=lambda answers: [_place(one, right[text]) for one, text in zip(answers, asked, strict=True)],
                before=inputs[:1] * -(-len(bare.texts) // _AT_ONCE),
            ),
        )

    def open(self, bundle: Path, *, proved: bool = False) -> RepliesVersion:
        try:
            matcher = Matcher.read(bundle, proved=proved)
        except DataError as exc:
            raise NotFound(f"version folder {bundle} cannot be read ({exc}); restore it or route elsewhere") from exc
        return RepliesVersion(OF_TEXTS.open(bundle, proved=proved), matcher)

    def outcomes(self, bundle: Path) -> None:
        return

    def tensors(self, answers: Sequence[Answered], wanted: frozenset[str]) -> Mapping[str, Array]:
        """The classifier's tensors with the replies; a missing place has an empty id, and 0."""
        made = dict(OF_TEXTS.tensors([answer.said for answer in answers], wanted))
        if ACTION in wanted:
            made[ACTION] = column([answer.action.value.encode() for answer in answers], np.object_)
        if REPLY_IDS in wanted:
            made[REPLY_IDS] = _of_replies([[one.reply.id for one in answer.suggested] for answer in answers])
        if REPLIES in wanted:
            made[REPLIES] = _of_replies([answer.texts for answer in answers])
        if REASON in wanted:
            made[REASON] = _of_replies([[one.reason for one in answer.suggested] for answer in answers])
        if REPLY_SCORES in wanted:
            sure = [[one.sure for one in answer.suggested] for answer in answers]
            made[REPLY_SCORES] = wide(sure, 0.0, np.float32, width=MOST_REPLIES)
        return made

    def logged_input(self, logged: Mapping[str, Any]) -> Message | None:
        """Without whose it was and what was said before, but for the intent of it."""
        if (text := OF_TEXTS.logged_input(logged)) is None:
            return None
        turns = (Turn(intent=logged["previous"]),) if logged["previous"] else ()
        return Message(text=text, language=logged["language"], turns=turns)

    def columns(self, inputs: Sequence[str | Message], answers: Sequence[Answered]) -> Mapping[str, Sequence[Any]]:
        messages = [message_of(asked) for asked in inputs]
        shelves = [message.shelf if isinstance(message, _Recalled) else None for message in messages]
        return {
            **OF_TEXTS.columns([message.text for message in messages], [answer.said for answer in answers]),
            "language": [message.language for message in messages],
            "previous": [
                deidentify(_previous(message, shelf)) for message, shelf in zip(messages, shelves, strict=True)
            ],
            "replies": [
                json.dumps([[one.reply.id, one.reply.version, round(one.sure, 6)] for one in answer.suggested])
                for answer in answers
            ],
            "action": [answer.action.value for answer in answers],
        }


def _place(answer: Answered, right: Collection[str]) -> float:
    """How early the first right reply comes."""
    places = (place for place, one in enumerate(answer.suggested, start=1) if one.reply.id in right)
    return 1.0 / next(places, math.inf)


def _unit(embedding: Floats) -> Floats:
    length = float(np.linalg.norm(embedding))
    made: Floats = (embedding / length if length > 0 else embedding).astype(np.float32)
    return made


def _of_replies(rows: Sequence[Sequence[str]]) -> Array:
    return wide([[value.encode() for value in row] for row in rows], b"", np.object_, width=MOST_REPLIES)


def _turns(row: int, raw: bytes) -> tuple[Turn, ...]:
    """Turns out of a JSON list of texts, or of objects with `text`, `intent` and `reply`."""
    if not raw.strip():
        return ()
    named = read_json(TURNS, row, raw, most=_MOST_BYTES, fewer="send less", send="a list of turns")
    turns: list[Any] = named if isinstance(named, list) else [None]
    turns = [{"text": one} if isinstance(one, str) else one for one in turns]
    if not all(_are_texts(one) and one.keys() <= {"text", "intent", "reply"} for one in turns):
        raise DataError(
            f'{TURNS} of row {row} is no JSON list of turns; send e.g. [{{"text": "my card", "intent": "lost_card"}}]'
        )
    return tuple(Turn(**one) for one in turns[-_MOST_TURNS:])


def _values(row: int, raw: bytes) -> dict[str, str]:
    """Values out of a JSON object of texts."""
    if not raw.strip():
        return {}
    named = read_json(VALUES, row, raw, most=_MOST_BYTES, fewer="send less", send="an object of texts")
    if not _are_texts(named):
        raise DataError(f'{VALUES} of row {row} is no JSON object of texts; send e.g. {{"name": "Jo"}}')
    return dict(named)


def _are_texts(named: Any) -> bool:
    return isinstance(named, dict) and all(isinstance(v, str) and not SURROGATE.search(v) for v in named.values())


SIDE = _Replies()
