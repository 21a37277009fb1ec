"""Estimates from logged propensities: right on average, whatever the model beside them expects."""

from dataclasses import replace

import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.intervals import grouped_interval
from perennial.continual.off_policy import Logged, LoggedChoices, OffPolicy, estimate

CHANCES = np.array([0.7, 0.2, 0.1])  # of the logging way
EARNED = np.array([0.2, 0.5, 0.8])  # the truth of each choice
WANTED = np.array([0.0, 0.5, 0.5])  # the way in question: worth 0.65


def logged(seed: int, rows: int, expects: np.ndarray) -> OffPolicy:
    rng = np.random.default_rng(seed)
    choice = rng.choice(3, rows, p=CHANCES)
    return estimate(
        Logged(
            reward=(rng.random(rows) < EARNED[choice]).astype(float),
            propensity=CHANCES[choice],
            chance=WANTED[choice],
            predicted=expects[choice],
            expected=np.full(rows, float(WANTED @ expects)),
        ),
        rng,
    )


@pytest.mark.parametrize("expects", [EARNED, np.zeros(3), np.array([0.9, 0.1, 0.4])], ids=["right", "none", "wrong"])
def test_the_truth_lies_in_nearly_all_intervals(expects: np.ndarray) -> None:
    found = [logged(seed, 600, expects) for seed in range(60)]
    for intervals in ([one.inverse_propensity for one in found], [one.doubly_robust for one in found]):
        assert np.mean([one.mean for one in intervals]) == pytest.approx(0.65, abs=0.03)
        assert sum(one.low <= 0.65 <= one.high for one in intervals) >= 52
    assert np.mean([one.self_normalised for one in found]) == pytest.approx(0.65, abs=0.03)
    assert all(1 < one.effective_rows < 600 and one.clipped == 0.0 for one in found)


def test_a_good_model_narrows_the_interval() -> None:
    def width(expects: np.ndarray) -> float:
        found = [logged(seed, 600, expects).doubly_robust for seed in range(10)]
        return float(np.mean([one.high - one.low for one in found]))

    assert width(EARNED) < width(np.zeros(3))


def test_choices_without_a_chance_are_refused() -> None:
    one, none = np.ones(2), np.zeros(2)
    with pytest.raises(DataError, match="propensity"):
        Logged(reward=one, propensity=none, chance=one, predicted=one, expected=one)
    with pytest.raises(DataError, match="shapes"):
        Logged(reward=np.ones(3), propensity=one, chance=one, predicted=one, expected=one)


def test_rows_of_one_user_tell_no_more_than_that_user() -> None:
    """Each user's choice is logged ten times: the interval stays that of the users, and does not shrink."""
    rng = np.random.default_rng(2)
    chosen = rng.choice(3, 200, p=CHANCES)
    columns = {
        "reward": (rng.random(200) < EARNED[chosen]).astype(float),
        "propensity": CHANCES[chosen],
        "champion": (chosen == 0).astype(float),
        "challenger": (chosen == 1).astype(float),
    }
    once = LoggedChoices(**columns, whose=np.arange(200))
    tenfold = LoggedChoices(
        **{name: np.repeat(column, 10) for name, column in columns.items()}, whose=np.repeat(np.arange(200), 10)
    )
    assert (once.users, tenfold.users, tenfold.rows) == (200, 200, 2_000)
    assert tenfold.gain(np.random.default_rng(0)).low == pytest.approx(once.gain(np.random.default_rng(0)).low)
    assert tenfold.of_challenger(np.random.default_rng(0)).doubly_robust.high == pytest.approx(
        once.of_challenger(np.random.default_rng(0)).doubly_robust.high
    )
    alone = replace(tenfold, whose=np.zeros(2_000, dtype=int))
    assert (alone.users, alone.gain(rng).mean) == (1, 0.0), "nobody else says what to expect"


def test_values_without_their_groups_have_no_interval() -> None:
    with pytest.raises(DataError, match=r"shapes \(3,\) and \(2,\)"):
        grouped_interval([1.0, 0.0, 1.0], np.zeros(2, dtype=int), np.random.default_rng(0))


def test_of_two_versions_that_choose_alike_neither_gains_and_one_row_tells_nothing() -> None:
    rng = np.random.default_rng(0)
    reward, propensity, same = rng.random(50), np.full(50, 0.5), np.ones(50)
    log = LoggedChoices(reward=reward, propensity=propensity, champion=same, challenger=same)
    assert log.gain(rng) == log.gain(rng)
    assert (log.gain(rng).low, log.gain(rng).high) == (0.0, 0.0)
    assert log.of_champion(np.random.default_rng(1)) == log.of_challenger(np.random.default_rng(1))
    one = LoggedChoices(reward=reward[:1], propensity=propensity[:1], champion=same[:1], challenger=0 * same[:1])
    assert one.gain(rng).mean == 0.0
