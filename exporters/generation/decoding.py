"""Tokens one after the other: what is the same whichever runtime works out the next one.

An engine keeps no conversation. What it has worked out of a beginning it remembers for a while, so that whoever asks
for the next few tokens of the same text, or for another text with the same beginning, pays for what is new alone.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from perennial.continual.tasks.generation.guide import Guide, guide_for
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.generation.codec import Codec, text_of
from perennial.exporters.generation.signature import (
    APPROVED,
    GREETED,
    LOGITS,
    MANNER,
    PROMPT,
    STEPS,
    TOKENS,
    TOP,
    WRITTEN,
)
from perennial.exporters.signature import Array

__all__ = ["DecodingEngine", "Past", "StepModel"]

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_REMEMBERED_BYTES = 192 * 2**20
_TRIED = 48  # likeliest tokens that a guide is asked about
_LEAST_SHARED = 8  # tokens; a shorter beginning is worked out again


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Past:
    """Keys and values of so many tokens, two arrays (1, heads, tokens, width) a layer."""

    arrays: tuple[Array, ...]

    @property
    def tokens(self) -> int:
        """How many."""
        return int(self.arrays[0].shape[2])

    @property
    def size_bytes(self) -> int:
        """What it takes."""
        return sum(array.nbytes for array in self.arrays)

    def first(self, tokens: int) -> "Past":
        """Of the first tokens alone."""
        return Past(arrays=tuple(np.ascontiguousarray(array[:, :, :tokens]) for array in self.arrays))


class StepModel(Protocol):
    """A decoder in one runtime. Safe to share between threads."""

    @property
    def nothing(self) -> Past:
        """The past of no token."""
        ...

    def step(self, ids: Ids, past: Past) -> tuple[Floats, Past]:
        """The logits (V,) of the token that follows, and the past with these tokens (n,), at least one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    ids: Ids
    past: Past
    logits: Floats

    @property
    def size_bytes(self) -> int:
        return self.past.size_bytes + self.logits.nbytes + self.ids.nbytes


class _Beginnings:
    """What was worked out last, within a bound of memory."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def of(self, ids: Ids) -> _Known | None:
        """The one that shares the most tokens with these from the first on."""
        with self._lock:
            known = list(self._known.values())
        best = max(known, key=lambda each: _shared(each.ids, ids), default=None)
        return None if best is None or _shared(best.ids, ids) < _LEAST_SHARED else best

    def keep(self, one: _Known, *, instead_of: _Known | None = None) -> None:
        """Remember one; `instead_of` is a beginning of it that nobody needs apart from it."""
        with self._lock:
            if instead_of is not None:
                self._forget(instead_of.ids.tobytes())
            self._forget(one.ids.tobytes())
            self._known[one.ids.tobytes()] = one
            self._bytes += one.size_bytes
            while self._bytes > _REMEMBERED_BYTES and len(self._known) > 1:
                self._forget(next(iter(self._known)))

    def _forget(self, key: bytes) -> None:
        if (gone := self._known.pop(key, None)) is not None:
            self._bytes -= gone.size_bytes


class _Turns:
    """Whoever waits longest computes next: a long text holds up a short one for no more than a token."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._next = self._serving = 0

    def __enter__(self) -> None:
        with self._condition:
            mine, self._next = self._next, self._next + 1
            self._condition.wait_for(lambda: self._serving == mine)

    def __exit__(self, *error: object) -> None:
        with self._condition:
            self._serving += 1
            self._condition.notify_all()


class DecodingEngine:
    """A decoder that writes the likeliest tokens; where it is guided, the likeliest of those that change nothing."""

    def __init__(self, model: StepModel, codec: Codec) -> None:
        self._model, self._codec = model, codec
        self._ends = frozenset(codec.prompt.ends)
        self._beginnings, self._turns = _Beginnings(), _Turns()

    def infer(self, inputs: Inputs) -> Outputs:
        """See `perennial.exporters.engine.Engine`.

        A row with fewer tokens than steps is at its end; one has more where its last word takes several.
        """
        rows = [self._row(inputs, place) for place in range(len(inputs[PROMPT]))]
        width = max(1, *(len(tokens) for tokens, _ in rows))
        tokens = np.zeros((len(rows), width), dtype=np.int64)
        for place, (written, _) in enumerate(rows):
            tokens[place, : len(written)] = np.asarray(written, dtype=np.int64) + 1
        return {TOKENS: tokens, LOGITS: np.stack([highest for _, highest in rows])}

    def _row(self, inputs: Inputs, place: int) -> tuple[list[int], Floats]:
        prompt, before = _real(inputs[PROMPT][place]), _real(inputs[WRITTEN][place])
        steps = int(inputs[STEPS][place, 0])
        if not len(prompt) or steps < 1:
            return [], np.zeros(TOP, dtype=np.float32)
        approved = text_of(inputs[APPROVED][place])
        guide = (
            guide_for(approved, text_of(inputs[GREETED][place]), text_of(inputs[MANNER][place])) if approved else None
        )
        return self._write(prompt, before, steps, guide)

    def _write(self, prompt: Ids, before: Ids, steps: int, guide: Guide | None) -> tuple[list[int], Floats]:
        known = begun = self._begin(np.concatenate([prompt, before]))
        first = np.sort(known.logits)[::-1][:TOP].astype(np.float32)
        written: list[int] = before.tolist()
        while len(written) - len(before) < steps:
            chosen = self._choose(known.logits, written, guide)
            if not chosen or len(known.ids) + len(chosen) >= self._codec.part.positions:
                break
            written += chosen
            known = self._after(known, chosen)
        self._beginnings.keep(known, instead_of=begun if len(before) else None)  # a text that goes on takes one place
        return written[len(before) :], first

    def _begin(self, ids: Ids) -> _Known:
        known = self._beginnings.of(ids)
        shared = 0 if known is None else _shared(known.ids, ids)
        if known is not None and shared == len(ids) == len(known.ids):
            return known
        past = self._model.nothing
        if known is not None:
            shared = min(shared, len(ids) - 1)
            past = known.past if shared == known.past.tokens else known.past.first(shared)
        with self._turns:
            logits, past = self._model.step(ids[shared:], past)
        begun = _Known(ids=ids, past=past, logits=logits)
        self._beginnings.keep(begun)
        return begun

    def _after(self, known: _Known, chosen: Sequence[int]) -> _Known:
        more = np.array(chosen, dtype=np.int64)
        with self._turns:
            logits, past = self._model.step(more, known.past)
        return _Known(ids=np.concatenate([known.ids, more]), past=past, logits=logits)

    def _choose(self, logits: Floats, written: Sequence[int], guide: Guide | None) -> list[int]:
        """The token that follows, or all of a word that nothing else may stand for; none at the end."""
        if guide is None:
            best = int(logits.argmax())
            return [] if best in self._ends else [best]
        before = self._text(written)
        if only := guide.only(before):  # no choice, and so no need to ask: many tokens cost about as much as one
            return list(self._codec.tokenizer.encode(only, add_special_tokens=False).ids)
        likely = np.argpartition(logits, -_TRIED)[-_TRIED:] if len(logits) > _TRIED else np.arange(len(logits))
        for token in likely[np.argsort(-logits[likely], kind="stable")].tolist():
            if token in self._ends:
                if guide.done(before):
                    return []
            elif len(text := self._text([*written, token])) > len(before) and guide.fits(text):
                return [int(token)]
        onward = guide.onward(before)
        return list(self._codec.tokenizer.encode(onward, add_special_tokens=False).ids) if onward else []

    def _text(self, ids: Sequence[int]) -> str:
        """What is written so far, without a last character that is not whole yet."""
        return str(self._codec.tokenizer.decode(list(ids), skip_special_tokens=True)).lstrip().rstrip("\ufffd")


def _real(row: Array) -> Ids:
    return row[row > 0] - 1


def _shared(one: Ids, other: Ids) -> int:
    least = min(len(one), len(other))
    differ = np.flatnonzero(one[:least] != other[:least])
    return int(differ[0]) if len(differ) else least
