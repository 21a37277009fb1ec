from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.continual.drift.statistics import (
    StatisticResult,
    chi_square,
    classifier_auc,
    jensen_shannon,
    ks,
    rff_mmd,
    wasserstein,
)
from perennial.continual.drift.statistics.contingency import contingency, pool_sparse
from perennial.continual.drift.statistics.permutation import sequential_p_value
from perennial.continual.errors import DataError

Draw = Callable[[int, np.random.Generator], np.ndarray]
LEVELS = np.array([f"l{i}" for i in range(77)])
CHANCES = np.arange(1, 78) / (77 * 39)


def _p(name: str, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> StatisticResult:
    match name:
        case "ks":
            return ks(a, b)
        case "wasserstein":
            return wasserstein(a, b, rng=rng, permutations=99)
        case "chi_square":
            return chi_square(a, b, rng=rng, permutations=99)
        case "jensen_shannon":
            return jensen_shannon(a, b, rng=rng, permutations=99)
        case "rff_mmd":
            return rff_mmd(a, b, rng=rng, permutations=99, features=64)
        case "classifier_auc":
            return classifier_auc(a, b, rng=rng, permutations=99)
    raise AssertionError(name)


CASES: list[tuple[str, Draw]] = [
    ("ks", lambda n, r: r.lognormal(size=n)),
    ("wasserstein", lambda n, r: r.lognormal(size=n)),
    ("chi_square", lambda n, r: r.choice(LEVELS[:2], n, p=[0.9, 0.1])),
    ("chi_square", lambda n, r: r.choice(LEVELS, n, p=CHANCES)),
    ("jensen_shannon", lambda n, r: r.choice(LEVELS, n, p=CHANCES)),
    ("rff_mmd", lambda n, r: r.normal(size=(n, 8))),
    ("classifier_auc", lambda n, r: r.normal(size=(n, 8))),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "draw"), CASES)
def test_statistic_keeps_its_level_on_clean_data(name: str, draw: Draw) -> None:
    rng = np.random.default_rng(3)
    repeats, alpha = 150, 0.1
    alarms = sum(_p(name, draw(200, rng), draw(100, rng), rng).p_value < alpha for _ in range(repeats))
    assert alarms / repeats <= 1.5 * alpha + 0.02  # one standard error of a rate near 0.1 from 200 repeats


@pytest.mark.parametrize(
    ("name", "clean", "moved"),
    [
        ("ks", CASES[0][1], lambda n, r: r.lognormal(0.6, size=n)),
        ("wasserstein", CASES[1][1], lambda n, r: r.lognormal(0.6, size=n)),
        ("chi_square", CASES[3][1], lambda n, r: r.choice(LEVELS, n, p=CHANCES[::-1])),
        ("jensen_shannon", CASES[3][1], lambda n, r: r.choice(LEVELS, n, p=CHANCES[::-1])),
        ("rff_mmd", CASES[5][1], lambda n, r: r.normal(0.5, size=(n, 8))),
        ("classifier_auc", CASES[6][1], lambda n, r: r.normal(0.5, size=(n, 8))),
    ],
)
def test_statistic_finds_a_clear_change_at_its_least_p(name: str, clean: Draw, moved: Draw) -> None:
    rng = np.random.default_rng(4)
    result = _p(name, clean(300, rng), moved(300, rng), rng)
    assert result.p_value <= 0.01
    assert result.relevant


@pytest.mark.parametrize(("name", "draw"), CASES)
def test_statistic_of_equal_seeds_is_equal(name: str, draw: Draw) -> None:
    a, b = draw(150, np.random.default_rng(5)), draw(90, np.random.default_rng(6))
    before = a.copy(), b.copy()
    first = _p(name, a, b, np.random.default_rng(7))
    assert first == _p(name, a, b, np.random.default_rng(7))
    assert (first.n_reference, first.n_current) == (150, 90)
    assert all(np.array_equal(x, y) for x, y in zip((a, b), before, strict=True))


def test_effects_of_clean_windows_do_not_grow_when_windows_shrink() -> None:
    rng = np.random.default_rng(8)
    effects = [wasserstein(rng.normal(size=600), rng.normal(size=50), rng=rng).effect for _ in range(60)]
    raw = [wasserstein(rng.normal(size=600), rng.normal(size=50), rng=rng).statistic for _ in range(60)]
    assert np.median(effects) < 0.05 < 0.1 < np.median(raw)


@pytest.mark.parametrize("bad", [np.array([1.0, np.nan, 2.0]), np.array([1.0])])
def test_numeric_statistics_refuse_what_cannot_be_compared(bad: np.ndarray) -> None:
    with pytest.raises(DataError, match="reference"):
        ks(bad, np.array([1.0, 2.0, 3.0]))
    with pytest.raises(DataError, match="current window"):
        wasserstein(np.array([1.0, 2.0, 3.0]), bad, rng=np.random.default_rng(1))


def test_vector_statistics_refuse_what_is_not_a_matrix() -> None:
    with pytest.raises(DataError, match="shape"):
        rff_mmd(np.zeros(4), np.zeros((4, 2)), rng=np.random.default_rng(1))
    with pytest.raises(DataError, match="finite"):
        classifier_auc(np.zeros((4, 2)), np.full((4, 2), np.inf), rng=np.random.default_rng(1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("statistic", [rff_mmd, classifier_auc])
@pytest.mark.parametrize("side", ["reference", "current window"])
def test_one_value_that_is_not_finite_is_refused_on_either_side(
    statistic: Callable[..., StatisticResult], side: str, value: float
) -> None:
    good, bad = np.zeros((4, 2)), np.zeros((4, 2))
    bad[2, 1] = value
    pair = (bad, good) if side == "reference" else (good, bad)
    with pytest.raises(DataError, match=f"{side}.*not finite"):
        statistic(*pair, rng=np.random.default_rng(1))


def test_constant_values_never_differ() -> None:
    ones = np.ones(50)
    assert ks(ones, ones).p_value == 1.0
    assert wasserstein(ones, ones, rng=np.random.default_rng(1)).p_value == 1.0
    assert chi_square(["a"] * 50, ["a"] * 9, rng=np.random.default_rng(1)).p_value == 1.0


def test_chi_square_of_few_rows_falls_back_to_a_monte_carlo_g_test() -> None:
    rng = np.random.default_rng(2)
    result = chi_square(["a", "a", "a", "b"], ["b", "b", "b", "b"], rng=rng, permutations=4_000)
    assert result.p_value == pytest.approx(8 / 56, abs=0.03)  # P(3 or more of the 3 "a" on one side) of 8 choose 3
    levels = [chi_square(rng.choice(["a", "b"], 6), rng.choice(["a", "b"], 6), rng=rng).p_value for _ in range(200)]
    assert np.mean(np.array(levels) < 0.1) <= 0.15


@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=80),
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=80),
)
@settings(max_examples=60)
def test_pooling_keeps_the_rows_and_leaves_no_sparse_category(a: list[str], b: list[str]) -> None:
    table = contingency(a, b)
    pooled = pool_sparse(table)
    assert pooled.sum(axis=1).tolist() == [len(a), len(b)]
    expected = pooled.sum(axis=0) * min(len(a), len(b)) / (len(a) + len(b))
    assert pooled.shape[1] == 1 or expected.min() >= 5


def test_sequential_p_value_stops_early_on_clean_data_and_runs_out_on_drift() -> None:
    rng = np.random.default_rng(1)
    p, null = sequential_p_value(0.0, lambda n: rng.normal(size=n), limit=5_000)
    assert p > 0.3
    assert len(null) == 200
    p, null = sequential_p_value(99.0, lambda n: rng.normal(size=n), limit=5_000)
    assert p == 1 / 5_001
    assert len(null) == 5_000


def test_result_refuses_a_p_value_that_is_none() -> None:
    with pytest.raises(DataError, match="NaN"):
        StatisticResult(statistic=0.0, p_value=float("nan"), effect=0.0, floor=0.0, n_reference=1, n_current=1)


@pytest.mark.slow
def test_classifier_auc_of_repeated_texts_leans_to_neither_side() -> None:
    rng = np.random.default_rng(6)
    few = rng.normal(size=(2, 8))
    results = [
        classifier_auc(few[rng.integers(2, size=200)], few[rng.integers(2, size=100)], rng=rng, permutations=99)
        for _ in range(60)
    ]
    assert abs(np.mean([r.statistic for r in results]) - 0.5) < 0.02  # ties kept in order of their side read 0.43
    assert np.mean([r.p_value < 0.1 for r in results]) <= 0.2
