"""Times of answers are counted once, a minute late, by version and arm."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from perennial.ops.traffic import TrafficLog
from perennial.ops.traffic.writer import TrafficWriter
from perennial.ops.views.answer_times import BOUNDS_S, AnswerTimes
from tests.component.traffic_rows import at, columns


class Clock:
    second = 0.0

    def now(self) -> datetime:
        return at(self.second)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def times(tmp_path: Path, clock: Clock) -> AnswerTimes:
    return AnswerTimes(TrafficLog(tmp_path), now=clock.now)


def write(folder: Path, name: str, seconds: list[float], *, version: int = 1, **more: object) -> None:
    writer = TrafficWriter(folder, name, dimension=3)
    writer.append(columns(seconds, version=version) | more)
    writer.close()


def test_each_row_is_counted_once_however_often_and_when_somebody_looks(
    tmp_path: Path, clock: Clock, times: AnswerTimes
) -> None:
    assert times.look() == (), "counting begins with the first look"
    seconds = [0.5 * number for number in range(200)]
    write(tmp_path, "a", seconds)
    for clock.second in (0.0, 30.0, 61.0, 61.0, 100.25, 159.0, 160.0, 400.0):
        times.look()
    (all_of_them,) = times.look()
    assert (all_of_them.version, all_of_them.arm, all_of_them.count) == (1, "champion", 200)
    assert all_of_them.buckets[BOUNDS_S.index(0.0025)] == 200, "each took 1.5 ms"
    assert all_of_them.seconds == pytest.approx(0.3)


def test_a_time_is_in_the_first_bucket_whose_bound_it_does_not_pass(
    tmp_path: Path, clock: Clock, times: AnswerTimes
) -> None:
    times.look()
    took = [1.0, 1.01, 10_000.0, 10_001.0]
    write(tmp_path, "a", [1.0] * 4, latency_ms=took)
    write(tmp_path, "b", [2.0], version=2, arm=["challenger"])
    clock.second = 90.0
    champion, challenger = times.look()
    assert [index for index, count in enumerate(champion.buckets) for _ in range(count)] == [0, 1, 12, 13]
    assert (challenger.version, challenger.arm, challenger.count) == (2, "challenger", 1)


def test_a_row_that_is_written_within_a_minute_of_its_request_is_counted(
    tmp_path: Path, clock: Clock, times: AnswerTimes
) -> None:
    times.look()
    clock.second = 59.0
    times.look()
    write(tmp_path, "late", [1.0])
    clock.second = 62.0
    assert [arm.count for arm in times.look()] == [1]


def test_a_long_silence_of_whoever_looks_costs_no_more_than_ten_minutes_of_rows(
    tmp_path: Path, clock: Clock, times: AnswerTimes
) -> None:
    times.look()
    write(tmp_path, "a", [10.0, 3_000.0])
    clock.second = 3_200.0
    assert [arm.count for arm in times.look()] == [1]


def test_a_version_that_answers_no_more_is_forgotten(tmp_path: Path, clock: Clock, times: AnswerTimes) -> None:
    times.look()
    write(tmp_path, "a", [10.0])
    clock.second = 100.0
    assert len(times.look()) == 1
    clock.second += timedelta(hours=1).total_seconds()
    assert len(times.look()) == 1
    clock.second += 1
    assert times.look() == ()
