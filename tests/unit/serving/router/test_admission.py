"""Who is taken in, who is refused, and in what batches."""

import threading
import time

import pytest

from perennial.ops.serving import hold
from perennial.ops.serving.router import admission
from perennial.ops.serving.router.admission import Limits, Overloaded, QueuedRequest, RequestQueue, TooLate
from perennial.ops.serving.router.pace import Pace

pytestmark = pytest.mark.timeout(30)  # a queue that loses a request keeps its caller waiting for ever


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _queued(item: int, *, rows: int = 1, deadline: float | None = None, probe: bool = False) -> QueuedRequest[int]:
    cost = QueuedRequest.cost_of([100] * rows)
    return QueuedRequest(item=item, rows=rows, bytes=100 * rows, cost=cost, deadline=deadline, probe=probe)


def _busy(clock: Clock, *, seconds_each: float = 1.0, **limits: float) -> RequestQueue[int]:
    """A queue that has learnt that 64 rows take `seconds_each`, and where requests have waited for long."""
    queue: RequestQueue[int] = RequestQueue(Limits(**limits), clock)  # type: ignore[arg-type]
    for number in range(4):
        queue.offer(_queued(number, rows=64))
    for _ in range(3):
        (queued,) = queue.take()
        clock.now += seconds_each
        queue.finish(queued, good=True)
    return queue


def test_batches_are_formed_in_order_by_rows():
    queue: RequestQueue[int] = RequestQueue(Limits(batch_rows=64))
    for number, rows in enumerate((30, 30, 10, 64, 1)):
        queue.offer(_queued(number, rows=rows))
    batches = [[queued.item for queued in queue.take()] for _ in range(4)]
    assert batches == [[0, 1], [2], [3], [4]]
    assert (queue.waiting, queue.at_work) == (0, 5)


def test_an_answer_wakes_those_who_take_batches_only_where_something_waits(monkeypatch):
    queue: RequestQueue[int] = RequestQueue(Limits(gathers=True))
    woken = []
    monkeypatch.setattr(queue._came, "notify_all", lambda: woken.append(queue.waiting))
    for others in ([], [_queued(2)]):
        first = _queued(1)
        assert queue.begin([first])
        for other in others:
            queue.offer(other)
        queue.finish(first, good=True)
    assert woken == [1]


def test_batches_are_bounded_by_what_they_cost_and_one_that_costs_more_goes_alone():
    queue: RequestQueue[int] = RequestQueue(Limits(batch_cost=3 * 132))
    for number, rows in enumerate((1, 1, 1, 1, 10)):
        queue.offer(_queued(number, rows=rows))
    assert [[queued.item for queued in queue.take()] for _ in range(3)] == [[0, 1, 2], [3], [4]]


def test_too_many_rows_or_bytes_are_refused_with_a_hint():
    for limits in (Limits(rows=100), Limits(bytes=10_000)):
        queue: RequestQueue[int] = RequestQueue(limits)
        queue.offer(_queued(0, rows=60))
        with pytest.raises(
            Overloaded, match=r"1 requests with 60 texts wait already; retry after \d+\.\d s"
        ) as refusal:
            queue.offer(_queued(1, rows=60))
        assert refusal.value.retry_after_s > 0
        queue.take()
        queue.offer(_queued(1, rows=60))


def test_one_request_is_always_taken_in_when_none_waits():
    queue: RequestQueue[int] = RequestQueue(Limits(rows=10))
    queue.offer(_queued(0, rows=64))
    assert queue.waiting == 1


def test_a_request_that_would_wait_too_long_is_refused_at_once_and_told_when_to_come_again(clock):
    queue = _busy(clock, wait_s=5.0)
    for number in range(5):  # one waits already, and the seventh would wait for more than 5 s
        queue.offer(_queued(number, rows=64))
    with pytest.raises(Overloaded, match=r"would wait for 6\.0 s \(limit 5\.0 s\); retry after") as refusal:
        queue.offer(_queued(5, rows=64))
    assert refusal.value.retry_after_s == pytest.approx(3.5)
    assert queue.refused == 1
    queue.offer(_queued(100, probe=True))


def test_a_deadline_that_cannot_be_held_is_refused_before_it_is_worked_on(clock):
    queue = _busy(clock)
    queue.offer(_queued(1, rows=64, deadline=clock.now + 2.5))
    with pytest.raises(Overloaded):
        queue.offer(_queued(2, rows=64, deadline=clock.now + 2.5))
    with pytest.raises(TooLate):
        queue.offer(_queued(3, deadline=clock.now - 0.1))


def test_nothing_is_refused_on_an_estimate_before_requests_have_waited_for_a_while(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(wait_s=5.0), clock)
    queue.offer(_queued(0))
    queue.offer(_queued(1))
    for queued in queue.take():
        clock.now += 30
        queue.finish(queued, good=True)
    for number in range(20):
        queue.offer(_queued(number))


def test_what_is_too_late_or_cancelled_is_taken_out_before_it_is_worked_on(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(wait_s=5.0), clock)
    for number, deadline in enumerate((None, clock.now + 2, None)):
        queue.offer(_queued(number, deadline=deadline))
    clock.now += 1
    assert [queued.item for queued in queue.overdue(lambda queued: queued.item == 2)] == [2]
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
    (queued,) = queue.take()
    queue.finish(queued, good=True)
    queue.offer(_queued(9, rows=64, deadline=clock.now + 1))
    assert queue.overdue() == []
    assert queue.take()[0].item == 9


def test_progress_is_what_comes_out_and_nothing_else(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(), clock)
    clock.now += 1_000
    assert queue.stalled_s() == 0.0
    queue.offer(_queued(0))
    queue.offer(_queued(1))
    clock.now += 7
    assert queue.stalled_s() == 7.0
    for queued in queue.take():
        queue.finish(queued, good=queued.item == 0)
        assert queue.stalled_s() == 0.0
    queue.offer(_queued(2, probe=True))
    clock.now += 4
    queue.offer(_queued(3))
    assert (queue.stalled_s(), queue.is_busy) == (4.0, True)
    queue.progress()
    assert queue.stalled_s() == 0.0


def test_a_probe_goes_first():
    queue: RequestQueue[int] = RequestQueue(Limits(batch_rows=1))
    queue.offer(_queued(0))
    queue.offer(_queued(1, probe=True))
    assert [queue.take()[0].item for _ in range(2)] == [1, 0]


def test_threads_lose_and_double_nothing():
    queue: RequestQueue[int] = RequestQueue(Limits())
    seen: list[int] = []

    def work() -> None:
        while batch := queue.take(0.5):
            for queued in batch:
                seen.append(queued.item)
                queue.finish(queued, good=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2_000):
        queue.offer(_queued(number))
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
    queue.offer(_queued(0, probe=True))
    queue.offer(_queued(1))
    assert queue.slow_probes(1.0) == []
    clock.now += 1.0
    (probe,) = queue.slow_probes(1.0)
    assert (probe.item, queue.claim(probe), queue.claim(probe)) == (0, True, False)
    assert queue.slow_probes(1.0) == []


def test_what_may_wait_and_what_rows_cost_is_as_documented():
    assert Limits() == Limits(wait_s=10.0, rows=8_192, bytes=67_108_864, batch_rows=64, batch_cost=130_048)
    assert [QueuedRequest.cost_of(lengths) for lengths in ([], [0], [5, 7], [2_000], [2_001, 1])] == [
        0,
        32,
        76,
        2_032,
        2_065,
    ]


def test_a_batch_begins_at_once_only_where_nobody_waits_and_nothing_is_at_work(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(), clock)
    assert (queue.is_busy, queue.stalled_s()) == (False, 0.0)
    clock.now += 50
    first = [_queued(0), _queued(1, rows=3)]
    assert queue.begin(first)
    assert (queue.is_busy, queue.at_work, queue.waiting, [queued.arrived for queued in first]) == (
        True,
        2,
        0,
        [150.0] * 2,
    )
    clock.now += 2
    assert queue.stalled_s() == 2.0
    assert not queue.begin([_queued(2)])
    assert queue.at_work == 2
    queue.offer(_queued(3))
    for queued in first:
        queue.finish(queued, good=True)
    assert (queue.is_busy, queue.at_work, queue.answered) == (True, 0, 2)
    assert not queue.begin([_queued(4)]), "one waits"
    (waiting,) = queue.take()
    queue.finish(waiting, good=True)
    assert not queue.is_busy
    assert queue.begin([_queued(5)])


def test_what_is_at_work_counts_in_the_hint_until_it_is_finished(clock):
    queue = _busy(clock, wait_s=4.0)  # one of 1 s waits
    assert queue.hint() == pytest.approx(0.2)
    for number in range(3):
        queue.offer(_queued(number, rows=64))
    assert queue.hint() == pytest.approx(2.0), "four seconds of work, less half of what anybody waits"
    (queued,) = queue.take()
    assert queue.hint() == pytest.approx(2.0)
    queue.finish(queued, good=False)
    assert queue.hint() == pytest.approx(1.0)
    for number in range(6):
        queue.offer(_queued(number, rows=64, probe=True))
    assert queue.hint() == 4.0, "never longer than anybody waits"


def test_a_batch_that_began_at_once_counts_in_the_hint_until_it_is_finished(clock):
    queue = _busy(clock, wait_s=4.0)
    (left,) = queue.take()
    queue.finish(left, good=False)
    batch = [_queued(number, rows=64) for number in range(5)]
    assert queue.begin(batch)
    assert queue.hint() == pytest.approx(3.0)
    for queued in batch:
        queue.finish(queued, good=False)
    assert (queue.hint(), queue.answered) == (pytest.approx(0.2), 3)


def test_nobody_is_left_over_when_what_waited_is_taken_out(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(wait_s=5.0), clock)
    for number, deadline in enumerate((clock.now + 1, clock.now + 1, None, None)):
        queue.offer(_queued(number, deadline=deadline))
    clock.now += 1
    assert [queued.item for queued in queue.overdue(lambda queued: True)] == [0, 1, 2, 3]
    assert (queue.is_busy, queue.waiting, queue.expired, queue.stalled_s()) == (False, 0, 2, 0.0)
    assert queue.hint() == pytest.approx(0.2)
    queue.offer(_queued(9))
    (last,) = queue.take()
    queue.finish(last, good=True)
    assert not queue.is_busy


def test_nobody_is_asked_whether_he_waits_before_half_a_second_nor_for_a_probe(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(wait_s=50.0), clock)
    queue.offer(_queued(0))
    queue.offer(_queued(1, probe=True))
    clock.now += 0.5
    assert queue.overdue(lambda queued: True) == []
    clock.now += 0.125
    assert [queued.item for queued in queue.overdue(lambda queued: True)] == [0]


def test_what_was_begun_while_it_was_asked_for_is_not_taken_out(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(wait_s=50.0, batch_rows=1), clock)
    queue.offer(_queued(0))
    queue.offer(_queued(1))
    clock.now += 1
    begun: list[int] = []

    def gone(queued: QueuedRequest[int]) -> bool:
        if not begun:
            begun.extend(taken.item for taken in queue.take())
        return True

    assert [queued.item for queued in queue.overdue(gone)] == [1]
    assert (begun, queue.waiting, queue.at_work, queue.is_busy) == ([0], 0, 1, True)


@pytest.mark.parametrize(("waited_s", "late"), [(5.0, False), (5.001, True)])
def test_a_request_waits_for_the_whole_limit_and_a_probe_for_ever(clock, waited_s, late):
    queue: RequestQueue[int] = RequestQueue(Limits(wait_s=5.0), clock)
    queue.offer(_queued(0))
    queue.offer(_queued(1, probe=True))
    clock.now += waited_s
    assert [queued.item for queued in queue.overdue()] == [0] * late


@pytest.mark.parametrize(("before_s", "late"), [(0.001, False), (0.0, True), (-0.001, True)])
def test_a_deadline_is_over_at_its_very_moment(clock, before_s, late):
    queue: RequestQueue[int] = RequestQueue(Limits(), clock)
    queued = _queued(0, deadline=clock.now + 2)
    queue.offer(queued)
    clock.now += 2 - before_s
    assert queue.overdue() == [queued] * late
    other: RequestQueue[int] = RequestQueue(Limits(), clock)
    if late:
        with pytest.raises(TooLate, match="the deadline of the request has passed already"):
            other.check(rows=1, size=1, cost=1, deadline=clock.now + before_s)
        assert other.refused == 1
    else:
        other.check(rows=1, size=1, cost=1, deadline=clock.now + before_s)
        assert other.refused == 0


@pytest.mark.parametrize("by", ["overdue", "take"])
@pytest.mark.parametrize(("ahead_s", "late"), [(1.601, False), (1.6, True), (1.001, True)])
def test_while_others_are_at_work_what_cannot_be_ready_by_its_deadline_is_taken_out(clock, ahead_s, late, by):
    """An engine answers what is at work first: of that, what has passed since the last answer is done."""
    queue = _busy(clock)
    queue.take()  # 64 rows, and each 64 rows take a second
    clock.now += 0.4
    queued = _queued(9, rows=64, deadline=clock.now + ahead_s)
    queue.offer(queued)
    if by == "take":
        assert queue.take(0.0) == [queued] * (not late)
        assert (queue.waiting, queue.is_busy) == (0, True)
    assert queue.overdue() == [queued] * late
    assert queue.overdue() == [], "it is told once"
    assert queue.expired == late
    if late:
        refusal = queue.too_late(queued)
        assert isinstance(refusal, TooLate)
        assert "after the deadline of the request, which waited 0.0 s" in str(refusal)


def test_why_a_request_was_taken_out_is_told_with_how_long_it_waited(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(wait_s=5.0), clock)
    early, plain = _queued(0, deadline=clock.now + 100), _queued(1)
    queue.offer(early)
    queue.offer(plain)
    clock.now += 6
    for queued in queue.overdue():
        refusal = queue.too_late(queued)
        assert type(refusal) is Overloaded
        assert "the request has waited for 6.0 s; retry after 0.2 s" in str(refusal)
    assert queue.expired == 2


def test_every_refusal_is_counted(clock):
    queue = _busy(clock, wait_s=5.0, rows=400)
    assert queue.refused == 0
    for number in range(5):
        queue.offer(_queued(number, rows=64))
    with pytest.raises(Overloaded, match="would wait for"):
        queue.check(rows=1, size=1, cost=1, deadline=None)
    with pytest.raises(Overloaded, match=r"6 requests with 384 texts wait already"):
        queue.check(rows=17, size=1, cost=1, deadline=None)
    with pytest.raises(TooLate):
        queue.check(rows=1, size=1, cost=1, deadline=clock.now)
    with pytest.raises(Overloaded, match="would wait for"):
        queue.check(rows=16, size=1, cost=1, deadline=None)
    assert queue.refused == 4


@pytest.mark.parametrize(("size", "taken"), [(9_900, True), (9_901, False)])
def test_as_many_bytes_as_are_allowed_wait(size, taken):
    queue: RequestQueue[int] = RequestQueue(Limits(bytes=10_000))
    queue.offer(_queued(0))
    if taken:
        queue.check(rows=1, size=size, cost=1, deadline=None)
        return
    with pytest.raises(Overloaded, match="1 requests with 1 texts wait already"):
        queue.check(rows=1, size=size, cost=1, deadline=None)


def test_an_answer_counts_unless_it_is_a_probes_or_bad(clock):
    queue: RequestQueue[int] = RequestQueue(Limits(), clock)
    for queued, good in ((_queued(0), True), (_queued(1, probe=True), True), (_queued(2), False)):
        queue.offer(queued)
        queue.take()
        queue.finish(queued, good=good)
    assert (queue.answered, queue.is_busy) == (1, False)


def test_a_whole_batch_that_waits_is_left_to_another_process_for_a_moment():
    queue: RequestQueue[int] = RequestQueue(Limits(batch_rows=2))

    def breathing() -> threading.Thread:
        thread = threading.Thread(target=queue.breathe, args=(60.0,), daemon=True)
        thread.start()
        thread.join(0.2)
        return thread

    queue.offer(_queued(0))
    at_once = breathing()
    at_once.join(20)
    assert not at_once.is_alive(), "less than a batch waits"
    queue.offer(_queued(1))
    waits = breathing()
    assert waits.is_alive()
    queue.take()
    waits.join(20)
    assert not waits.is_alive()


def test_what_comes_one_by_one_is_waited_for_once_a_batch_so_that_an_overload_is_soon_read_and_refused(
    monkeypatch: pytest.MonkeyPatch,
):
    queue: RequestQueue[int] = RequestQueue(Limits(batch_rows=4))
    moments: list[float] = []
    monkeypatch.setattr(queue._left, "wait", moments.append)
    for number in range(12):
        queue.offer(_queued(number))
        queue.breathe(0.5)
    assert moments == [0.5] * 3


def test_a_batch_is_waited_for_as_long_as_was_asked_and_comes_when_it_is_there():
    queue: RequestQueue[int] = RequestQueue(Limits())
    assert queue.take(0.01) == []
    threading.Timer(0.1, queue.offer, args=(_queued(7),)).start()
    assert [queued.item for queued in queue.take(30)] == [7]


def test_estimates_refuse_nobody_any_more_once_nothing_waits(clock):
    queue = _busy(clock, seconds_each=50.0, wait_s=5.0)
    with pytest.raises(Overloaded):
        queue.offer(_queued(5, rows=64))
    (queued,) = queue.take()
    queue.finish(queued, good=True)
    for number in range(5):
        queue.offer(_queued(number, rows=64))
    queue.take()
    clock.now += 0.999
    queue.offer(_queued(6, rows=64))
    clock.now += 0.001
    with pytest.raises(Overloaded):
        queue.offer(_queued(7, rows=64))


def test_a_batch_takes_as_many_rows_as_it_may_hold():
    queue: RequestQueue[int] = RequestQueue(Limits(batch_rows=64))
    for number, rows in enumerate((30, 34, 1)):
        queue.offer(_queued(number, rows=rows))
    assert [[queued.item for queued in queue.take()] for _ in range(2)] == [[0, 1], [2]]


@pytest.mark.parametrize("ended", ["overdue", "cancelled"])
def test_nothing_is_refused_on_an_estimate_once_all_that_waited_is_gone(clock, ended):
    queue = _busy(clock, seconds_each=3.0, wait_s=5.0)
    queue.offer(_queued(4, rows=64))
    clock.now += 6.0 if ended == "overdue" else 2.0
    gone = queue.overdue(lambda queued: ended == "cancelled")
    assert (len(gone), queue.waiting, queue.at_work) == (2, 0, 0)
    queue.offer(_queued(5, rows=64, deadline=clock.now + 2.0))


def test_a_batch_ends_before_a_request_that_is_not_like_its_first():
    queue: RequestQueue[int] = RequestQueue(Limits())
    for number in (1, 3, 2, 5):
        queue.offer(_queued(number))
    batches = [[queued.item for queued in queue.take(alike=lambda a, b: a.item % 2 == b.item % 2)] for _ in range(3)]
    assert batches == [[1, 3], [2], [5]]


def test_a_request_that_waited_in_another_queue_has_waited_since_then(clock):
    first, second = (RequestQueue[int](Limits(wait_s=5.0), clock) for _ in range(2))
    first.offer(_queued(1))
    (queued,) = first.take()
    clock.now += 4.0
    first.finish(queued, good=False)
    second.offer(queued)
    clock.now += 1.5
    assert second.overdue() == [queued]


def test_what_was_taken_waits_no_more_and_makes_room_for_as_many_bytes():
    queue: RequestQueue[int] = RequestQueue(Limits(bytes=10_000, batch_rows=1))
    for number in range(2):
        queue.offer(_queued(number, rows=40))
    queue.take()
    queue.offer(_queued(2, rows=40))
    with pytest.raises(Overloaded, match="2 requests with 80 texts wait already"):
        queue.offer(_queued(3, rows=40))


@pytest.mark.parametrize("at_once", [True, False])
def test_the_time_before_work_began_is_no_part_of_the_pace(clock, at_once):
    queue: RequestQueue[int] = RequestQueue(Limits(), clock)
    clock.now += 900
    first = _queued(0, rows=64)
    if at_once:
        assert queue.begin([first])
    else:
        queue.offer(first)
        queue.take()
    clock.now += 1
    queue.finish(first, good=True)
    assert queue._pace.seconds(first.cost) == pytest.approx(1.0)


@pytest.mark.parametrize(("beside", "learns"), [("at work", True), ("waiting", True), ("nobody", False)])
def test_a_pace_is_learnt_while_somebody_else_is_at_work_or_waits(clock, beside, learns):
    queue = _busy(clock)
    (left,) = queue.take()
    queue.finish(left, good=False)
    first, second = _queued(1, rows=64), _queued(2, rows=64)
    assert queue.begin([first, second] if beside == "at work" else [first])
    if beside == "waiting":
        queue.offer(second)
    clock.now += 5
    queue.finish(first, good=True)
    assert (queue._pace.seconds(first.cost) > 1.2) is learns


# ---- batches that wait a moment ----


def _gathering(monkeypatch: pytest.MonkeyPatch, requests: int) -> RequestQueue[int]:
    """A queue in which so many requests were answered together a moment ago; it waits long for them to come again."""
    monkeypatch.setattr(hold, "_HOLD_S", 20.0)
    monkeypatch.setattr(hold, "_HOLD", 1e6)
    queue: RequestQueue[int] = RequestQueue(Limits(batch_rows=8, gathers=True))
    for number in range(requests):
        queue.offer(_queued(number))
    taken = queue.take(10.0)
    time.sleep(0.001)
    for queued in taken:
        queue.finish(queued, good=True)
    return queue


def test_a_batch_waits_for_those_who_have_just_been_answered_and_no_longer(monkeypatch: pytest.MonkeyPatch):
    queue = _gathering(monkeypatch, 3)
    assert not queue.begin([_queued(0)])
    threading.Timer(0.05, lambda: [queue.offer(_queued(number)) for number in (1, 2)]).start()
    queue.offer(_queued(0))
    assert sorted(queued.item for queued in queue.take(20.0)) == [0, 1, 2]


def test_one_caller_alone_waits_for_nobody(monkeypatch: pytest.MonkeyPatch):
    queue = _gathering(monkeypatch, 1)
    assert queue.begin([_queued(0)])


def test_a_probe_waits_for_nobody(monkeypatch: pytest.MonkeyPatch):
    queue = _gathering(monkeypatch, 5)
    queue.offer(_queued(0, probe=True))
    began = time.monotonic()
    assert [queued.probe for queued in queue.take(20.0)] == [True]
    assert time.monotonic() - began < 10.0


def test_a_second_batch_begins_beside_the_first_once_it_is_half_full_or_has_waited(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "PATIENCE_S", 0.3)
    queue: RequestQueue[int] = RequestQueue(Limits(batch_rows=8, gathers=True))
    assert queue.begin([_queued(0)])
    queue.offer(_queued(1))
    began = time.monotonic()
    assert [queued.item for queued in queue.take(20.0)] == [1]
    assert 0.2 < time.monotonic() - began < 10.0
    monkeypatch.setattr(admission, "PATIENCE_S", 20.0)
    for number in range(2, 6):
        queue.offer(_queued(number))
    assert [queued.item for queued in queue.take(20.0)] == [2, 3, 4, 5]


def test_whoever_has_a_deadline_does_not_wait_for_the_first_batch_until_it_is_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "PATIENCE_S", 20.0)
    queue: RequestQueue[int] = RequestQueue(Limits(batch_rows=8, gathers=True))
    assert queue.begin([_queued(0)])
    queue.offer(_queued(1))
    deadline = time.monotonic() + 2.0
    queue.offer(_queued(2, deadline=deadline))
    assert [queued.item for queued in queue.take(20.0)] == [1, 2]
    assert time.monotonic() < deadline
