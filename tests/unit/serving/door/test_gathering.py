"""What the door asks at the same time: two batches side by side where there is enough for both."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perennial.ops.serving.door.answers import Reply
from perennial.ops.serving.door.gathering import Gathering
from perennial.ops.serving.door.inference import Question, checked_request
from perennial.ops.serving.door.requests import Refusal, Request
from perennial.ops.serving.door.upstream import LEFT, Call, Done

_ROUTE = {
    "model": "intent", "epoch": 1, "champion": 1, "previous": None, "challenger": None, "share": 0.0, "resident": [1],
}  # fmt: skip
_TARGET = b"/v2/models/intent/infer"


class StillLoop(asyncio.SelectorEventLoop):
    """Its time passes when a test says so: what a slow machine does in a moment is decided by the moment alone."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__()

    def time(self) -> float:
        return self.now


class Upstream:
    """Keeps what it is asked until it is told to answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Call]] = []

    def ask(self, request: Request, body: bytes, done: Done) -> Call:
        call = Call(done)
        self.asked.append((json.loads(body)["inputs"][0]["shape"][0], call))
        return call

    @property
    def rows(self) -> list[int]:
        return [rows for rows, _ in self.asked]

    def answer(self) -> None:
        """Answer what was asked first."""
        rows, call = self.asked.pop(0)
        reply = Reply()
        reply.status = 200
        output = {"name": "LABEL", "datatype": "BYTES", "shape": [rows, 1], "data": ["fine"] * rows}
        reply.body.append(msgspec.json.encode({"model_name": "intent", "model_version": "1", "outputs": [output]}))
        call.answer(reply)


class Callers:
    """Clients that ask one text each."""

    def __init__(self, routes: Path, most: int) -> None:
        self.upstream, self.answered, self.left = Upstream(), 0, 0
        self.leaves: list[Callable[[], None]] = []
        self._gathering = Gathering(self.upstream, routes, most=most)  # type: ignore[arg-type]

    def ask(self, times: int) -> None:
        for _ in range(times):
            body = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["my card"]}]}
            question = checked_request(json.dumps(body).encode(), None)
            assert isinstance(question, Question)
            request = Request()
            request.target = _TARGET
            leave = self._gathering.takes(request, question, self._count)
            assert leave is not None
            self.leaves.append(leave)

    async def later(self, seconds: float) -> None:
        """So much time passes, and what is due happens."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, StillLoop)
        loop.now += seconds
        await asyncio.sleep(0)  # the loop looks for what is due once a round, and calls it in the same one
        await asyncio.sleep(0)

    def _count(self, answer: Reply | Refusal) -> None:
        self.left += answer is LEFT
        self.answered += answer is not LEFT


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Callers], Coroutine[Any, Any, None]]], None]:
    (tmp_path / "intent.json").write_text(json.dumps(_ROUTE), encoding="utf-8")

    def running(story: Callable[[Callers], Coroutine[Any, Any, None]]) -> None:
        async def told() -> None:
            await story(Callers(tmp_path, 64))

        with asyncio.Runner(loop_factory=StillLoop) as runner:
            runner.run(told())

    return running


async def _thirty_two(callers: Callers) -> None:
    """One after the other for the first time, then each as soon as it is answered; the engine takes its time."""
    callers.ask(1)
    await callers.later(0.02)
    callers.upstream.answer()
    callers.ask(32)
    assert callers.upstream.rows == [1, 8]
    await callers.later(0.02)
    callers.upstream.answer()
    callers.ask(1)
    assert callers.upstream.rows == [8, 24]
    callers.upstream.answer()
    callers.ask(8)
    assert callers.upstream.rows == [24], "eight beside 24 are worth no batch"
    await callers.later(0.05)  # a tenth of it is waited for those who have been answered
    callers.upstream.answer()
    callers.ask(24)


def test_what_waits_is_asked_as_two_batches_where_it_is_enough_for_both(run):
    async def story(callers: Callers) -> None:
        await _thirty_two(callers)
        assert callers.upstream.rows == [16, 16]
        assert callers.answered == 34

    run(story)


def test_those_of_one_batch_are_asked_together_again_while_the_other_is_at_work(run):
    async def story(callers: Callers) -> None:
        await _thirty_two(callers)
        await callers.later(0.05)
        callers.upstream.answer()
        callers.ask(15)
        assert callers.upstream.rows == [16]
        callers.ask(1)
        assert callers.upstream.rows == [16, 16]

    run(story)


def test_whoever_does_not_ask_again_is_waited_for_no_longer_than_a_moment(run):
    async def story(callers: Callers) -> None:
        await _thirty_two(callers)
        await callers.later(0.05)
        callers.upstream.answer()
        callers.ask(12)
        await callers.later(0.02)
        assert callers.upstream.rows == [16, 12]

    run(story)


def test_an_engine_that_is_fast_is_asked_for_more_at_once(run):
    async def story(callers: Callers) -> None:
        callers.ask(30)
        callers.upstream.answer()
        assert callers.upstream.rows == [29]
        callers.ask(1)
        assert callers.upstream.rows == [29]

    run(story)


def test_a_few_wait_for_the_batch_that_is_at_work(run):
    async def story(callers: Callers) -> None:
        callers.ask(8)
        assert callers.upstream.rows == [1]
        callers.upstream.answer()
        await callers.later(0.01)
        assert (callers.upstream.rows, callers.answered) == ([7], 1)

    run(story)


def test_a_client_that_leaves_while_it_waits_is_asked_for_no_more(run):
    async def story(callers: Callers) -> None:
        callers.ask(1)
        callers.ask(7)
        for leave in callers.leaves[1:7]:
            leave()
        assert (callers.left, callers.answered) == (6, 0)
        callers.upstream.answer()
        await callers.later(0.02)
        assert callers.upstream.rows == [1]
        callers.upstream.answer()
        assert (callers.left, callers.answered) == (6, 2)

    run(story)


def test_what_several_were_asked_for_goes_on_until_the_last_of_them_has_left(run):
    async def story(callers: Callers) -> None:
        callers.ask(1)
        callers.ask(7)
        callers.upstream.answer()
        await callers.later(0.02)
        [(rows, call)] = callers.upstream.asked
        assert rows == 7
        for leave in callers.leaves[1:7]:
            leave()
        assert not call.left
        callers.leaves[7]()
        assert call.left
        assert (callers.left, callers.answered) == (7, 1)
        callers.upstream.answer()  # too late to be anybody's
        assert (callers.left, callers.answered) == (7, 1)

    run(story)


def test_one_who_left_is_not_asked_for_alone_when_the_batch_fails(run):
    async def story(callers: Callers) -> None:
        callers.ask(1)
        callers.ask(2)
        callers.upstream.answer()
        await callers.later(0.02)
        callers.leaves[1]()
        [(_, call)] = callers.upstream.asked
        callers.upstream.asked.clear()
        failed = Reply()
        failed.status = 400
        call.answer(failed)
        assert callers.upstream.rows == [1]
        callers.upstream.answer()
        assert (callers.left, callers.answered) == (1, 2)

    run(story)


def test_a_batch_that_was_answered_does_not_hold_itself(run):
    async def story(callers: Callers) -> None:
        callers.ask(1)
        callers.ask(7)
        callers.upstream.answer()
        await callers.later(0.02)
        asked = [leave.args[0] for leave in callers.leaves]
        assert [len(each.together) for each in asked] == [0, *[7] * 7]
        callers.upstream.answer()
        assert [len(each.together) for each in asked] == [0] * 8

    run(story)
