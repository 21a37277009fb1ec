"""The fast learner's laws: sums, in any order, taken back exactly."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.calibration import fit_temperature, log_loss, places_of
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import Priors
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda

FEATURES = FourierFeatures.make(dimension=6, features=80, gamma=0.5, seed=3)


def rows(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Unit vectors around one direction a class."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, 6))
    truth = np.arange(count) % classes
    X = centres[truth] + 0.7 * rng.standard_normal((count, 6))
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32), [f"c{place}" for place in truth]


def learnt(X: np.ndarray, labels: list[str], keys: list[int] | None = None) -> KernelLda:
    head = KernelLda(FEATURES)
    head.add(ClassRows(X=X, labels=labels, keys=keys))
    return head


def assert_same_sums(one: KernelLda, other: KernelLda, tolerance: float = 1e-9) -> None:
    assert one.counts == other.counts
    for label in one.labels:
        mine, theirs = one._sums.of(label)[1], other._sums.of(label)[1]
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance)
    np.testing.assert_allclose(one._sums.outer, other._sums.outer, rtol=0, atol=tolerance)


def test_head_answers_well_on_new_rows() -> None:
    X, labels = rows(400, 4)
    weights = learnt(X, labels).solve(Discriminant(shrinkage=1e-4))
    again, truth = rows(200, 4, seed=1)
    right = weights.logits(again).argmax(axis=1) == places_of(truth, weights.labels)
    assert right.mean() > 0.85


@settings(max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(1, 7))
def test_logits_do_not_depend_on_order_or_batches(random: object, size: int) -> None:
    X, labels = rows(60, 5)
    order = list(range(60))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = KernelLda(FEATURES)
    for start in range(0, 60, size):
        part = order[start : start + size]
        shuffled.add(ClassRows(X=X[part], labels=[labels[row] for row in part]))
    expected, got = learnt(X, labels).solve(), shuffled.solve()
    assert got.labels == expected.labels
    probe = rows(20, 5, seed=2)[0]
    scale = np.abs(expected.logits(probe)).max()
    np.testing.assert_allclose(got.logits(probe) / scale, expected.logits(probe) / scale, rtol=0, atol=1e-6)


def test_removed_rows_leave_no_trace() -> None:
    X, labels = rows(50, 5)
    head = learnt(X, labels)
    assert head.remove(ClassRows(X=X[30:], labels=labels[30:])) == 20
    assert_same_sums(head, learnt(X[:30], labels[:30]))


def test_class_without_rows_is_gone_and_can_come_back() -> None:
    X, labels = rows(30, 3)
    head = learnt(X, labels)
    mine = [row for row, label in enumerate(labels) if label == "c1"]
    head.remove(ClassRows(X=X[mine], labels=["c1"] * len(mine)))
    assert head.labels == ("c0", "c2")
    assert head.solve().weight.shape == (2, FEATURES.size)
    head.add(ClassRows(X=X[mine], labels=["c1"] * len(mine)))
    assert_same_sums(head, learnt(X, labels))


def test_all_rows_removed_leaves_an_empty_head() -> None:
    X, labels = rows(10, 2)
    head = learnt(X, labels)
    head.remove(ClassRows(X=X, labels=labels))
    assert (head.labels, head.rows, float(np.abs(head._sums.outer).max())) == ((), 0, 0.0)
    with pytest.raises(DataError, match="no rows"):
        head.solve()


def test_more_rows_than_are_in_cannot_be_taken() -> None:
    X, labels = rows(4, 2)
    head = learnt(X, labels)
    with pytest.raises(DataError, match="only 2 are in"):
        head.remove(ClassRows(X=X[[0, 0, 0]], labels=["c0"] * 3))
    assert_same_sums(head, learnt(X, labels), tolerance=0.0)


def test_keyed_row_added_again_changes_nothing() -> None:
    X, labels = rows(20, 2)
    keys = list(range(20))
    head = learnt(X, labels, keys)
    before = head._sums.outer.copy()
    assert head.add(ClassRows(X=X, labels=labels, keys=keys)) == 0
    np.testing.assert_array_equal(head._sums.outer, before)


def test_keyed_row_with_a_new_label_moves() -> None:
    X, labels = rows(20, 2)
    head = learnt(X, labels, list(range(20)))
    assert head.add(ClassRows(X=X[:1], labels=["c1"], keys=[0])) == 1
    assert_same_sums(head, learnt(X, ["c1", *labels[1:]]))
    assert head.remove(ClassRows(X=X[:2], labels=["anything", "at all"], keys=[0, 777])) == 1
    assert_same_sums(head, learnt(X[1:], labels[1:]))


def test_key_given_twice_counts_once() -> None:
    X, _ = rows(2, 2)
    head = learnt(X[[0, 0]], ["c0", "c1"], [5, 5])
    assert head.counts == {"c1": 1}


def test_merge_is_learning_both() -> None:
    X, labels = rows(40, 4)
    one, other = learnt(X[:15], labels[:15], list(range(15))), learnt(X[15:], labels[15:], list(range(15, 40)))
    one.merge(other)
    assert_same_sums(one, learnt(X, labels))
    with pytest.raises(DataError, match="share 25 rows"):
        one.merge(other)


def test_heads_with_other_features_do_not_merge() -> None:
    other = KernelLda(FourierFeatures.make(dimension=6, features=80, gamma=0.5, seed=4))
    with pytest.raises(DataError, match="different Fourier features"):
        KernelLda(FEATURES).merge(other)


def test_round_trip_through_disk_is_exact(tmp_path: Path) -> None:
    X, labels = rows(40, 4)
    keys = [2**63 + row for row in range(40)]
    head = learnt(X, labels, keys)
    head.anchor("späte Klasse", ClassRows(X=X[:2], labels=["späte Klasse"] * 2))
    head.save(tmp_path / "s.safetensors")
    again = KernelLda.load(tmp_path / "s.safetensors")
    np.testing.assert_array_equal(again._sums.outer, head._sums.outer)
    np.testing.assert_array_equal(again.solve().weight, head.solve().weight)
    assert again.labels == head.labels
    assert again.known_keys == head.known_keys
    assert again.add(ClassRows(X=X, labels=labels, keys=keys)) == 0


def test_statistics_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.safetensors").write_bytes(b"not tensors")
    with pytest.raises(DataError, match="cannot be read"):
        KernelLda.load(tmp_path / "s.safetensors")


def test_anchors_answer_until_rows_displace_them() -> None:
    X, labels = rows(40, 4)
    three = [row for row, label in enumerate(labels) if label != "c3"]
    fourth = [row for row, label in enumerate(labels) if label == "c3"]
    head = learnt(X[three], [labels[row] for row in three])
    head.anchor("c3", ClassRows(X=X[fourth[:4]], labels=["c3"] * 4))
    described = head.solve(Discriminant(shrinkage=1e-2))
    assert described.labels == ("c0", "c1", "c2", "c3")
    probe, truth = rows(200, 4, seed=6)
    answers = described.logits(probe).argmax(axis=1)
    assert (answers == places_of(truth, described.labels))[3::4].mean() > 0.6
    head.add(ClassRows(X=X[fourth], labels=["c3"] * len(fourth)))
    np.testing.assert_allclose(head.solve().weight, learnt(X, labels).solve().weight, rtol=1e-4, atol=1e-4)


def test_empirical_priors_favour_the_frequent_class() -> None:
    X, labels = rows(40, 2)
    kept = [row for row, label in enumerate(labels) if label == "c0" or row < 6]
    head = learnt(X[kept], [labels[row] for row in kept])
    probe = rows(50, 2, seed=5)[0]
    shares = [
        (head.solve(Discriminant(shrinkage=1e-2, priors=p)).logits(probe).argmax(axis=1) == 0).mean() for p in Priors
    ]
    assert shares[1] >= shares[0]
    difference = head.solve(Discriminant(priors=Priors.EMPIRICAL)).bias - head.solve().bias
    assert difference[0] - difference[1] == pytest.approx(np.log(20 / 3), abs=1e-2)


def test_narrowed_head_keeps_the_kernel() -> None:
    X, labels = rows(100, 2)
    narrow = learnt(X, labels).narrowed(40)
    assert narrow.features.size == 40
    direct = KernelLda(narrow.features)
    direct.add(ClassRows(X=X, labels=labels))
    assert_same_sums(narrow, direct, tolerance=1e-4)


def test_temperature_makes_the_log_loss_smallest() -> None:
    X, labels = rows(300, 4)
    weights = learnt(X, labels).solve(Discriminant(shrinkage=1e-5))
    held, truth = rows(200, 4, seed=8)
    logits, places = weights.logits(held), places_of(truth, weights.labels)
    best = fit_temperature(logits, places)
    assert log_loss(logits, places, best) <= min(log_loss(logits, places, best * f) for f in (0.5, 0.9, 1.1, 2.0))
    cooled = weights.cooled(best)
    assert log_loss(cooled.logits(held), places) == pytest.approx(log_loss(logits, places, best), abs=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    head = KernelLda(FEATURES)
    with pytest.raises(DataError, match="takes"):
        head.add(ClassRows(X=np.zeros((1, 5)), labels=["a"]))
    with pytest.raises(DataError, match="equally many"):
        ClassRows(X=np.zeros((2, 6)), labels=["a"])
    with pytest.raises(DataError, match="not finite"):
        head.add(ClassRows(X=np.full((1, 6), np.nan), labels=["a"]))
    head.add(ClassRows(X=np.ones((1, 6)), labels=["a"]))
    with pytest.raises(ConfigurationError, match="must be positive"):
        head.solve(Discriminant(shrinkage=0.0))
    with pytest.raises(ConfigurationError, match="gamma"):
        FourierFeatures.make(dimension=2, features=4, gamma=0.0, seed=0)


@pytest.mark.parametrize(("few", "favoured"), [(10, True), (29, True), (30, False), (31, False)])
def test_a_class_of_fewer_than_thirty_rows_is_favoured_for_its_uncertain_mean(few: int, favoured: bool) -> None:
    """Its mean lies too far from every row, by the noise over its rows; from 30 rows on a mean is taken as it is."""
    X, labels = rows(200, 2)
    picked = [place for place, label in enumerate(labels) if label == "c0"][:few]
    picked += [place for place, label in enumerate(labels) if label == "c1"]
    X, labels = X[picked], [labels[place] for place in picked]
    head = learnt(X, labels).solve(Discriminant(shrinkage=1e-3))
    means = np.stack([FEATURES(X[[name == label for name in labels]]).mean(axis=0) for label in head.labels])
    apart = head.weight[0].astype(np.float64) - head.weight[1]
    halfway = -0.5 * apart @ (means[0] + means[1])  # the bias between two classes of one covariance
    extra = float(head.bias[0]) - float(head.bias[1]) - halfway
    assert (extra > 0.01) == favoured
    assert abs(extra) < 0.01 or favoured
