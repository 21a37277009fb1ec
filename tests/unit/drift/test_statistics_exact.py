"""Each statistic against its definition, worked out another way; and its effect against what chance alone gives."""

import numpy as np
import pytest
from scipy import spatial, stats
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

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
from perennial.continual.drift.statistics.permutation import numeric, sequential_p_value
from perennial.continual.errors import DataError

LEVELS = np.array([f"l{i:02}" for i in range(40)])


def _rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_ks_effect_is_the_gap_less_what_chance_alone_gives_on_average() -> None:
    rng = _rng()
    clean = np.mean([ks(rng.normal(size=1_500), rng.normal(size=700)).statistic for _ in range(150)])
    moved = ks(rng.normal(size=1_500), rng.normal(0.5, size=700))
    assert moved.statistic - moved.effect == pytest.approx(clean, rel=0.06)


def test_ks_of_few_rows_has_the_exact_p_value_and_of_many_the_asymptotic_one() -> None:
    assert ks(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])).p_value == pytest.approx(2 / 20)
    a, b = _rng().normal(size=150), _rng(2).normal(0.2, size=3_000)
    assert ks(a, b).p_value == stats.ks_2samp(a, b, method="exact").pvalue
    a, b = _rng().normal(size=400), _rng(2).normal(0.1, size=300)
    assert ks(a, b).p_value == stats.ks_2samp(a, b, method="asymp").pvalue
    a, b = _rng().normal(size=150), _rng(2).normal(0.2, size=10_001)
    assert ks(a, b).p_value == stats.ks_2samp(a, b, method="asymp").pvalue


@pytest.mark.parametrize(
    ("rows", "others", "method"),
    [(199, 300, "exact"), (200, 300, "asymp"), (20, 10_000, "exact"), (20, 10_001, "asymp"), (300, 199, "exact")],
)
def test_ks_is_exact_where_that_is_cheap_and_needed(rows: int, others: int, method: str) -> None:
    a, b = _rng().normal(size=rows), _rng(2).normal(0.3, size=others)
    other = {"exact": "asymp", "asymp": "exact"}[method]
    assert ks(a, b).p_value == stats.ks_2samp(a, b, method=method).pvalue != stats.ks_2samp(a, b, method=other).pvalue


def test_chi_square_is_pearsons_and_its_effect_is_without_sampling_bias() -> None:
    table = np.array([[60, 25, 15], [30, 50, 40]])
    sides = [np.repeat(["a", "b", "c"], row) for row in table]
    result = chi_square(sides[0], sides[1], rng=_rng())
    expected = stats.chi2_contingency(table, correction=False)
    assert (result.statistic, result.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert result.effect**2 == pytest.approx((expected.statistic - 2) * 220 / (100 * 120))
    assert (result.n_reference, result.n_current) == (100, 120)


def test_chi_square_effect_reads_0_for_equal_mixes_of_many_labels_and_2_for_disjoint_ones() -> None:
    rng = _rng()
    clean = [chi_square(rng.choice(LEVELS, 600), rng.choice(LEVELS, 400), rng=rng).effect for _ in range(60)]
    assert np.median(clean) < 0.12 < np.sqrt(39 * 1_000 / (600 * 400))  # the last is what its bias would add
    assert np.mean(np.square(clean)) < 0.03
    alike = chi_square(["a"] * 50, ["a"] * 9, rng=rng)
    assert (alike.statistic, alike.effect) == (0.0, 0.0)
    assert chi_square(["a"] * 3_000, ["b"] * 3_000, rng=rng).effect == pytest.approx(2.0, abs=0.001)
    p, q = np.array([0.7, 0.3]), np.array([0.4, 0.6])
    sides = [np.repeat(["a", "b"], (100_000 * share).astype(int)) for share in (p, q)]
    assert chi_square(sides[0], sides[1], rng=rng).effect == pytest.approx(
        np.sqrt(((p - q) ** 2 / ((p + q) / 2)).sum()), rel=1e-3
    )


def test_chi_square_of_counts_at_five_is_pearsons_and_below_the_g_test() -> None:
    at_five = chi_square(["a"] * 5 + ["b"] * 5, ["a"] * 5 + ["b"] * 5, rng=_rng(), permutations=99)
    assert (at_five.statistic, at_five.p_value) == (0.0, 1.0)
    just = chi_square(["a"] * 4 + ["b"] * 6, ["a"] * 6 + ["b"] * 4, rng=_rng(), permutations=99)
    assert just.statistic == pytest.approx(0.8)
    few = [["a"] * 4 + ["b"], ["a"] + ["b"] * 4]
    result = chi_square(*few, rng=_rng(), permutations=2_000)
    expected = stats.chi2_contingency([[4, 1], [1, 4]], correction=False, lambda_="log-likelihood")
    assert result.statistic == pytest.approx(expected.statistic)
    assert result.p_value == pytest.approx(52 / 252, abs=0.1)  # 4 or more of the 5 on one side, of 10 choose 5
    with_none = chi_square(["a"] * 4, ["b"] * 4, rng=_rng(), permutations=2_000)
    assert with_none.statistic == pytest.approx(16 * np.log(2))
    assert with_none.p_value == pytest.approx(2 / 70, abs=0.015)


def test_chi_square_of_sparse_labels_is_that_of_the_pooled_table() -> None:
    table = np.array([[50, 30, 1, 2], [40, 35, 3, 1]])
    sides = [np.repeat(list("abcd"), row) for row in table]
    expected = stats.chi2_contingency([[50, 33], [40, 39]], correction=False)
    result = chi_square(sides[0], sides[1], rng=_rng())
    assert (result.statistic, result.p_value) == pytest.approx((expected.statistic, expected.pvalue))


def test_categories_too_few_to_count_are_pooled_only_among_themselves() -> None:
    assert contingency(["a", "b", "a"], ["c", "b"]).tolist() == [[2, 1, 0], [0, 1, 1]]
    plain = np.array([[50, 30], [40, 35]])
    assert pool_sparse(plain) is plain
    assert pool_sparse(np.array([[50, 30, 4, 4], [40, 35, 5, 3]])).tolist() == [[50, 30, 8], [40, 35, 8]]
    assert pool_sparse(np.array([[50, 30, 1, 2], [40, 35, 3, 1]])).tolist() == [[50, 33], [40, 39]]
    assert pool_sparse(np.array([[30, 50, 1, 2], [35, 40, 3, 1]])).tolist() == [[33, 50], [39, 40]]
    assert pool_sparse(np.array([[1, 2], [2, 1]])).tolist() == [[3], [3]]
    at_minimum = np.array([[5, 20], [5, 20]])  # expected: 5 on each side
    assert pool_sparse(at_minimum).tolist() == at_minimum.tolist()
    assert pool_sparse(np.array([[4, 20], [5, 20]])).tolist() == [[24], [25]]
    assert pool_sparse(np.array([[20, 3, 2], [20, 2, 3]])).tolist() == [[20, 5], [20, 5]]  # the rest reaches 5
    assert pool_sparse(np.array([[6, 6], [6, 6]]), minimum=6.5).tolist() == [[12], [12]]


@pytest.mark.parametrize("sides", [([], ["a"]), (["a"], [])])
def test_categories_of_a_side_without_rows_are_refused(sides: tuple[list[str], list[str]]) -> None:
    with pytest.raises(DataError, match="each side needs a row"):
        contingency(*sides)
    assert contingency(["a"], ["a"]).tolist() == [[1], [1]]


def test_wasserstein_is_in_pooled_deviations_and_its_effect_is_less_what_random_halves_give() -> None:
    rng = _rng()
    a, b = rng.normal(size=300), rng.normal(0.7, 1.5, size=150)
    result = wasserstein(a, b, rng=rng, permutations=400)
    pooled = np.concatenate([a, b])
    assert result.statistic == pytest.approx(stats.wasserstein_distance(a, b) / pooled.std())
    halves = []
    for _ in range(400):
        mixed = rng.permutation(pooled)
        halves.append(stats.wasserstein_distance(mixed[:300], mixed[300:]) / pooled.std())
    assert result.statistic - result.effect == pytest.approx(np.mean(halves), rel=0.08)


def test_wasserstein_and_vectors_sample_what_is_too_much_and_tell_the_whole() -> None:
    rng = _rng()
    result = wasserstein(rng.normal(size=5_001), rng.normal(0.3, size=6_000), rng=rng, permutations=20)
    assert (result.n_reference, result.n_current, result.p_value) == (5_001, 6_000, 1 / 21)
    result = classifier_auc(rng.normal(size=(601, 3)), rng.normal(size=(700, 3)), rng=rng, permutations=5)
    assert (result.n_reference, result.n_current) == (601, 700)
    result = rff_mmd(rng.normal(size=(2_001, 3)), rng.normal(size=(50, 3)), rng=rng, permutations=5, features=8)
    assert (result.n_reference, result.n_current) == (2_001, 50)


def test_jensen_shannon_is_in_base_2_and_its_effect_is_less_what_exchanged_rows_give() -> None:
    rng = _rng()
    a, b = rng.choice(LEVELS[:10], 300), rng.choice(LEVELS[5:15], 200)
    result = jensen_shannon(a, b, rng=rng, permutations=300)
    table = contingency(a, b)
    assert result.statistic == pytest.approx(spatial.distance.jensenshannon(table[0], table[1], base=2))
    pooled, null = np.concatenate([a, b]), []
    for _ in range(300):
        mixed = rng.permutation(pooled)
        halves = contingency(mixed[:300], mixed[300:])
        null.append(spatial.distance.jensenshannon(halves[0], halves[1], base=2) ** 2)
    assert result.statistic**2 - result.effect**2 == pytest.approx(np.mean(null), rel=0.08)
    assert jensen_shannon(["a"] * 30, ["b"] * 30, rng=rng).statistic == pytest.approx(1.0)
    assert (result.n_reference, result.n_current) == (300, 200)
    same = jensen_shannon(["a", "b"] * 20, ["a", "b"] * 20, rng=rng)
    assert (same.statistic, same.effect) == (0.0, 0.0)


def _exact_mmd(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The unbiased squared distance in the Gaussian kernel's space, and the variance of the pooled rows there."""
    pooled = np.concatenate([a, b])
    squared = spatial.distance.squareform(spatial.distance.pdist(pooled, "sqeuclidean"))
    kernel = np.exp(-squared / (2 * np.median(squared[np.triu_indices(len(pooled), 1)])))
    n = len(a)
    within = [(part.sum() - len(part)) / (len(part) * (len(part) - 1)) for part in (kernel[:n, :n], kernel[n:, n:])]
    return sum(within) - 2 * kernel[:n, n:].mean(), 1 - kernel.mean()


@pytest.mark.parametrize("rows", [(70, 40), (6, 5), (5, 7)])
def test_mmd_is_the_unbiased_distance_and_its_effect_a_share_of_the_kernel_variance(rows: tuple[int, int]) -> None:
    """In small samples a missing correction of the bias shows: a row is no distance from itself."""
    rng = _rng()
    a, b = rng.normal(size=(rows[0], 4)), rng.normal(0.8, 1.0, size=(rows[1], 4))
    distance, variance = _exact_mmd(a, b)
    result = rff_mmd(a, b, rng=rng, permutations=1, features=30_000)
    assert result.statistic == pytest.approx(distance, rel=0.03, abs=0.01)
    assert result.effect == pytest.approx(distance / variance, rel=0.03, abs=0.015)


def test_mmd_of_clean_rows_is_zero_on_average_in_windows_of_any_size() -> None:
    rng = _rng()
    clean = [rff_mmd(rng.normal(size=(40, 4)), rng.normal(size=(12, 4)), rng=rng, permutations=1) for _ in range(200)]
    values = [result.statistic for result in clean]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)
    assert min(result.effect for result in clean) == 0.0


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_mmd_does_not_depend_on_the_unit_of_the_embeddings(scale: float) -> None:
    a, b = _rng().normal(size=(50, 4)), _rng(2).normal(0.8, 1.0, size=(40, 4))
    one, other = (rff_mmd(a * unit, b * unit, rng=_rng(), permutations=1) for unit in (1.0, scale))
    assert other.effect == pytest.approx(one.effect, rel=1e-3)


def test_values_that_are_all_equal_have_not_moved() -> None:
    ones = wasserstein(np.ones(30), np.ones(20), rng=_rng())
    assert (ones.statistic, ones.effect, ones.p_value, ones.n_reference, ones.n_current) == (0.0, 0.0, 1.0, 30, 20)


def test_mmd_of_equal_rows_is_no_distance() -> None:
    ones = np.ones((20, 3))
    result = rff_mmd(ones, ones, rng=_rng(), permutations=19)
    assert result.effect < 0.01


def test_the_domain_classifier_is_a_ridge_scored_on_rows_it_did_not_see() -> None:
    """The same halves, fitted by scikit-learn: a strength of one mean squared length, with an intercept."""
    rng = _rng()
    a, b = rng.normal(size=(80, 6)), rng.normal(0.4, 1.0, size=(60, 6))
    result = classifier_auc(a, b, rng=_rng(5), permutations=1)
    again = _rng(5)
    left, right = a[again.permutation(80)], b[again.permutation(60)]
    rows = [np.concatenate([left[i::2], right[i::2]]) for i in range(2)]
    member = [np.concatenate([np.zeros(40), np.ones(30)])] * 2
    found = []
    for fit, score in ((1, 0), (0, 1)):
        centred = rows[fit] - rows[fit].mean(axis=0)
        model = Ridge(alpha=np.square(centred).sum() / len(centred)).fit(rows[fit], member[fit])
        found.append(roc_auc_score(member[score], model.predict(rows[score])))
    assert result.statistic == pytest.approx(np.mean(found), abs=1e-6)
    assert result.effect == pytest.approx(np.mean(found) - 0.5, abs=1e-6)


def test_the_domain_classifier_tells_apart_what_is_apart_and_never_reads_below_chance() -> None:
    rng = _rng()
    apart = classifier_auc(rng.normal(size=(30, 2)), rng.normal(9.0, size=(20, 2)), rng=rng, permutations=99)
    assert (apart.statistic, apart.effect, apart.p_value) == (1.0, 0.5, 0.01)
    odd = classifier_auc(rng.normal(size=(31, 2)), rng.normal(9.0, size=(22, 2)), rng=rng, permutations=99)
    assert (odd.statistic, odd.p_value) == (1.0, 0.01)
    clean = [
        classifier_auc(rng.normal(size=(30, 2)), rng.normal(size=(20, 2)), rng=rng, permutations=1) for _ in "ab" * 15
    ]
    assert min(result.effect for result in clean) == 0.0 <= min(result.statistic for result in clean) < 0.5


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_domain_classifier_does_not_depend_on_the_unit_of_the_embeddings(scale: float) -> None:
    a, b = _rng().normal(size=(60, 8)), _rng(2).normal(0.3, 1.0, size=(60, 8))
    a[:, 0] *= 30.0  # one loud direction: how strongly the others are shrunk tells
    one, other = (classifier_auc(a * unit, b * unit, rng=_rng(), permutations=1) for unit in (1.0, scale))
    assert other.statistic == pytest.approx(one.statistic, abs=1e-6)


def test_p_values_count_the_draws_up_to_the_one_that_decides() -> None:
    """20 draws that reach the observed value end it (Besag and Clifford); here three are enough."""
    hits = {150, 250, 350}
    drawn: list[int] = []

    def draw(count: int) -> np.ndarray:
        places = range(sum(drawn), sum(drawn) + count)
        drawn.append(count)
        return np.array([5.0 if place in hits else 0.0 for place in places])

    p_value, null = sequential_p_value(5.0, draw, limit=5_000, enough=3)
    assert p_value == 3 / 351
    assert (drawn, len(null)) == ([200, 200], 400)
    drawn.clear()
    p_value, null = sequential_p_value(5.0, draw, limit=300, enough=3)
    assert p_value == 3 / 301
    assert (drawn, len(null)) == ([200, 100], 300)
    drawn.clear()
    assert sequential_p_value(5.0 + 1e-13, draw, limit=200, enough=1)[0] == 1 / 151  # rounding is no difference
    assert sequential_p_value(0.0, np.zeros, limit=5_000)[0] == 1.0
    assert sequential_p_value(1.0, np.zeros, limit=1)[0] == 0.5
    with pytest.raises(DataError, match="at least 1"):
        sequential_p_value(1.0, np.zeros, limit=0)


def test_a_tolerance_for_rounding_grows_with_the_value_and_hides_no_difference() -> None:
    assert sequential_p_value(1e6, lambda n: np.full(n, 1e6 - 1e-7), limit=19)[0] == 1.0
    assert sequential_p_value(1e6, lambda n: np.full(n, 1e6 - 1e-4), limit=19)[0] == 0.05
    assert sequential_p_value(-1e6, lambda n: np.full(n, -1e6 - 1e-7), limit=19)[0] == 1.0
    assert sequential_p_value(1e-3, lambda n: np.full(n, 0.999e-3), limit=19)[0] == 0.05


def test_two_finite_values_a_side_are_enough() -> None:
    assert numeric(np.array([[1, 2]]), "reference").tolist() == [1.0, 2.0]
    two = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert classifier_auc(np.tile(two, (2, 1)), np.tile(two, (2, 1)), rng=_rng(), permutations=1).n_reference == 4
    assert rff_mmd(two, two, rng=_rng(), permutations=1).n_current == 2
    with pytest.raises(DataError, match=r"shape \(1, 2\)"):
        rff_mmd(two, two[:1], rng=_rng())


@pytest.mark.parametrize("p_value", [-0.01, 1.01])
def test_a_p_value_outside_its_range_is_refused(p_value: float) -> None:
    facts = {"statistic": 0.0, "effect": 0.1, "floor": 0.1, "n_reference": 1, "n_current": 1}
    with pytest.raises(DataError, match="p-value"):
        StatisticResult(p_value=p_value, **facts)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="finite"):
        StatisticResult(p_value=0.5, **{**facts, "statistic": float("inf")})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="finite"):
        StatisticResult(p_value=0.5, **{**facts, "effect": float("nan")})  # type: ignore[arg-type]
    for bound in (0.0, 1.0):
        assert StatisticResult(p_value=bound, **facts).relevant  # type: ignore[arg-type]  # an effect at its floor counts


@pytest.mark.parametrize(
    ("statistic", "floor"),
    [("ks", 0.1), ("wasserstein", 0.1), ("chi_square", 0.2), ("jensen_shannon", 0.1), ("rff_mmd", 0.05), ("auc", 0.08)],
)
def test_the_floors_of_whoever_names_none_are_the_stated_ones(statistic: str, floor: float) -> None:
    rng, x = _rng(), np.arange(12.0)
    results = {
        "ks": lambda: ks(x, x),
        "wasserstein": lambda: wasserstein(x, x, rng=rng),
        "chi_square": lambda: chi_square(["a"] * 9, ["b"] * 9, rng=rng),
        "jensen_shannon": lambda: jensen_shannon(["a"] * 9, ["b"] * 9, rng=rng),
        "rff_mmd": lambda: rff_mmd(x.reshape(6, 2), x.reshape(6, 2), rng=rng),
        "auc": lambda: classifier_auc(x.reshape(6, 2), x.reshape(6, 2), rng=rng),
    }
    assert results[statistic]().floor == floor


@pytest.mark.parametrize("statistic", [wasserstein, chi_square, jensen_shannon])
def test_a_clear_change_has_the_p_value_of_999_permutations(statistic) -> None:
    if statistic is wasserstein:
        assert statistic(np.arange(60.0), np.arange(100.0, 160.0), rng=_rng()).p_value == 1 / 1_000
    elif statistic is chi_square:
        assert statistic(["a"] * 4 + ["b"], ["c"] * 40, rng=_rng()).p_value == 1 / 1_000
    else:
        assert statistic(["a"] * 40, ["b"] * 40, rng=_rng()).p_value == 1 / 1_000
