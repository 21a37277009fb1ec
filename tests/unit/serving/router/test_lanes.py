"""Queues that are told of together, and each of which is seen to hang by itself."""

import pytest

from perennial.ops.serving.router.admission import Limits, QueuedRequest
from perennial.ops.serving.router.lanes import Lanes


def _queued() -> QueuedRequest[str]:
    return QueuedRequest(item="one", rows=1, bytes=1, cost=33, deadline=None, probe=False)


def _age(lane: object, seconds: float) -> None:
    lane._progress_at -= seconds  # type: ignore[attr-defined]


def test_figures_are_those_of_all_lanes() -> None:
    lanes: Lanes[str] = Lanes(Limits(), reads_slowly=True)
    for lane in lanes:
        lane.offer(_queued())
    assert (lanes.waiting, lanes.at_work, lanes.answered) == (3, 0, 0)
    for lane in lanes:
        lane.finish(lane.take(1.0)[0], good=True)
    assert (lanes.waiting, lanes.at_work) == (0, 0)
    assert lanes.answered == 2, "what was read is counted by the lane that answers it"


@pytest.mark.parametrize(("hangs", "seen"), [("unread", True), ("champion", False), ("challenger", False)])
def test_an_engine_that_answers_proves_nothing_of_a_hung_reader(hangs: str, seen: bool) -> None:
    """Other lanes wait for engines, whose answers are a sign of life for them all."""
    lanes: Lanes[str] = Lanes(Limits(), reads_slowly=True)
    lane = getattr(lanes, hangs)
    lane.offer(_queued())
    lane.take(1.0)
    _age(lane, 60.0)
    assert lanes.stalled_s >= 60.0
    lanes.progress()
    assert (lanes.stalled_s >= 60.0) is seen


def test_without_slow_reading_there_are_two() -> None:
    lanes: Lanes[str] = Lanes(Limits(), reads_slowly=False)
    assert (lanes.unread, len(list(lanes))) == (None, 2)
