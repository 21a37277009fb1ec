"""Who is taken in, who is refused, and in what batches."""

import threading

import pytest

from ops.triton.admission import Asked, Limits, Overloaded, RequestQueue, TooLate
from ops.triton.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _asked(item: int, *, rows: int = 1, deadline: float | None = None, probe: bool = False) -> Asked[int]:
    cost = Asked.cost_of([100] * rows)
    return Asked(item=item, rows=rows, bytes=100 * rows, cost=cost, deadline=deadline, probe=probe)


def _busy(clock: Clock, *, seconds_each: float = 1.0, **limits: float) -> RequestQueue[int]:
    """A queue that has learnt that 64 rows take `seconds_each`, and where requests have waited for long."""
    queue: RequestQueue[int] = RequestQueue(Limits(**limits), clock)  # type: ignore[arg-type]
    for number in range(4):
        queue.offer(_asked(number, rows=64))
    for _ in range(3):
        (asked,) = queue.take()
        clock.now += seconds_each
        queue.finish(asked, good=True)
    return queue


def test_batches_are_formed_in_order_by_rows():
    queue: RequestQueue[int] = RequestQueue(Limits(batch_rows=64))
    for number, rows in enumerate((30, 30, 10, 64, 1)):
        queue.offer(_asked(number, rows=rows))
    batches = [[asked.item for asked in queue.take()] for _ in range(4)]
    assert batches == [[0, 1], [2], [3], [4]]
    assert (queue.waiting, queue.at_work) == (0, 5)


def test_batches_are_bounded_by_what_they_cost_and_one_that_costs_more_goes_alone():
    queue: RequestQueue[int] = RequestQueue(Limits(batch_cost=3 * 132))
    for number, rows in enumerate((1, 1, 1, 1, 10)):
        queue.offer(_asked(number, rows=rows))
    assert [[asked.item for asked in queue.take()] for _ in range(3)] == [[0, 1, 2], [3], [4]]


def test_too_many_rows_or_bytes_are_refused_with_a_hint():
    for limits in (Limits(rows=100), Limits(bytes=10_000)):
        queue: RequestQueue[int] = RequestQueue(limits)
        queue.offer(_asked(0, rows=60))
        with pytest.raises(Overloaded, match=r"1 requests with 60 texts wait already; retry after \d+\.\d s") as told:
            queue.offer(_asked(1, rows=60))
        assert told.value.retry_after_s > 0
        queue.take()
        queue.offer(_asked(1, rows=60))


def test_what_is_at_work_is_bounded_too():
    """A challenger that is slow but never fails would gather all that is meant for it."""
    for limits in (Limits(rows=100), Limits(bytes=10_000, batch_rows=1_000)):
        queue: RequestQueue[int] = RequestQueue(limits)
        taken: list[Asked[int]] = []
        while sum(asked.rows for asked in taken) < 300:
            queue.offer(_asked(len(taken), rows=60))
            taken += queue.take()
        with pytest.raises(Overloaded, match="5 requests with 300 texts are at work already; retry after"):
            queue.offer(_asked(0, rows=400))
        for asked in taken:
            queue.finish(asked, good=True)
        queue.offer(_asked(0, rows=60))


def test_one_request_is_always_taken_in_when_none_waits():
    queue: RequestQueue[int] = RequestQueue(Limits(rows=10))
    queue.offer(_asked(0, rows=64))
    assert queue.waiting == 1


def test_a_request_that_would_wait_too_long_is_refused_at_once_and_told_when_to_come_again(clock):
    queue = _busy(clock, wait_s=5.0)
    for number in range(5):  # one waits already, and the seventh would wait for more than 5 s
        queue.offer(_asked(number, rows=64))
    with pytest.raises(Overloaded, match=r"would wait for 6\.0 s \(limit 5\.0 s\); retry after") as told:
        queue.offer(_asked(5, rows=64))
    assert told.value.retry_after_s == pytest.approx(3.5)
    assert queue.refused == 1
    queue.offer(_asked(100, probe=True))


def test_a_deadline_that_cannot_be_held_is_refused_before_it_is_worked_on(clock):
    queue = _busy(clock)
    queue.offer(_asked(1, rows=64, deadline=clock.now + 2.5))
    with pytest.raises(Overloaded):
        queue.offer(_asked(2, rows=64, deadline=clock.now + 2.5))
    with pytest.raises(TooLate):
        queue.offer(_asked(3, deadline=clock.now - 0.1))


def test_nothing_is_refused_on_an_estimate_before_requests_have_waited_for_a_while(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(wait_s=5.0), clock)
    queue.offer(_asked(0))
    queue.offer(_asked(1))
    for asked in queue.take():
        clock.now += 30
        queue.finish(asked, good=True)
    for number in range(20):
        queue.offer(_asked(number))


def test_what_is_too_late_or_cancelled_is_taken_out_before_it_is_worked_on(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(wait_s=5.0), clock)
    for number, deadline in enumerate((None, clock.now + 2, None)):
        queue.offer(_asked(number, deadline=deadline))
    clock.now += 1
    assert [asked.item for asked in queue.overdue(lambda asked: asked.item == 2)] == [2]
    clock.now += 1.5
    (late,) = queue.overdue()
    assert late.item == 1
    assert isinstance(queue.too_late(late), TooLate)
    clock.now += 3
    (waited,) = queue.overdue()
    assert waited.item == 0
    assert isinstance(queue.too_late(waited), Overloaded)
    assert (queue.waiting, queue.expired) == (0, 2)


def test_a_queue_that_has_learnt_a_wrong_pace_works_on_the_last_one_all_the_same(clock):
    queue = _busy(clock, seconds_each=50.0)
    (asked,) = queue.take()
    queue.finish(asked, good=True)
    queue.offer(_asked(9, rows=64, deadline=clock.now + 1))
    assert queue.overdue() == []
    assert queue.take()[0].item == 9


def test_progress_is_what_comes_out_and_nothing_else(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(), clock)
    clock.now += 1_000
    assert queue.stalled_s() == 0.0
    queue.offer(_asked(0))
    queue.offer(_asked(1))
    clock.now += 7
    assert queue.stalled_s() == 7.0
    for asked in queue.take():
        queue.finish(asked, good=asked.item == 0)
        assert queue.stalled_s() == 0.0
    queue.offer(_asked(2, probe=True))
    clock.now += 4
    queue.offer(_asked(3))
    assert (queue.stalled_s(), queue.is_busy) == (4.0, True)
    queue.progress()
    assert queue.stalled_s() == 0.0


def test_a_probe_goes_first():
    queue: RequestQueue[int] = RequestQueue(Limits(batch_rows=1))
    queue.offer(_asked(0))
    queue.offer(_asked(1, probe=True))
    assert [queue.take()[0].item for _ in range(2)] == [1, 0]


def test_threads_lose_and_double_nothing():
    queue: RequestQueue[int] = RequestQueue(Limits())
    seen: list[int] = []

    def work() -> None:
        while batch := queue.take(0.5):
            for asked in batch:
                seen.append(asked.item)
                queue.finish(asked, good=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2_000):
        queue.offer(_asked(number))
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(2_000))
    assert (queue.answered, queue.waiting, queue.at_work) == (2_000, 0, 0)


def test_a_pace_follows_what_is_measured_and_ignores_quiet_times():
    pace = Pace()
    assert pace.seconds(1_000) == 0.0
    pace.start(0.0)
    for number in range(1, 50):
        pace.add(10, float(number), crowded=True)
    assert pace.seconds(20) == pytest.approx(2.0)
    pace.add(1, 1_000.0, crowded=False)
    assert pace.seconds(20) == pytest.approx(2.0)
    for number in range(1, 50):
        pace.add(40, 1_000.0 + number, crowded=True)
    assert pace.seconds(20) == pytest.approx(0.5, rel=0.05)


def test_a_probe_that_waits_for_its_engine_is_told_once(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(), clock)
    queue.offer(_asked(0, probe=True))
    queue.offer(_asked(1))
    assert queue.slow_probes(1.0) == []
    clock.now += 1.0
    (probe,) = queue.slow_probes(1.0)
    assert (probe.item, queue.claim(probe), queue.claim(probe)) == (0, True, False)
    assert queue.slow_probes(1.0) == []
