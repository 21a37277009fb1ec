"""Rows for a disk that is full, stuck or well."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from perennial.ops.serving.router.answer_log import AnswerLog


class Disk:
    """Takes rows, refuses them while `full`, and does not return while `stuck`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.full = False
        self.well = threading.Event()
        self.well.set()

    def append(self, columns: Mapping[str, Any]) -> None:
        self.well.wait(60)
        if self.full:
            raise OSError(28, "No space left on device")
        self.texts += columns["text"]


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.full = False  # a log that is left behind would try again, and tell of it, through all later tests
    disk.well.set()


def _rows(*texts: str) -> dict[str, Any]:
    return {"prediction_id": list(texts), "text": list(texts), "embedding": np.zeros((len(texts), 4), dtype=np.float32)}


def _eventually(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_rows_are_on_the_disk_when_write_returns(disk):
    log = AnswerLog(disk, wait_s=20)
    for number in range(200):
        log.write(_rows(f"{number}"))
        assert disk.texts[-1] == f"{number}"
    assert (log.figures.rows_waiting, log.figures.bytes_waiting) == (0, 0)


def test_a_stuck_disk_delays_one_answer_by_the_bound_and_the_next_ones_not_at_all(disk):
    log = AnswerLog(disk, wait_s=0.5)
    disk.well.clear()
    began = time.monotonic()
    log.write(_rows("first"))
    assert time.monotonic() - began >= 0.5
    began = time.monotonic()
    for number in range(100):
        log.write(_rows(f"{number}"))
    assert time.monotonic() - began < 0.5 * 50, "each of the hundred would have waited half a second"
    assert log.figures.rows_waiting == 101
    disk.well.set()
    _eventually(lambda: log.figures.rows_waiting == 0)
    assert disk.texts == ["first", *map(str, range(100))]
    log.write(_rows("well again"))
    _eventually(lambda: disk.texts[-1] == "well again")


def test_rows_are_written_when_there_is_space_again_though_nobody_brings_new_ones(disk):
    log = AnswerLog(disk)
    disk.full = True
    log.write(_rows("kept"))
    disk.full = False
    _eventually(lambda: disk.texts == ["kept"])
    assert log.figures.rows_lost == 0


@pytest.mark.parametrize("bound", [{"max_rows": 10}, {"max_bytes": 20_000}])
@pytest.mark.parametrize("fault", ["full", "stuck"])
def test_memory_is_bounded_and_what_is_dropped_is_counted_and_told(disk, caplog, bound, fault):
    log = AnswerLog(disk, wait_s=0.05, long=("text",), **bound)
    if fault == "full":
        disk.full = True
    else:
        disk.well.clear()
    for number in range(100):
        log.write(_rows(f"{number}"))
        figures = log.figures
        assert figures.rows_waiting <= 21
        assert figures.bytes_waiting <= 30_000
    disk.full = False
    disk.well.set()
    _eventually(lambda: log.figures.rows_waiting == 0)
    log.close()
    assert len(disk.texts) + log.figures.rows_lost == 100
    assert disk.texts[-1] == "99", "the oldest go first"
    assert len(set(disk.texts)) == len(disk.texts)
    assert log.figures.rows_lost > 0
    lost = [record for record in caplog.records if record.message == "traffic.lost"]
    assert sum(record.rows for record in lost) == log.figures.rows_lost


def test_a_log_that_is_closed_waits_for_the_line_that_is_being_written_of_what_was_lost(disk, monkeypatch):
    log, begun, told = AnswerLog(disk, wait_s=0.05, max_rows=1), threading.Event(), []

    def slow(message: str, extra: Mapping[str, Any]) -> None:
        begun.set()
        time.sleep(0.2)
        told.append((message, extra["rows"]))

    monkeypatch.setattr("perennial.ops.serving.router.answer_log.logger.error", slow)
    disk.well.clear()
    for number in range(3):
        log.write(_rows(f"{number}"))
    disk.well.set()
    assert begun.wait(20)
    log.close()
    assert told == [("traffic.lost", log.figures.rows_lost)]


def test_a_thread_that_could_not_be_started_is_started_with_the_next_rows(disk, monkeypatch):
    log = AnswerLog(disk, wait_s=20)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda thread: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            log.write(_rows("first"))
    log.write(_rows("second"))
    assert disk.texts == ["first", "second"]


def test_many_threads_lose_and_double_nothing(disk):
    log = AnswerLog(disk)

    def write(name: int) -> None:
        for number in range(50):
            disk.full = number % 7 == name
            log.write(_rows(f"{name}-{number}"))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    disk.full = False
    log.close()
    assert sorted(disk.texts) == sorted(f"{name}-{number}" for name in range(6) for number in range(50))


def test_a_log_that_breaks_in_an_unforeseen_way_loses_those_rows_alone(disk, monkeypatch):
    log = AnswerLog(disk, wait_s=20)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "append", lambda columns: 1 / 0)
        log.write(_rows("never"))
    log.write(_rows("next"))
    assert disk.texts == ["next"]
    assert log.figures.rows_lost == 1


class Count:
    """What a count was told, in all."""

    found = 3

    def __init__(self) -> None:
        self.held, self.lost, self.full = 0, self.found, False

    def note(self, *, held: int, newly_lost: int) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.held, self.lost = held, self.lost + newly_lost


def test_what_waits_in_memory_and_what_is_lost_is_counted_where_a_kill_does_not_reach(disk):
    count = Count()
    log = AnswerLog(disk, count=count, max_rows=10)
    assert log.figures.rows_lost == 3, "with the process before this one"
    log.write(_rows("a", "b"))
    assert count.held == 0
    disk.full = True
    for number in range(20):
        log.write(_rows(f"{number}"))
    _eventually(lambda: (count.held, count.lost) == (10, 13))
    disk.full = False
    _eventually(lambda: (count.held, count.lost) == (0, 13))
    assert disk.texts == ["a", "b", *map(str, range(10, 20))]
    disk.full = True
    log.write(_rows("c"))
    _eventually(lambda: count.held == 1)
    log.close()
    assert (count.held, count.lost) == (0, 14)


def test_a_count_that_cannot_be_kept_is_kept_later_and_costs_nothing(disk):
    count = Count()
    count.full = disk.full = True
    log = AnswerLog(disk, count=count)
    log.write(_rows("a"))
    count.full = False
    _eventually(lambda: count.held == 1)
    assert log.figures.rows_waiting == 1
