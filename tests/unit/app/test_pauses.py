import gc
import sys
from collections.abc import Iterator

import pytest

from perennial.ops.app.pauses import ShortPauses


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()


def test_what_lives_when_it_begins_is_looked_at_no_more() -> None:
    kept: list[object] = [[number] for number in range(1_000)]
    ShortPauses().begin()
    assert gc.get_freeze_count() > len(kept)
    assert not any(thing is kept for thing in gc.get_objects())
    assert sys.getswitchinterval() == pytest.approx(0.0005)


def test_what_came_until_it_is_warm_follows_once() -> None:
    pauses = ShortPauses(warm_s=0.0)
    pauses.begin()
    kept = [[0]]
    pauses.tick()
    assert not any(thing is kept for thing in gc.get_objects())
    late = [[1]]
    pauses.tick()
    assert any(thing is late for thing in gc.get_objects())


def test_nothing_is_frozen_before_its_time() -> None:
    pauses = ShortPauses(warm_s=3_600.0)
    pauses.tick()
    pauses.begin()
    frozen = gc.get_freeze_count()
    kept = [[number] for number in range(100)]
    pauses.tick()
    assert gc.get_freeze_count() <= frozen
    assert len(kept) == 100
