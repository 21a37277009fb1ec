"""Streams of rewrites: pieces in order, bounds, callers who go away, and what is left of each."""

import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from perennial.continual.errors import DependencyUnreachable, Refused
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.generation.codec import Codec, numbers
from perennial.exporters.generation.signature import LOGITS, STEPS, TOKENS, WRITTEN
from perennial.exporters.signature import Array
from perennial.ops.serving.streaming import Stream, Streams
from perennial.ops.serving.tasks.generation import Told

TOLD = Told(answer="x", rewritten="x", let_through=True, why="", tokens=3)


class Letters:
    """Tokens are letters; `~` is half of a character."""

    def text(self, ids: Array) -> str:
        return "".join(chr(each) for each in ids.tolist()).replace("~", "\ufffd").strip()


class Writer:
    """An engine that writes a text, some tokens a call."""

    def __init__(self, text: str, before: Callable[[], None] = lambda: None) -> None:
        self.text, self.calls, self.before = text, list[int](), before

    def __call__(self, version: int, inputs: Inputs) -> Outputs:
        self.before()
        start, steps = int((inputs[WRITTEN] > 0).sum()), int(inputs[STEPS][0, 0])
        self.calls.append(steps)
        assert "stream" not in inputs
        return {
            TOKENS: numbers([[ord(each) for each in self.text[start : start + steps]]]),
            LOGITS: np.full((1, 16), float(start), np.float32),
        }


def opened(streams: Streams, **given: Any) -> tuple[int, Stream, list[tuple[str, int]]]:
    sent: list[tuple[str, int]] = []
    stream = Stream(
        lambda piece, index: sent.append((piece, index)),
        is_cancelled=given.get("is_cancelled", lambda: False),
        deadline=given.get("deadline", time.monotonic() + 60),
    )
    stream.codec = cast("Codec", Letters())
    return streams.begin(stream), stream, sent


def ask(streams: Streams, number: int, steps: int = 100) -> Outputs:
    rows = {STEPS: np.array([[steps]], dtype=np.int64), "stream": np.array([[number]], dtype=np.int64)}
    return streams.ask(1, rows)


def test_pieces_are_the_whole_and_whole_characters_alone() -> None:
    writer = Writer("Hello~ Jo, fine.")
    streams = Streams(writer, most=1)
    number, stream, sent = opened(streams)
    outputs = ask(streams, number)
    assert "".join(piece for piece, _ in sent).replace("\ufffd", "~") == writer.text
    assert [index for _, index in sent] == [sum(len(p) for p, _ in sent[:n]) for n in range(len(sent))]
    assert sent[0] == ("H", 0)
    assert (outputs[TOKENS] > 0).sum() == len(writer.text) == stream.tokens
    assert not outputs[LOGITS].any(), "those of the first token"
    assert writer.calls[0] == 1, "the first token comes soon"


def test_no_more_is_written_than_was_asked_for() -> None:
    streams = Streams(Writer("x" * 50), most=1)
    number, stream, _ = opened(streams)
    assert (ask(streams, number, steps=10)[TOKENS] > 0).sum() == 10 == stream.tokens


def test_a_second_version_begins_anew() -> None:
    streams = Streams(Writer("Hello"), most=1)
    number, _, sent = opened(streams)
    ask(streams, number)
    ask(streams, number)
    assert [index for _, index in sent].count(0) == 2


def test_one_too_many_is_refused_and_told_when_to_come_back() -> None:
    streams = Streams(Writer("x"), most=2)
    first, *_ = opened(streams)
    opened(streams)
    with pytest.raises(DependencyUnreachable, match="retry after 1 s"):
        opened(streams)
    streams.end(first, TOLD)
    opened(streams)
    assert (streams.figures.refused, streams.figures.begun, streams.figures.under_way) == (1, 3, 2)


def test_who_goes_away_or_is_late_is_written_for_no_longer() -> None:
    gone = False

    def leave() -> None:
        nonlocal gone
        gone = True

    writer = Writer("x" * 50, leave)
    streams = Streams(writer, most=4)
    number, *_ = opened(streams, is_cancelled=lambda: gone)
    with pytest.raises(Refused, match="went away"):
        ask(streams, number)
    assert len(writer.calls) == 1
    late, *_ = opened(streams, deadline=time.monotonic() - 1)
    with pytest.raises(DependencyUnreachable, match="longer than its deadline"):
        ask(streams, late)
    streams.end(number, None)
    with pytest.raises(Refused, match="went away"):
        ask(streams, number)
    assert len(writer.calls) == 1


def test_the_figures_tell_what_became_of_each() -> None:
    streams = Streams(Writer("Hello"), most=4)
    for told in (TOLD, TOLD._replace(let_through=False), None):
        number, *_ = opened(streams)
        ask(streams, number)
        streams.end(number, told)
    figures = streams.figures
    assert (figures.let_through, figures.as_approved, figures.cancelled, figures.under_way) == (1, 1, 1, 0)
    assert figures.tokens == 15
    assert figures.first_token_s >= 0
