"""The limit above which replies of the service benchmark are sent by themselves: it is not chosen by luck."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.service import chosen_limit
from benchmarks.service_data import read_turns


def test_a_limit_is_the_lowest_above_which_the_precision_is_sure() -> None:
    shares = np.linspace(0.0, 1.0, 2000)
    limit = chosen_limit(shares, shares > 0.5)
    assert limit == pytest.approx(0.5, abs=0.051)
    assert (shares[shares >= limit] > 0.5).mean() > 0.95


def test_luck_chooses_no_limit() -> None:
    """Each answer is right nineteen times in twenty, which is not surely more than that, whatever limit is tried."""
    found = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found += chosen_limit(rng.random(400), rng.random(400) < 0.95) <= 1.0
    assert found <= 20, "at most one in twenty, but for chance"


def test_too_few_answers_choose_none() -> None:
    assert chosen_limit(np.linspace(0.0, 1.0, 50), np.ones(50, dtype=np.bool_)) > 1.0


def test_turns_of_which_one_says_nothing_are_left_out(tmp_path: Path) -> None:
    lines = ["dialogue,user,system", "a,book a table,where?", "a,in town, ", "b,,hello", "b,thanks,bye"]
    (tmp_path / "turns.csv").write_text("\n".join(lines))
    assert read_turns(tmp_path / "turns.csv") == [("a", "book a table", "where?"), ("b", "thanks", "bye")]
