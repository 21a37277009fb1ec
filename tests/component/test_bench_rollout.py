"""The benchmark's canary on a real log: labels that come late are compared, all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.rollout_world import LiveWorld

pytestmark = [pytest.mark.component, pytest.mark.alone]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LiveWorld]:
    world = LiveWorld(tmp_path, seed=0)
    yield world
    world.close()


def test_late_labels_decide_on_a_challenger(world: LiveWorld) -> None:
    """Of each rollout: whether it passed, the rows compared, the requests logged."""
    assert world.rollout([-1] * 100, 5_500) == (False, 30, 5_600), "the first labels prove it"
    assert world.rollout([0] * 100, 5_500) == (True, 100, 5_600)
    assert world.rollout([0, 1, -1, -1] * 5, 100) == (True, 20, 120), "ten lost and five gained may be chance"
