"""The audit of membership: a model that memorises is found out, one that does not is not accused."""

import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.quality.membership import membership_auc


def by_neighbour(kernel: float, seed: int) -> tuple[list[float], list[float]]:
    """How sure a nearest-neighbour vote of noisy labels is of learnt and of unknown rows; a small kernel memorises."""
    rng = np.random.default_rng(seed)
    X, labels = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
    near = np.exp(-((X[:, None] - X[None, :200]) ** 2).sum(axis=2) / kernel)
    votes = np.stack([near @ (labels[:200] == label) for label in (0, 1)], axis=1) + 1e-9
    sure = (votes / votes.sum(axis=1, keepdims=True))[np.arange(400), labels]
    return sure[:200].tolist(), sure[200:].tolist()


def test_a_model_that_memorises_is_found_out() -> None:
    found = membership_auc(*by_neighbour(1e-4, 0))
    assert found.low > 0.9


def test_a_model_that_smooths_everything_is_rarely_accused() -> None:
    found = [membership_auc(*by_neighbour(1e4, seed)) for seed in range(40)]
    assert sum(each.low > 0.5 or each.high < 0.5 for each in found) <= 6
    assert np.mean([each.mean for each in found]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    learnt, unknown = rng.integers(0, 5, 30) / 4, rng.integers(0, 5, 20) / 4
    pairs = [1.0 if one > other else 0.5 if one == other else 0.0 for one in learnt for other in unknown]
    assert membership_auc(learnt, unknown).mean == pytest.approx(np.mean(pairs))


def test_intervals_hold_the_truth() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        found = membership_auc(rng.normal(size=80) + 1.0, rng.normal(size=60))
        held += found.low <= 0.7602 <= found.high  # the normal distribution's at 1 / sqrt(2)
    assert held >= 180


def test_rows_of_both_kinds_are_needed() -> None:
    with pytest.raises(DataError, match="0 learnt and 1 unknown"):
        membership_auc([], [0.5])
