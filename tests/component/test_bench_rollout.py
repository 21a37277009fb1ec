"""The rollouts of the benchmark: the reader counts each label when it comes, and the simulation judges as it does."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rollout_table import Cell, simulate
from benchmarks.rollout_world import LiveWorld
from perennial.continual.rollout import LiveEvidence, RolloutRules, Verdict, judge_live

pytestmark = pytest.mark.component


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LiveWorld]:
    world = LiveWorld(tmp_path, seed=0)
    yield world
    world.close()


@pytest.mark.parametrize("asked", [False, True])
def test_labels_that_come_at_once_or_a_day_late_are_all_counted(world: LiveWorld, asked: bool) -> None:
    cell = Cell(labels=30, points=-3.0, disagreement=0.06, asked=asked)
    for late_h, hours in ((0.0, 2), (24.0, 26)):
        read = world.rollout(cell, late_h, 40.0)
        assert (read.equal, read.looks, read.hours) == (hours, hours, hours)


def test_many_rollouts_at_once_come_to_the_verdicts_of_one_after_the_other() -> None:
    cell = Cell(labels=60, points=-6.0, disagreement=0.06, asked=False)
    at_once = simulate(cell, RolloutRules(), 4_000, np.random.default_rng(1))
    rows = np.random.default_rng(2).multinomial(60, [0.0, 0.06, 0.94], size=4_000)
    verdicts = [
        judge_live(LiveEvidence(gains=int(won), losses=int(lost), ties=int(tied)), RolloutRules(), at_limit=True)
        for won, lost, tied in rows
    ]
    one_by_one = np.mean([decision.verdict is Verdict.HOLDS for decision in verdicts])
    assert at_once.promoted == pytest.approx(one_by_one, abs=0.03)
