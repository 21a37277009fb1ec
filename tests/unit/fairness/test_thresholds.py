"""Thresholds by group: the rate is equal, no other equal rate is right oftener, and what is told of it is held out."""

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.fairness.slices import Counted
from perennial.continual.fairness.thresholds import EQUALISED, equal_thresholds, fit_thresholds


def drawn(seed: int, rows: int, *, shift: float = 0.15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups, truth and scores; those of group s are lower by `shift` whatever the truth."""
    rng = np.random.default_rng(seed)
    groups, truth = rng.choice(["n", "s"], rows), rng.random(rows) < 0.4
    scores = 0.35 + 0.3 * truth - shift * (groups == "s") + rng.normal(0.0, 0.12, rows)
    return groups, truth, np.clip(scores, 0.0, 1.0)


def rate(figure: str, truth: np.ndarray, decided: np.ndarray) -> float:
    if figure == "selection_rate":
        return float(decided.mean())
    return float(decided[~truth].mean() if figure == "false_positive_rate" else 1.0 - decided[truth].mean())


@pytest.mark.parametrize("figure", EQUALISED)
def test_the_rate_is_equal_and_no_other_equal_rate_is_right_oftener(figure: str) -> None:
    groups, truth, scores = drawn(1, 1_000)
    found = fit_thresholds(groups, truth, scores, figure)
    decided = {name: scores[groups == name] >= cut for name, cut in found.items()}
    rates = [rate(figure, truth[groups == name], each) for name, each in decided.items()]
    assert abs(rates[0] - rates[1]) < 0.01
    right = sum(int((each == truth[groups == name]).sum()) for name, each in decided.items())
    cuts = np.linspace(-0.01, 1.01, 103)
    for one in cuts:
        for other in cuts:
            pair = [scores[groups == name] >= cut for name, cut in zip("ns", (one, other), strict=True)]
            own = [truth[groups == name] for name in "ns"]
            apart = abs(rate(figure, own[0], pair[0]) - rate(figure, own[1], pair[1]))
            if apart < 0.001:
                assert sum(int((a == b).sum()) for a, b in zip(pair, own, strict=True)) <= right + 5


@pytest.mark.parametrize("figure", EQUALISED)
def test_a_group_with_lower_scores_is_answered_alike_on_rows_that_chose_nothing(figure: str) -> None:
    groups, truth, scores = drawn(2, 4_000)
    labels, given = (np.where(flags, "approve", "refuse").tolist() for flags in (truth, scores >= 0.5))
    found = equal_thresholds(
        "region", groups.tolist(), labels, given, scores.tolist(), label="approve", figure=figure, seed=3
    )
    assert found is not None
    gap = Counted.of(groups.tolist(), labels, given).widest(figure, label="approve")
    assert gap is not None
    assert found.gap_now.mean == pytest.approx(gap.difference.mean)
    assert found.gap_now.low > 0.0, "surely apart before"
    assert found.gap_then.mean < 0.04
    assert found.groups[0].threshold - found.groups[1].threshold == pytest.approx(0.15, abs=0.08)
    assert found.lost.mean == pytest.approx(found.right_now - found.right_then)
    assert found.lost.mean < 0.0, "scores that were shifted for one group are read rightly again"


def test_equal_groups_gain_nothing_and_few_rows_tell_nothing() -> None:
    groups, truth, scores = drawn(4, 2_000, shift=0.0)
    labels, given = (np.where(flags, "a", "b").tolist() for flags in (truth, scores >= 0.5))
    lists = (groups.tolist(), labels, given, scores.tolist())
    found = equal_thresholds("region", *lists, label="a", figure="selection_rate")
    assert found is not None
    assert found.gap_then.low <= 0.0 or found.gap_then.mean < 0.05
    few = [each[:40] for each in lists]
    assert (
        equal_thresholds("region", few[0], few[1], few[2], scores.tolist()[:40], label="a", figure=EQUALISED[2]) is None
    )
    nobody: list[str | None] = [None] * 40
    assert (
        equal_thresholds("region", nobody, few[1], few[2], scores.tolist()[:40], label="a", figure=EQUALISED[0]) is None
    )


def test_a_figure_that_thresholds_cannot_change_and_lists_of_other_lengths_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'accuracy' cannot be made equal"):
        equal_thresholds("region", ["n"], ["a"], ["a"], [0.5], label="a", figure="accuracy")
    with pytest.raises(DataError, match="1 groups, 1 labels, 1 answers and 2 scores"):
        equal_thresholds("region", ["n"], ["a"], ["a"], [0.5, 0.6], label="a", figure=EQUALISED[0])
