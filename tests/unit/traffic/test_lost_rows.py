"""The count of rows that never reached the log, over the deaths of the processes that held them."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from perennial.ops.traffic import LostRows, LostRowsCount, TrafficLog

_PROCESSES = multiprocessing.get_context("fork")


def _hold(root: Path, held: int, lost: int) -> None:
    LostRowsCount(root, "intent_0_0").note(held=held, newly_lost=lost)
    os.kill(os.getpid(), signal.SIGKILL)


def _killed(root: Path, *, held: int, lost: int = 0) -> None:
    """A process that counted, and was killed."""
    child = _PROCESSES.Process(target=_hold, args=(root, held, lost))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def test_nothing_is_lost_where_nobody_counted(tmp_path: Path) -> None:
    assert TrafficLog(tmp_path).lost() == LostRows()


def test_rows_in_memory_are_lost_with_their_process_and_counted_once(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path)
    _killed(tmp_path, held=5, lost=2)
    assert log.lost().rows == 7, "nobody has taken over yet"
    count = LostRowsCount(tmp_path, "intent_0_0")
    assert (count.found, log.lost().rows) == (5, 7)
    count.note(held=3, newly_lost=0)
    assert log.lost().rows == 7, "it lives, and may still write them"
    count.note(held=0, newly_lost=1)
    assert log.lost().rows == 8


def test_processes_of_one_name_that_live_together_count_apart(tmp_path: Path) -> None:
    first, second = (LostRowsCount(tmp_path, "intent_0_0") for _ in range(2))
    first.note(held=0, newly_lost=1)
    second.note(held=0, newly_lost=10)
    assert TrafficLog(tmp_path).lost().rows == 11
    assert second.found == 0


def test_the_time_is_that_of_the_last_loss(tmp_path: Path) -> None:
    count = LostRowsCount(tmp_path, "intent_0_0")
    count.note(held=1, newly_lost=0)
    assert TrafficLog(tmp_path).lost().last is None
    count.note(held=1, newly_lost=1)
    first = TrafficLog(tmp_path).lost().last
    count.note(held=0, newly_lost=0)
    assert first is not None
    assert TrafficLog(tmp_path).lost().last == first
    _killed(tmp_path, held=1)
    later = TrafficLog(tmp_path).lost().last
    assert later is not None
    assert later > first


def test_a_disk_that_takes_no_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "lost").write_text("no folder")
    with pytest.raises(OSError, match="lost"):
        LostRowsCount(tmp_path, "intent_0_0")
    assert TrafficLog(tmp_path).lost() == LostRows()
