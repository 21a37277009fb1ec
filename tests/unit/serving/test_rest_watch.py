"""An engine's process rests once nothing was asked for a while, and only then."""

import threading
import time

import pytest

from perennial.ops.serving.resting import Resting

_LONG_S = 20.0


def test_it_rests_once_and_again_after_more_was_asked() -> None:
    rested = threading.Semaphore(0)
    resting = Resting(rested.release, after_s=0.05)
    resting.start()
    try:
        assert rested.acquire(timeout=_LONG_S)
        assert not rested.acquire(timeout=0.2)
        resting.asked()
        assert rested.acquire(timeout=_LONG_S)
    finally:
        resting.stop()


def test_it_does_not_rest_while_it_is_asked() -> None:
    resting = Resting(lambda: pytest.fail("it was asked just now"), after_s=3_600.0)
    resting.asked()
    assert not resting.look()


def test_it_looks_no_more_when_it_is_stopped() -> None:
    resting = Resting(lambda: None, after_s=3_600.0)
    resting.start()
    began = time.monotonic()
    resting.stop()
    assert time.monotonic() - began < _LONG_S


def test_a_rest_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise RuntimeError("busy")

    resting = Resting(fails, after_s=0.0)
    assert resting.look()
    assert "engine.not_at_rest" in caplog.text
    resting.asked()
    assert resting.look()
