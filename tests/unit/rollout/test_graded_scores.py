"""Evidence from scores between right and wrong: what right or wrong gives stays, and the error rates hold."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from perennial.continual.errors import DataError
from perennial.continual.rollout import (
    LiveEvidence,
    RolloutRules,
    ScoreSums,
    Verdict,
    judge_live,
    mean_above,
    mean_score_above,
)

pytestmark = pytest.mark.slow

ROLLOUTS = 100
ROWS = 1_500
EVERY = 100


def sums_of(differences: np.ndarray) -> ScoreSums:
    values, counts = np.unique(differences, return_counts=True)
    return ScoreSums.of(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def evidence_of(differences: np.ndarray) -> LiveEvidence:
    gains, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return LiveEvidence(gains=gains, losses=losses, ties=len(differences) - gains - losses, scores=sums_of(differences))


def betting(differences: np.ndarray, mean: float) -> float:
    """The wealth of whoever bets row by row, which is what the promise is about."""
    stakes = np.geomspace(0.01, 0.95, 24) / (1 + mean)
    growth = np.log1p(stakes[:, None] * (differences[None, :] - mean)).sum(axis=1)
    return float(np.exp(growth.max()) * np.exp(growth - growth.max()).mean())


@given(st.lists(st.floats(-1.0, 1.0, allow_subnormal=False), min_size=1, max_size=60), st.floats(-0.9, 0.9))
def test_the_sums_never_promise_more_than_betting_row_by_row_would_have_gained(values, mean):
    differences = np.array(values)
    assert mean_score_above(sums_of(differences), mean) <= betting(differences, mean) * (1 + 1e-9)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=200), st.sampled_from([-0.03, 0.0, 0.2]))
def test_for_right_and_wrong_the_sums_are_the_counts(values, mean):
    differences = np.array(values)
    counts = [int((differences == worth).sum()) for worth in (1.0, -1.0, 0.0)]
    found = mean_score_above(sums_of(differences), mean)
    assert found == mean_above(*counts, mean)
    assert found == pytest.approx(betting(differences, mean), rel=1e-9)
    plain = LiveEvidence(gains=counts[0], losses=counts[1], ties=counts[2])
    graded = judge_live(evidence_of(differences), RolloutRules())
    assert (graded.verdict, graded.reasons) == (
        judge_live(plain, RolloutRules()).verdict,
        judge_live(plain, RolloutRules()).reasons,
    )
    assert graded.figures["e_values"] == judge_live(plain, RolloutRules()).figures["e_values"]


@pytest.mark.parametrize(("mean", "spread", "rows"), [(0.05, 0.2, 400), (0.02, 0.2, 1_500), (0.02, 0.4, 2_000)])
def test_sums_with_squares_keep_most_of_the_evidence_and_sums_without_them_do_not(mean, spread, rows):
    rng = np.random.default_rng(4)
    differences = np.clip(rng.normal(mean, spread, rows), -1.0, 1.0)
    sums = sums_of(differences)
    plain = replace(sums, gained_squares=sums.gained, lost_squares=sums.lost)
    without_squares, with_squares, whole = (
        np.log(value)
        for value in (mean_score_above(plain, 0.0), mean_score_above(sums, 0.0), betting(differences, 0.0))
    )
    assert without_squares < 0.4 * whole
    assert 0.6 * whole < with_squares <= whole


def graded(rng: np.random.Generator, shift: float, rows: int, kind: str) -> np.ndarray:
    """Differences whose mean is `shift`, each in [-1, 1]; in the last kind each row's spread hangs on those before."""
    if kind == "clicks":  # NDCG of one relevant item: its place under both versions, often none
        worth = np.array([0.0, *(1 / np.log2(np.arange(2, 12)))])
        champion, challenger = (worth[rng.integers(0, len(worth), rows)] for _ in range(2))
        better = rng.random(rows) < abs(shift)
        return np.where(better, np.sign(shift), np.where(rng.random(rows) < 0.4, challenger - champion, 0.0))
    if kind == "small":
        return np.clip(shift + rng.uniform(-0.3, 0.3, rows), -1.0, 1.0)
    signs = rng.choice([-1.0, 1.0], rows)
    return shift + signs * np.where(np.roll(signs, 1) < 0, 0.9 - abs(shift), 0.05)


@pytest.mark.parametrize("kind", ["clicks", "small", "chained"])
def test_a_graded_e_value_is_never_large_when_its_hypothesis_holds_however_often_it_is_looked_at(kind):
    rng = np.random.default_rng(5)
    crossed = 0
    for _ in range(200):
        differences = graded(rng, 0.0, 400, kind)
        crossed += any(mean_score_above(sums_of(differences[:seen]), 0.0) >= 20 for seen in range(7, 400, 20))
    assert crossed / 200 <= 0.05


@pytest.mark.parametrize("kind", ["clicks", "small", "chained"])
@pytest.mark.parametrize("rows", [30, 200])
def test_few_graded_rows_turn_no_equal_challenger_away_at_the_limit(kind, rows):
    rng = np.random.default_rng(rows)
    worse = sum(
        judge_live(evidence_of(graded(rng, 0.0, rows, kind)), RolloutRules(), at_limit=True).verdict is Verdict.WORSE
        for _ in range(500)
    )
    assert worse / 500 <= 0.05


def rollouts(shift: float, kind: str, seed: int) -> float:
    """The share of rollouts that pass."""
    rng = np.random.default_rng(seed)
    passed = 0
    for _ in range(ROLLOUTS):
        differences = graded(rng, shift, ROWS, kind)
        for seen in range(EVERY, ROWS + 1, EVERY):
            verdict = judge_live(evidence_of(differences[:seen]), RolloutRules(), at_limit=seen == ROWS).verdict
            if verdict is not Verdict.UNDECIDED:
                break
        passed += verdict is Verdict.HOLDS
    return passed / ROLLOUTS


@pytest.mark.parametrize("kind", ["clicks", "small"])
@pytest.mark.slow
def test_error_rates_over_simulated_rollouts_of_graded_scores(kind, record_property):
    shares = {shift: rollouts(shift, kind, seed) for seed, shift in enumerate((0.0, -0.03, 0.03, -0.1))}
    record_property("passed", shares)
    assert shares[0.0] >= 0.95
    assert shares[-0.03] <= 0.05
    assert shares[0.03] >= 0.95
    assert shares[-0.1] == 0.0


def test_the_difference_is_the_mean_of_the_scores_and_the_counts_are_of_rows():
    evidence = evidence_of(np.array([0.5, 0.25, -0.25, 0.0]))
    assert (evidence.gains, evidence.losses, evidence.ties, evidence.rows) == (2, 1, 1, 4)
    assert evidence.difference_points == 12.5
    figures = judge_live(evidence, RolloutRules()).figures
    assert (figures["gained"], figures["lost"], figures["difference_points"]) == (0.75, 0.25, 12.5)


def test_figures_of_right_and_wrong_are_those_of_before():
    assert set(judge_live(LiveEvidence(gains=1, ties=3), RolloutRules()).figures) == {
        "gains", "losses", "ties", "asked", "failed", "timed", "slow", "waiting",
        "difference_points", "e_values", "e_value_needed", "worse_e_value_needed",
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"gained": 2.0},
        {"gained_squares": 0.9},
        {"lost_squares": 0.9},
        {"lost": -0.1, "lost_squares": -0.2},
        {"gained": float("nan")},
        {"lost_squares": float("nan")},
    ],
)
def test_sums_that_no_differences_have_are_refused(wrong):
    with pytest.raises(DataError, match=r"not of differences in \[-1, 1\]"):
        ScoreSums(**{"rows": 2, "gained": 0.5, "lost": 0.5, "gained_squares": 0.3, "lost_squares": 0.3} | wrong)


def test_scores_of_other_rows_than_those_counted_are_refused():
    with pytest.raises(DataError, match="scores of 1 rows"):
        LiveEvidence(gains=2, scores=ScoreSums.of({0.5: 1}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("large", "small", "size", "error_rate", "margin"),
    [(4, 5000, 0.002, 0.05, 0.0), (5, 5000, 0.002, 0.025, 0.0), (2, 5000, 0.005, 0.1, 0.0), (3, 100, 0.02, 0.1, 3.0)],
)
def test_a_few_large_differences_among_many_small_ones_keep_the_error_rate_at_the_limit(
    large: int, small: int, size: float, error_rate: float, margin: float
) -> None:
    """Equal versions: each difference is a fair coin. All sums are gone through, with their exact probabilities."""
    rules = RolloutRules(error_rate=error_rate, margin_points=max(margin, 0.001))
    turned_away = 0.0
    for ups in range(large + 1):
        for small_ups in range(small + 1):
            chance = binom.pmf(ups, large, 0.5) * binom.pmf(small_ups, small, 0.5)
            if chance < 1e-9:
                continue
            counts = {1.0: ups, -1.0: large - ups, size: small_ups, -size: small - small_ups}
            evidence = LiveEvidence(
                gains=ups + small_ups, losses=large + small - ups - small_ups, scores=ScoreSums.of(counts)
            )
            worse = judge_live(evidence, rules, at_limit=True).verdict is Verdict.WORSE
            turned_away += chance * worse
    assert turned_away <= error_rate
