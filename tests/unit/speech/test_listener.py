"""One process for many recordings: in turn, bounded, begun anew when it dies, and gone with its owner."""

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from perennial.continual.errors import DataError, DependencyUnreachable
from perennial.continual.speech import RecogniserSpec, listener
from perennial.continual.speech.listener import Listener, NoRecogniser
from perennial.continual.speech.turns import Turns


@pytest.fixture(autouse=True)
def _child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_CHILD", "tests.unit.speech.fake_child")


@pytest.fixture
def listening() -> Iterator[Listener]:
    made = Listener(RecogniserSpec(), waiting=2, limit_s=30.0)
    yield made
    made.close()


def sent(content: bytes) -> bytes:
    return b"fLaC" + content


def _is_there(pid: int | None) -> bool:
    return pid is not None and os.path.exists(f"/proc/{pid}")  # noqa: PTH110


def test_recordings_are_understood_by_one_process_until_it_is_closed(listening: Listener) -> None:
    assert listening.pid is None, "it begins when it is needed"
    first, second = (listening.hear(sent(bytes(n))).text for n in (6, 60_000))
    pid = listening.pid
    assert (first, second) == (f"10 bytes by {pid}", f"60004 bytes by {pid}")
    assert listening.hear(sent(b""), language="de").language == "de"
    with pytest.raises(DataError, match="it is broken"):
        listening.hear(sent(b"refuse"))
    with pytest.raises(DataError, match="is no WAV"):
        listening.hear(b"GIF89a")
    assert listening.pid == pid
    listening.close()
    assert not _is_there(pid)
    with pytest.raises(DependencyUnreachable, match="the service stops"):
        listening.hear(sent(b""))


def test_a_process_that_dies_is_begun_anew(listening: Listener) -> None:
    with pytest.raises(DependencyUnreachable, match=r"process ended \(exit code -6\)"):
        listening.hear(sent(b"die"))
    assert listening.hear(sent(b"x")).text == f"5 bytes by {listening.pid}"


def test_a_recording_that_takes_too_long_is_given_up() -> None:
    listening = Listener(RecogniserSpec(), limit_s=2.0, idle_s=0.2)
    try:
        with pytest.raises(DependencyUnreachable, match="given up after 2 s"):
            listening.hear(sent(b"hang"))
    finally:
        listening.close()


def test_one_whose_time_is_up_before_its_process_is_there_is_given_up_too() -> None:
    listening = Listener(RecogniserSpec(), limit_s=0.0)
    try:
        for _ in range(2):
            with pytest.raises(DependencyUnreachable, match="given up after 0 s"):
                listening.hear(sent(b"hang"))
        assert listening.pid is None
    finally:
        listening.close()


def test_too_many_are_refused_at_once_and_told_when_it_is_closed(listening: Listener) -> None:
    errors: list[Exception] = []

    def ask() -> None:
        try:
            listening.hear(sent(b"hang"))
        except DependencyUnreachable as exc:
            errors.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    threads[0].start()
    _wait_for(lambda: listening.pid is not None)  # it is at work: of the others two may wait
    for thread in threads[1:]:
        thread.start()
    _wait_for(lambda: len(errors) == 3)
    assert all("2 recordings wait already" in str(error) for error in errors)
    listening.close()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 6


def test_one_who_fills_the_queue_keeps_nobody_else_out(listening: Listener) -> None:
    told: dict[str, str] = {}

    def ask(name: str, content: bytes) -> None:
        try:
            told[name] = listening.hear(sent(content), caller=name.split(maxsplit=1)[0]).text
        except DependencyUnreachable as exc:
            told[name] = str(exc)

    def begin(name: str, content: bytes) -> threading.Thread:
        thread = threading.Thread(target=ask, args=(name, content))
        thread.start()
        return thread

    threads = [begin("greedy 0", b"hang")]
    _wait_for(lambda: listening.pid is not None)
    for number in (1, 2):
        threads.append(begin(f"greedy {number}", b"x"))
        _wait_for(lambda number=number: listening.waiting == number)
    threads.append(begin("other 0", b"x"))
    _wait_for(lambda: len(told) == 1)
    assert "2 recordings wait already" in next(iter(told.values()))
    assert next(iter(told)) in {"greedy 1", "greedy 2"}
    listening.close()
    for thread in threads:
        thread.join(20)
    assert len(told) == 4


def test_callers_take_turns_whoever_came_first() -> None:
    turns: Turns[str] = Turns(6)
    for caller in "aaaabc":
        assert turns.offer(caller, caller) is None
    assert turns.offer("d", "d") == "a", "the newest of whoever has most"
    assert turns.offer("a", "a") == "a", "which is its own"
    assert "".join(turns.take(0.0) or "" for _ in range(7)) == "abcdaa"


def test_nobody_is_put_out_for_one_who_has_as_many() -> None:
    turns: Turns[str] = Turns(2)
    assert [turns.offer(caller, caller) for caller in "abc"] == [None, None, "c"]


def test_it_gives_its_memory_back_after_a_pause() -> None:
    listening = Listener(RecogniserSpec(), idle_s=0.2)
    try:
        text = listening.hear(sent(b"x")).text
        _wait_for(lambda: listening.pid is None)
        assert listening.hear(sent(b"x")).text != text
    finally:
        listening.close()


def test_a_recogniser_that_cannot_be_loaded_says_why_and_is_no_fault_of_who_asks() -> None:
    listening = Listener(RecogniserSpec(name="none"))
    try:
        for _ in range(2):
            with pytest.raises(NoRecogniser, match="no recogniser can be loaded: there is none"):
                listening.hear(sent(b"x"))
    finally:
        listening.close()


def _wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
