from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.labelling import Choice, Reason, Shares, estimate_accuracy, select, speaks_for


@given(
    margins=st.lists(st.floats(0, 1), max_size=60),
    budget=st.integers(0, 70),
    seed=st.integers(0, 99),
    with_drift=st.booleans(),
)
def test_select_takes_each_row_once_and_weights_stand_for_all_rows(
    margins: list[float], budget: int, seed: int, with_drift: bool
) -> None:
    drift = np.random.default_rng(seed).normal(size=len(margins)) if with_drift else None
    chosen = select(margins, budget=budget, rng=np.random.default_rng(seed), drift=drift)
    assert len(chosen) == len({row.index for row in chosen}) == min(budget, len(margins))
    if chosen:
        assert sum(row.weight for row in chosen) == pytest.approx(len(margins))
    again = select(margins, budget=budget, rng=np.random.default_rng(seed), drift=drift)
    assert chosen == again


def test_select_takes_the_smallest_margins_and_the_highest_drift() -> None:
    rng = np.random.default_rng(0)
    margins, drift = rng.random(200), rng.random(200)
    drift[:50] = np.nan
    chosen = select(margins, budget=20, rng=rng, drift=drift)
    by_reason = {reason: {row.index for row in chosen if row.reason is reason} for reason in Reason}
    assert by_reason[Reason.DRIFTED] == set((np.argsort(-np.nan_to_num(drift, nan=-1)))[:6].tolist())
    left = [i for i in np.argsort(margins).tolist() if i not in by_reason[Reason.DRIFTED]]
    assert by_reason[Reason.UNCERTAIN] == set(left[:8])
    assert len(by_reason[Reason.UNIFORM]) == 6


def test_select_without_drift_gives_that_share_to_chance() -> None:
    chosen = select(np.linspace(0, 1, 100), budget=10, rng=np.random.default_rng(0))
    reasons = [row.reason for row in chosen]
    assert (reasons.count(Reason.UNCERTAIN), reasons.count(Reason.UNIFORM)) == (4, 6)


def test_a_budget_of_one_is_drawn_by_chance() -> None:
    chosen = select([0.1, 0.9, 0.5], budget=1, rng=np.random.default_rng(0), drift=[1.0, 2.0, 3.0])
    assert [row.reason for row in chosen] == [Reason.UNIFORM]


def test_estimate_is_unbiased_although_doubtful_rows_are_labelled_more_often() -> None:
    rng = np.random.default_rng(5)
    margins = rng.random(400)
    right = rng.random(400) < 0.5 + 0.5 * margins  # errors live where the margin is small
    estimates, plain, covered = [], [], 0
    for _ in range(400):
        chosen = select(margins, budget=60, rng=rng)
        hits = [bool(right[row.index]) for row in chosen]
        estimate = estimate_accuracy(hits, [row.probability for row in chosen])
        estimates.append(estimate.accuracy)
        plain.append(np.mean(hits))
        covered += estimate.low <= right.mean() <= estimate.high
    standard_error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - right.mean()) < 4 * standard_error
    assert np.mean(plain) < right.mean() - 0.05
    assert 0.9 <= covered / 400 <= 0.99


def test_stopping_early_leaves_the_estimate_nearly_unbiased() -> None:
    rng = np.random.default_rng(6)
    margins = rng.random(400)
    right = rng.random(400) < 0.5 + 0.5 * margins
    estimates = []
    for _ in range(400):
        chosen = select(margins, budget=60, rng=rng)[:30]
        estimates.append(
            estimate_accuracy([bool(right[row.index]) for row in chosen], [r.probability for r in chosen]).accuracy
        )
    assert abs(np.mean(estimates) - right.mean()) < 0.02


def test_estimate_with_everything_labelled_is_exact_and_with_few_labels_is_wide() -> None:
    everything = estimate_accuracy([True, True, False, True], [1.0] * 4)
    assert (everything.accuracy, everything.low, everything.high) == (0.75, 0.75, 0.75)
    few = estimate_accuracy([True] * 5, [0.01] * 5)
    assert few.accuracy == 1.0
    assert few.low < 0.8


@pytest.mark.parametrize(
    "shares",
    [{"uniform": 0.0, "uncertain": 0.7, "drifted": 0.3}, {"uniform": 0.9}, {"uncertain": -0.1, "drifted": 0.8}],
)
def test_shares_must_be_a_split_with_a_uniform_part(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="labelling shares are"):
        Shares(**shares)


def test_wrong_input_is_refused_with_what_was_seen() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"range from 0.5 to 1.5"):
        select([0.5, 1.5], budget=1, rng=rng)
    with pytest.raises(DataError, match=r"\(2,\), drift scores \(1,\)"):
        select([0.5, 0.5], budget=1, rng=rng, drift=[1.0])
    with pytest.raises(DataError, match="budget is -1"):
        select([0.5], budget=-1, rng=rng)
    with pytest.raises(DataError, match="at least one label"):
        estimate_accuracy([], [])
    with pytest.raises(DataError, match=r"\(0, 1\]"):
        estimate_accuracy([True], [0.0])


@pytest.mark.slow
@pytest.mark.parametrize("worked_off", [1.0, 0.6])
def test_estimate_over_several_batches_of_the_same_traffic_is_unbiased(worked_off: float) -> None:
    """Four batches of 30 out of 300 requests that keep growing; errors live where the margin is small.

    Were each label to speak for its own batch alone, the doubtful rows would count for too little: 2 points too many.
    """
    rng = np.random.default_rng(11)
    margins = rng.random(420)
    right = rng.random(420) < 0.3 + 0.7 * margins
    estimates, naive, truths = [], [], []
    for _ in range(400):
        chosen: list[dict[str, Any]] = []
        sizes = (300, 340, 380, 420)
        for batch, size in enumerate(sizes):
            taken = {row["index"] for row in chosen}
            free = [i for i in range(size) if i not in taken]
            drift = rng.random(len(free))
            found = select(margins[free], budget=30, rng=rng, drift=drift)
            for row in chosen:
                row["seen"] += (batch,)
            done = set(range(round(worked_off * len(found))))
            chosen += [
                {"index": free[s.index], "p": s.probability, "batch": batch, "seen": (), "known": place in done}
                for place, s in enumerate(found)
            ]
        marks = [row["known"] for row in chosen]
        weights = speaks_for([Choice(probability=r["p"], batch=r["batch"], seen=r["seen"]) for r in chosen], marks)
        known = [row for row in chosen if row["known"]]
        answers = [bool(right[row["index"]]) for row in known]
        estimates.append(estimate_accuracy(answers, 1.0 / weights).accuracy)
        naive.append(estimate_accuracy(answers, [row["p"] for row in known]).accuracy)
        truths.append(sum(right[:size].sum() for size in sizes) / sum(sizes))
    error = float(np.std(estimates)) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - truths[0]) < 4 * error
    assert np.mean(naive) - truths[0] > 4 * error


def test_marks_and_choices_must_be_equally_many() -> None:
    with pytest.raises(DataError, match="1 chosen rows and 2 marks"):
        speaks_for([Choice(probability=1.0, batch=0)], [True, False])


def test_a_label_speaks_for_its_batch_and_once_more_in_each_later_one_as_far_as_that_is_labelled() -> None:
    early = [Choice(probability=0.5, batch=1, seen=(2, 3)), Choice(probability=0.25, batch=1, seen=(2,))]
    late = [Choice(probability=0.2, batch=2), Choice(probability=0.1, batch=2), Choice(probability=1.0, batch=3)]
    everything = speaks_for([*early, *late], [True] * 5)
    assert everything.tolist() == [2 + 2, 4 + 1, 5, 10, 1]
    half = speaks_for([*early, *late], [True, False, True, False, False])
    assert half.tolist() == [2 + 0.5 / 0.5, 5]  # half of batch 1 and of batch 2 are labelled, batch 3 not at all
    assert speaks_for([Choice(probability=0.5, batch=1, seen=(9,))], [True]).tolist() == [2]


def test_an_estimate_is_the_weighted_mean_with_the_error_of_its_strata() -> None:
    estimate = estimate_accuracy([1, 1, 0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5, 1.0, 1.0])
    assert estimate.accuracy == pytest.approx((2 * 3 + 1) / 10)
    smoothed = (3 + 1) / (4 + 2)
    half = 1.959964 * np.sqrt((8 / 10) ** 2 * 0.5 * smoothed * (1 - smoothed) / 4)
    assert (estimate.low, estimate.high) == pytest.approx((0.7 - half, min(1.0, 0.7 + half)), abs=1e-6)
    assert estimate.labels == 6


@pytest.mark.parametrize("share", [0.15, 0.3, 0.35, 0.6, 0.7, 0.9])
@pytest.mark.parametrize("count", [50, 56, 60, 333, 1_199])
def test_an_accuracy_of_all_right_answers_is_one_and_never_more(share: float, count: int) -> None:
    """The sum of the weights rounds otherwise than their product with ones."""
    estimate = estimate_accuracy(np.ones(count), np.full(count, share))
    assert estimate.accuracy == pytest.approx(1.0, abs=1e-12)
    assert estimate.low <= estimate.accuracy <= estimate.high <= 1.0
