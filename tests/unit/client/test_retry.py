"""When something is tried again: within the call's time, after the server's hint, and never what cannot help."""

import pytest

from perennial.client import BadInput, ClientError, NotFound, Overloaded, Refused, Retry, TooLate, Unreachable
from perennial.client.retry import Attempts


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def attempts(clock: Clock, timeout_s: float = 10.0, **retry: float) -> Attempts:
    return Attempts(Retry(**retry), timeout_s, clock)  # type: ignore[arg-type]


@pytest.mark.parametrize(("hint", "least"), [(0.0, 0.02), (0.2, 0.2), (3.0, 3.0)])
def test_the_servers_hint_is_the_least_that_is_waited(hint: float, least: float) -> None:
    pause = attempts(Clock()).pause_after(Overloaded("busy", hint))
    assert least <= pause <= 1.25 * least


def test_a_call_tries_again_for_as_long_as_it_has_time() -> None:
    clock = Clock()
    asked = attempts(clock, timeout_s=30.0)
    for _ in range(9):
        clock.now += asked.pause_after(Unreachable("gone"))
    while clock.now - Clock.now < 25:
        clock.now += 1.0
    with pytest.raises(Unreachable):
        asked.pause_after(Unreachable("gone"))


def test_without_a_hint_pauses_double_up_to_the_longest() -> None:
    asked = attempts(Clock(), timeout_s=100.0, attempts=8, first_pause_s=0.5, longest_pause_s=3.0)
    pauses = [asked.pause_after(Unreachable("gone")) for _ in range(6)]
    for pause, least in zip(pauses, (0.5, 1.0, 2.0, 3.0, 3.0, 3.0), strict=True):
        assert least <= pause <= 1.25 * least


@pytest.mark.parametrize("error", [BadInput("x"), NotFound("x"), Refused("x"), TooLate("x")])
def test_what_another_attempt_cannot_help_is_raised_at_once(error: ClientError) -> None:
    with pytest.raises(type(error)) as raised:
        attempts(Clock()).pause_after(error)
    assert raised.value is error


def test_a_pause_that_the_calls_time_does_not_hold_is_not_begun() -> None:
    clock = Clock()
    asked = attempts(clock, timeout_s=1.0)
    with pytest.raises(Overloaded):
        asked.pause_after(Overloaded("busy", 2.0))
    clock.now += 1.5
    with pytest.raises(TooLate, match="1 s"):
        asked.left_s()


def test_each_request_of_a_call_has_all_attempts() -> None:
    asked = attempts(Clock(), attempts=2)
    asked.pause_after(Unreachable("gone"))
    asked.succeeded()
    asked.pause_after(Unreachable("gone"))
    with pytest.raises(Unreachable):
        asked.pause_after(Unreachable("gone"))


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_pause_s": 0.0}, {"first_pause_s": 9.0}])
def test_a_retry_that_allows_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="at least 1 attempt"):
        Retry(**wrong)  # type: ignore[arg-type]
