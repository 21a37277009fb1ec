"""Rewrites that are sent while they are written: the router's own way, with an engine that is asked again and again.

Who streams asks for a few tokens at a time. Route, guard, log and everything else are the router's, which sees one call
of an engine. Nothing is kept between two calls but what the engine remembers of the beginning, so one that goes away,
or a version that is swapped out meanwhile, leaves nothing behind.
"""

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.errors import DependencyUnreachable, Refused
from perennial.continual.tasks.generation import Rewrite
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.generation.codec import Codec
from perennial.exporters.signature import Array
from perennial.ops.serving.tasks.generation import GenerationSide, GenerationVersion, Told
from perennial.ops.serving.writing import write

__all__ = ["Stream", "StreamFigures", "StreamedRewrite", "Streams", "streamed"]

_STREAM = "stream"  # the row of an engine's inputs that says whose they are; no engine sees it
_FIRST, _NEXT = 1, 4  # tokens of a call: the first one soon, the others with less to do about each

Send = Callable[[str, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedRewrite(Rewrite):
    """A rewrite, and the number of the stream that waits for it."""

    stream: int = 0


@dataclass(slots=True, kw_only=True)
class StreamFigures:
    """What the streams of a process came to; each figure only grows, but `under_way`."""

    begun: int = 0
    refused: int = 0
    cancelled: int = 0
    let_through: int = 0
    as_approved: int = 0
    tokens: int = 0
    first_token_s: float = 0.0  # the sum over streams
    writing_s: float = 0.0  # likewise, from the first token to the last
    under_way: int = 0


class Stream:
    """One caller that waits. `send` takes a piece of text and its place in all of it; 0 says that it begins anew."""

    def __init__(self, send: Send, *, is_cancelled: Callable[[], bool], deadline: float) -> None:
        self.send, self.is_cancelled, self.deadline = send, is_cancelled, deadline
        self.began, self.first_at, self.tokens = time.monotonic(), 0.0, 0
        self.codec: Codec | None = None

    def goes_on(self) -> bool:
        """True where it is worth going on.

        Raises:
            Refused: the caller went away; DependencyUnreachable: its time is over.
        """
        if self.is_cancelled():
            raise Refused("the caller went away")
        if time.monotonic() >= self.deadline:
            raise DependencyUnreachable("the rewrite took longer than its deadline; give it more time, or ask again")
        return True


class Streams:
    """The streams under way, at most so many; as the side and the engine that a router is given."""

    def __init__(self, ask_engine: Callable[[int, Inputs], Outputs], *, most: int) -> None:
        self._ask_engine, self._most = ask_engine, most
        self._open: dict[int, Stream] = {}
        self._numbers, self._lock = itertools.count(1), threading.Lock()
        self.figures = StreamFigures()

    def begin(self, stream: Stream) -> int:
        """The number of a stream.

        Raises:
            DependencyUnreachable: too many are under way.
        """
        with self._lock:
            if len(self._open) >= self._most:
                self.figures.refused += 1
                raise DependencyUnreachable(f"{self._most} rewrites are being written; retry after 1 s")
            number = next(self._numbers)
            self._open[number] = stream
            self.figures.begun += 1
            self.figures.under_way = len(self._open)
            return number

    def end(self, number: int, told: Told | None) -> None:
        """Forget a stream; `told` is what became of it."""
        with self._lock:
            stream = self._open.pop(number)
            self.figures.under_way = len(self._open)
            self.figures.tokens += stream.tokens
            if stream.first_at:
                self.figures.first_token_s += stream.first_at - stream.began
                self.figures.writing_s += time.monotonic() - stream.first_at
            if told is None:
                self.figures.cancelled += 1
            elif told.let_through:
                self.figures.let_through += 1
            else:
                self.figures.as_approved += 1

    def side(self) -> "_StreamedSide":
        """What the router is given in place of the task's side."""
        return _StreamedSide(self._open)

    def ask(self, version: int, inputs: Inputs) -> Outputs:
        """One row's whole answer, whose pieces are sent as they come."""
        number = int(inputs[_STREAM][0, 0])
        stream = self._open.get(number)
        rows = {name: array for name, array in inputs.items() if name != _STREAM}
        if stream is None or stream.codec is None:
            raise Refused("the caller went away")
        codec, sent = stream.codec, ""

        def wrote(tokens: list[int], new: int) -> None:
            nonlocal sent
            stream.tokens += new
            if new and not stream.first_at:
                stream.first_at = time.monotonic()
            text = codec.text(np.array(tokens, dtype=np.int64)).rstrip("\ufffd")
            if len(text) > len(sent) and text.startswith(sent):
                stream.send(text[len(sent) :], len(sent))
                sent = text

        ask = partial(self._ask_engine, version)
        return write(ask, rows, first=_FIRST, most=_NEXT, goes_on=stream.goes_on, wrote=wrote)


class _StreamedVersion(GenerationVersion):
    """A version whose engine inputs say whose they are."""

    def __init__(self, folder: Path, open_streams: Mapping[int, Stream]) -> None:
        super().__init__(folder)
        self._open = open_streams

    def encode(self, inputs: Sequence[Any]) -> Mapping[str, Array]:
        for each in inputs:
            if (stream := self._open.get(each.stream)) is not None:
                stream.codec = self.codec
        return {**super().encode(inputs), _STREAM: np.array([[each.stream] for each in inputs], dtype=np.int64)}


class _StreamedSide(GenerationSide):
    """The task's side for rewrites that are streamed."""

    def __init__(self, open_streams: Mapping[int, Stream]) -> None:
        self._open = open_streams

    def open(self, bundle: Path, *, proved: bool = False) -> _StreamedVersion:
        return _StreamedVersion(bundle, self._open)


def streamed(asked: Rewrite, number: int) -> StreamedRewrite:
    """The rewrite for the stream of this number."""
    return StreamedRewrite(**asdict(asked), stream=number)
