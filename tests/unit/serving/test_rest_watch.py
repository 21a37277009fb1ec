"""An engine's process rests once nothing was asked for a while, and only then."""

import itertools
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from perennial.ops.serving.rest_watch import RestWatch

_LONG_S = 20.0


def test_it_rests_once_and_again_after_more_was_asked() -> None:
    rested = threading.Semaphore(0)
    watch = RestWatch(rested.release, after_s=0.05)
    watch.start()
    try:
        assert rested.acquire(timeout=_LONG_S)
        assert not rested.acquire(timeout=0.2)
        watch.asked()
        assert rested.acquire(timeout=_LONG_S)
    finally:
        watch.stop()


def test_it_does_not_rest_while_it_is_asked() -> None:
    watch = RestWatch(lambda: pytest.fail("it was asked just now"), after_s=3_600.0)
    watch.asked()
    assert not watch.look()


def test_it_looks_no_more_when_it_is_stopped() -> None:
    watch = RestWatch(lambda: None, after_s=3_600.0)
    watch.start()
    began = time.monotonic()
    watch.stop()
    assert time.monotonic() - began < _LONG_S


def test_it_rests_again_once_it_answers_nobody_any_more() -> None:
    rests, waits = list[bool](), [False]
    watch = RestWatch(lambda: rests.append(waits[0]), after_s=0.0, waits=lambda: waits[0])
    assert watch.look()
    assert not watch.look()
    waits[0] = True
    assert watch.look()
    assert not watch.look()
    assert rests == [False, True]


def test_a_rest_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise RuntimeError("busy")

    watch = RestWatch(fails, after_s=0.0)
    assert watch.look()
    assert "engine.not_at_rest" in caplog.text
    watch.asked()
    assert watch.look()


def test_what_is_asked_while_it_looks_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, meanwhile = itertools.count(), list[Callable[[], None]]()

    def now() -> float:
        if meanwhile:
            meanwhile.pop()()
        return float(next(clock))

    monkeypatch.setattr("perennial.ops.serving.rest_watch.time", SimpleNamespace(monotonic=now))
    watch = RestWatch(lambda: None, after_s=0.0)
    meanwhile.append(watch.asked)
    assert not watch.look(), "it is needed just now"
    assert watch.look(), "it rests after the later question"
    assert not watch.look()


def test_what_is_asked_settles_at_every_second_look_and_does_not_rest() -> None:
    settled = list[int]()
    watch = RestWatch(lambda: pytest.fail("it was asked just now"), settle=lambda: settled.append(1), after_s=3_600.0)
    for _ in range(5):
        watch.asked()
        assert not watch.look()
    assert len(settled) == 2


def test_what_cannot_settle_is_told_and_is_looked_at_again(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise RuntimeError("busy")

    watch = RestWatch(lambda: None, settle=fails, after_s=3_600.0)
    for _ in range(4):
        watch.look()
    assert caplog.text.count("engine.not_at_rest") == 2
