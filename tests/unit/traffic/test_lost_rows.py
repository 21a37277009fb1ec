"""The count of rows that never reached the log, over the deaths of the processes that held them."""

import multiprocessing
import os
import signal
import struct
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


def test_containers_that_share_a_folder_and_process_ids_count_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one of them counts says that process 1 holds rows, and the other one's process 1 is another process."""
    monkeypatch.setattr("platform.node", lambda: "first.example")
    first = LostRowsCount(tmp_path, "intent_0_0")
    first.note(held=4, newly_lost=1)
    monkeypatch.setattr("perennial.ops.traffic.lost_rows.process_start", lambda _: None)  # as another container sees it
    assert TrafficLog(tmp_path).lost().rows == 1, "the first one lives"
    monkeypatch.setattr("platform.node", lambda: "second")
    second = LostRowsCount(tmp_path, "intent_0_0")
    assert second.found == 0
    second.note(held=0, newly_lost=10)
    first.note(held=0, newly_lost=0)
    assert TrafficLog(tmp_path).lost().rows == 11
    assert sorted(path.name for path in (tmp_path / "lost").iterdir()) == [
        "intent_0_0.first_example.0",
        "intent_0_0.second.0",
    ]


def test_what_an_earlier_release_counted_still_counts(tmp_path: Path) -> None:
    folder = tmp_path / "lost"
    folder.mkdir()
    (folder / "intent_0_0.0").write_bytes(struct.pack("<5q", 2**22 + 1, 7, 3, 2, 1_000_000))
    assert TrafficLog(tmp_path).lost().rows == 5
    assert LostRowsCount(tmp_path, "intent_0_0").found == 0
    assert TrafficLog(tmp_path).lost().rows == 5
