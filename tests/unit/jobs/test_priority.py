"""A process that gives way does so for a while, with all of its threads, where it can have its priority back."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.continual.jobs import priority
from perennial.continual.jobs.priority import giving_way

_LONG_S = 20.0


def _niceness() -> dict[int, int]:
    threads = [int(entry.name) for entry in Path("/proc/self/task").iterdir()]
    return {thread: os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}


def _of(thread: threading.Thread) -> int:
    assert thread.native_id is not None
    return os.getpriority(os.PRIO_PROCESS, thread.native_id)


@pytest.fixture
def sleeper() -> Iterator[threading.Thread]:
    """A thread that was there before."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait, args=(_LONG_S,))
    thread.start()
    yield thread
    over.set()
    thread.join()


needs_privilege = pytest.mark.skipif(not priority._may_be_raised(), reason="a priority cannot be raised here")


@needs_privilege
def test_all_threads_give_way_and_also_those_that_began_meanwhile_come_back(sleeper: threading.Thread) -> None:
    before, over = _niceness(), threading.Event()
    begun = threading.Thread(target=over.wait, args=(_LONG_S,))
    with giving_way(19, within_s=_LONG_S):
        begun.start()
        assert {os.getpriority(os.PRIO_PROCESS, 0), _of(sleeper), _of(begun)} == {19}
    own = before[threading.get_native_id()]
    assert {os.getpriority(os.PRIO_PROCESS, 0), _of(sleeper), _of(begun)} == {own}
    over.set()
    begun.join()


@needs_privilege
def test_a_thread_that_gives_way_for_good_goes_on_doing_so(sleeper: threading.Thread) -> None:
    assert sleeper.native_id is not None
    for own in (7, 19):
        os.setpriority(os.PRIO_PROCESS, sleeper.native_id, own)
        with giving_way(19, within_s=_LONG_S):
            assert _of(sleeper) == 19
        assert _of(sleeper) == own


def test_whoever_asks_is_answered_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    before, answered = _niceness(), []
    with giving_way(19, within_s=_LONG_S):
        answered.append(1)
    assert answered == [1]
    assert _niceness() == before


@needs_privilege
def test_they_come_back_where_an_error_ends_it(sleeper: threading.Thread) -> None:
    before = _of(sleeper)
    with pytest.raises(ValueError, match="spoilt"), giving_way(19, within_s=_LONG_S):
        raise ValueError("spoilt")
    assert _of(sleeper) == before


@needs_privilege
def test_they_wait_for_no_longer_than_they_may(sleeper: threading.Thread) -> None:
    before, end = _of(sleeper), time.monotonic() + _LONG_S
    with giving_way(19, within_s=0.05):
        while _of(sleeper) != before and time.monotonic() < end:
            time.sleep(0.01)
        assert _of(sleeper) == before


def test_nothing_changes_where_it_could_not_be_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "_may_be_raised", lambda: False)
    before = _niceness()[threading.get_native_id()]
    with giving_way(19, within_s=_LONG_S):
        assert os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_an_ordinary_user_is_told_that_it_could_not() -> None:
    code = (
        "import os, resource\n"
        "resource.setrlimit(resource.RLIMIT_NICE, (0, 0))\n"
        "from perennial.continual.jobs import priority\n"
        "os.setuid(65534)\n"
        "before = os.nice(0)\n"
        "print(priority._may_be_raised(), os.getpriority(os.PRIO_PROCESS, 0) == before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["False", "True"], done.stderr
