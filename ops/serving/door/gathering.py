"""Small questions of several clients that wait at the same time are asked as one, and each gets its own answer.

What Triton and a router process do for a request costs more than what they do for a text. So the questions that come
while others are being answered are put together: one to three batches' worth waits here instead of there.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from perennial.continual.errors import NotFound
from perennial.exporters.contract import KEY
from perennial.exporters.signature import BYTES
from perennial.exporters.text_classification.signature import TEXT
from perennial.ops.serving.door.answers import Reply
from perennial.ops.serving.door.inference import Inference, Input, Question
from perennial.ops.serving.door.requests import Refusal, Request
from perennial.ops.serving.door.together import Pieces, joined, split
from perennial.ops.serving.door.upstream import LEFT, Call, Done, Upstream
from perennial.ops.serving.hold import PATIENCE_S, Hold
from perennial.ops.serving.router.route import RouteFile

__all__ = ["Gathering"]

_ROWS = 16  # texts of a question that is put together with others
_BYTES = 16_384  # of its values
_UNDER_WAY = 2  # batches of one kind
_INPUTS = (frozenset({TEXT}), frozenset({TEXT, KEY}))


@dataclass(slots=True, eq=False)
class _Asked:
    """A question that waits, or that was asked by a call together with others."""

    request: Request
    question: Question
    rows: int
    at: float
    done: Done
    call: Call | None = None
    together: "Sequence[_Asked]" = ()  # while that call is under way; none where it was asked for this one alone
    left: bool = False

    @property
    def id(self) -> str:
        """What the client calls it."""
        return self.question.inference.id


class Gathering:
    """Puts questions together, a line for each kind of them.

    Only questions that mean the same alone and together: texts of a model that has no challenger just now, without
    options, not many at once. All others are handed on as they are.
    """

    def __init__(self, upstream: Upstream, routes: Path, *, most: int) -> None:
        self._upstream, self._routes, self._most = upstream, routes, most
        self._files: dict[str, RouteFile] = {}
        self._lines: dict[tuple[bytes, ...], _Line] = {}

    def takes(self, request: Request, question: Question, done: Done) -> Callable[[], None] | None:
        """What to call when its client leaves, where it is answered here; `done` is called once then."""
        rows = _rows_of(question)
        if not rows or rows > min(_ROWS, self._most) or not self._is_whole(request.target):
            return None
        kind = _kind_of(request, question.inference)
        line = self._lines.get(kind)
        if line is None:
            line = self._lines[kind] = _Line(self._upstream, self._most, lambda: self._lines.pop(kind, None))
        asked = _Asked(request, question, rows, asyncio.get_running_loop().time(), done)
        line.add(asked)
        return partial(line.leave, asked)

    def _is_whole(self, target: bytes) -> bool:
        """Whether all questions of a model go to one version: a challenger's callers must not wait for each other."""
        model = target.split(b"/")[3].decode("ascii")
        file = self._files.get(model)
        if file is None:
            if not (self._routes / f"{model}.json").is_file():  # a name that nothing answers is kept nowhere
                return False
            file = self._files[model] = RouteFile(self._routes / f"{model}.json")
        try:
            return not file.current().share
        except NotFound:
            return False


class _Line:
    """Questions of one kind, first come, first served.

    One that waits for `PATIENCE_S` is handed on alone, and has its place in the router's queue.
    """

    def __init__(self, upstream: Upstream, most: int, when_empty: Callable[[], object]) -> None:
        self._upstream, self._most, self._when_empty = upstream, most, when_empty
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Asked] = deque()
        self._rows = 0
        self._under_way: list[int] = []  # rows of each batch
        self._hold = Hold(most)
        self._timer: asyncio.TimerHandle | None = None

    def add(self, asked: _Asked) -> None:
        self._waiting.append(asked)
        self._rows += asked.rows
        self._go_on()

    def leave(self, asked: _Asked) -> None:
        """Its client left: it waits no longer, and what was asked for those alone who left is given up."""
        asked.left = True
        if asked.call is not None:
            if all(each.left for each in asked.together):
                asked.call.leave()
        elif asked in self._waiting:
            self._waiting.remove(asked)
            self._rows -= asked.rows
            asked.done(LEFT)
            self._go_on()

    def _go_on(self) -> None:
        """Send what is to be sent, and look again in time."""
        while self._waiting and self._may_send():
            self._send(self._next())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            now = self._loop.time()
            until = self._waiting[0].at + PATIENCE_S
            if self._has_place():
                until = min(until, max(now, self._held_until()))
            self._timer = self._loop.call_at(until, self._look)
        elif not self._under_way:
            self._timer = self._loop.call_later(PATIENCE_S, self._leave)

    def _leave(self) -> None:
        if not self._waiting and not self._under_way:
            self._when_empty()

    def _look(self) -> None:
        late = self._loop.time() - PATIENCE_S
        while self._waiting and self._waiting[0].at <= late:
            self._ask_alone(self._take())
        self._go_on()

    def _may_send(self) -> bool:
        return self._has_place() and self._loop.time() >= self._held_until()

    def _has_place(self) -> bool:
        """Whether what waits is worth a batch now."""
        if not self._under_way:
            return True
        return len(self._under_way) < _UNDER_WAY and self._hold.fills_second(self._rows, sum(self._under_way))

    def _held_until(self) -> float:
        return self._hold.until(len(self._waiting), self._rows)

    def _take(self) -> _Asked:
        asked = self._waiting.popleft()
        self._rows -= asked.rows
        return asked

    def _next(self) -> list[_Asked]:
        """What is asked now: half of what waits, where that is enough for two batches."""
        two = not self._under_way and self._hold.fills_two(self._rows)
        most = min(self._most, -(-self._rows // _UNDER_WAY) if two else self._most)
        batch = [self._take()]
        rows = batch[0].rows
        while self._waiting and rows + self._waiting[0].rows <= most:
            batch.append(self._take())
            rows += batch[-1].rows
        return batch

    def _send(self, batch: Sequence[_Asked]) -> None:
        rows, began = sum(asked.rows for asked in batch), self._loop.time()
        self._under_way.append(rows)
        self._hold.over()

        def done(answer: Reply | Refusal) -> None:
            self._under_way.remove(rows)
            waiting, now = len(self._waiting), self._loop.time()
            worth = bool(self._under_way) or len(batch) > waiting  # to wait: nothing lies idle, or for most of all
            self._hold.answered(waiting + len(batch) if worth else 0, began=began, now=now)
            self._deliver(batch, answer)
            self._go_on()

        if len(batch) == 1:
            whole, batch[0].request.json_length = batch[0].question.written()
        else:
            whole = joined([asked.question.inference for asked in batch])
        call = self._upstream.ask(batch[0].request, whole, done)
        for asked in batch:
            asked.call, asked.together = call, batch

    def _deliver(self, batch: Sequence[_Asked], answer: Reply | Refusal) -> None:
        for asked in batch:
            asked.together = ()  # a batch that holds itself would stay in memory until a collection
        if len(batch) == 1 or isinstance(answer, Refusal) or (answer.status == 503 and answer.is_overload):
            for asked in batch:
                asked.done(answer)
            return
        pieces = None if answer.status != 200 else split(answer, [Pieces(asked.rows, asked.id) for asked in batch])
        for place, asked in enumerate(batch):
            if pieces is None:  # what spoilt it may be one client's question
                self._ask_alone(asked)
            else:
                asked.done(pieces[place])

    def _ask_alone(self, asked: _Asked) -> None:
        if asked.left:
            asked.done(LEFT)
            return
        whole, asked.request.json_length = asked.question.written()
        asked.call = self._upstream.ask(asked.request, whole, asked.done)


def _rows_of(question: Question) -> int:
    """How many texts are asked; 0 for a question that may mean something else beside others."""
    inference = question.inference
    if question.binary is not None or inference.parameters or len(inference.inputs) > len(_INPUTS):
        return 0
    if frozenset(tensor.name for tensor in inference.inputs) not in _INPUTS:
        return 0
    if any(output.parameters is not None for output in inference.outputs):
        return 0
    rows = {_rows_in(tensor) for tensor in inference.inputs}
    return rows.pop() if len(rows) == 1 else 0


def _rows_in(tensor: Input) -> int:
    """The rows of a column of strings, 0 where it is none or its values are not as many as it says."""
    data = tensor.data
    if not isinstance(data, msgspec.Raw) or len(memoryview(data)) > _BYTES or tensor.parameters is not None:
        return 0
    if tensor.datatype != BYTES or len(tensor.shape) != 2 or tensor.shape[1] != 1:
        return 0
    try:
        values = msgspec.json.decode(data, type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    return tensor.shape[0] if len(values) == tensor.shape[0] else 0


def _kind_of(request: Request, inference: Inference) -> tuple[bytes, ...]:
    """Equal for questions that may be asked as one."""
    asked = sorted(tensor.name for tensor in inference.inputs)
    wanted = [tensor.name for tensor in inference.outputs]
    return (request.target, *(name.encode() for name in (*asked, *wanted)))
