"""What is of none of the classes: how often known texts are refused, how often others are, and what is kept of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.class_sums import ClassRows, ClassSums, PlainSums
from perennial.continual.learning.closed_form import FastSettings
from perennial.continual.learning.open_set import OPEN_SET_FILE, NearestMeans, OpenSet, fit_open_set, new_class_recall

CLASSES, WIDTH = 6, 24


def texts(rows: int, seed: int, *, of_none: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of length 1 around a direction for each class, or around other directions, and their places."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(2 if of_none else 1).standard_normal((CLASSES, WIDTH))
    places = rng.integers(CLASSES, size=rows)
    X = centres[places] + 0.6 * rng.standard_normal((rows, WIDTH))
    return X / np.linalg.norm(X, axis=1, keepdims=True), places


def sums_of(X: np.ndarray, places: np.ndarray) -> PlainSums:
    sums = ClassSums(1, plain=WIDTH)
    sums.add(ClassRows(X=X, labels=[f"class {place}" for place in places]), lambda rows: np.ones((len(rows), 1)))
    assert sums.plain is not None
    return sums.plain


def logits_of(X: np.ndarray) -> np.ndarray:
    return X @ np.random.default_rng(1).standard_normal((CLASSES, WIDTH)).T


@pytest.fixture(scope="module")
def near() -> NearestMeans:
    found = NearestMeans.of(sums_of(*texts(600, seed=3)), {})
    assert found is not None
    return found


@pytest.mark.parametrize("share", [0.02, 0.05, 0.2])
@pytest.mark.parametrize("rows", [60, 2_000])
def test_known_texts_are_refused_no_more_often_than_was_asked(near: NearestMeans, share: float, rows: int) -> None:
    """On the average over held-out rows, which is what is promised."""
    later, _ = texts(4_000, seed=4)
    refused = []
    for seed in range(20):
        held, _ = texts(rows, seed=100 + seed)
        fitted = fit_open_set(logits_of(held), held, near, share)
        assert fitted is not None
        refused.append(1.0 - float(fitted.known(logits_of(later), later).mean()))
    assert 0.3 * share < np.mean(refused) < 1.25 * share


def test_texts_of_no_class_are_found_by_their_distance_where_the_logits_say_little(near: NearestMeans) -> None:
    held, _ = texts(400, seed=5)
    others, _ = texts(400, seed=6, of_none=True)
    both = fit_open_set(logits_of(held), held, near)
    alone = fit_open_set(logits_of(held), held, None)
    assert both is not None
    assert alone is not None
    assert (~both.known(logits_of(others), others)).mean() > 0.95
    assert (~both.known(logits_of(others), others)).mean() > (~alone.known(logits_of(others), others)).mean()


def test_too_few_rows_and_a_share_of_nothing_make_no_limit() -> None:
    held, _ = texts(60, seed=7)
    assert fit_open_set(logits_of(held[:49]), held[:49], None) is None
    assert fit_open_set(logits_of(held), held, None, 0.0) is None
    assert fit_open_set(logits_of(held), held, None, 0.01) is None  # of 61 rows none is one in a hundred


@pytest.mark.parametrize("share", [-0.1, 0.6, float("nan"), "much"])
def test_a_share_that_no_limit_can_keep_is_refused(share: object) -> None:
    with pytest.raises(ConfigurationError, match=r"false_refusals is .*: 0 to 0\.5"):
        FastSettings.of({"false_refusals": share})


def test_the_distance_is_that_of_mahalanobis(near: NearestMeans) -> None:
    X, places = texts(600, seed=3)
    means = np.stack([X[places == place].mean(axis=0) for place in range(CLASSES)])
    within = (X - means[places]).T @ (X - means[places]) / len(X)
    within += 0.1 * np.trace(within) / WIDTH * np.eye(WIDTH)
    gaps = X[:50, None, :] - means[None]
    wanted = np.einsum("ncd,de,nce->nc", gaps, np.linalg.inv(within), gaps).min(axis=1)
    np.testing.assert_allclose(near.distances(X[:50]), wanted, rtol=1e-3)


def test_a_class_with_stand_in_rows_alone_is_known() -> None:
    sums = sums_of(*texts(600, seed=3))
    others, places = texts(60, seed=6, of_none=True)
    described = others[places == 0]
    without, beside = NearestMeans.of(sums, {}), NearestMeans.of(sums, {"described": described.mean(axis=0)})
    assert without is not None
    assert beside is not None
    assert beside.distances(described).mean() < without.distances(described).mean() / 2


def test_sums_that_tell_no_spread_have_no_means() -> None:
    X, _ = texts(CLASSES, seed=8)
    assert NearestMeans.of(None, {}) is None
    assert NearestMeans.of(sums_of(X, np.arange(CLASSES)), {}) is None  # a row a class
    same = np.repeat(X[:2], 4, axis=0)
    flat = PlainSums(counts=np.full(2, 4.0), sums=np.stack([4 * X[0], 4 * X[1]]), outer=same.T @ same)
    assert NearestMeans.of(replace(flat, outer=flat.sums.T @ flat.sums / 4), {}) is None  # of texts all alike


@pytest.mark.parametrize("with_means", [True, False])
def test_what_was_written_is_read_again(tmp_path: Path, near: NearestMeans, with_means: bool) -> None:
    held, _ = texts(100, seed=9)
    fitted = fit_open_set(logits_of(held), held, near if with_means else None)
    assert fitted is not None
    assert OpenSet.read(tmp_path) is None
    fitted.write(tmp_path)
    read = OpenSet.read(tmp_path)
    assert read is not None
    assert (read.rows, read.false_refusals, read.near is not None) == (100, 0.05, with_means)
    np.testing.assert_array_equal(read.scores(logits_of(held), held), fitted.scores(logits_of(held), held))
    (tmp_path / OPEN_SET_FILE).write_bytes(b"something else")
    with pytest.raises(DataError, match=r"open-set\.safetensors cannot be read .*; export the version again"):
        OpenSet.read(tmp_path)


def test_a_limit_goes_on_with_a_head_whose_logits_have_another_scale(near: NearestMeans) -> None:
    held, _ = texts(100, seed=9)
    fitted = fit_open_set(logits_of(held), held, near)
    assert fitted is not None
    carried = fitted.carried(3.0, near)
    assert carried is not None
    np.testing.assert_allclose(
        carried.scores(3.0 * logits_of(held), held), fitted.scores(logits_of(held), held), rtol=1e-5
    )
    assert fitted.carried(1.0, None) is None


def test_what_a_missing_class_would_be_taken_for_is_told_by_the_rows_of_each_class() -> None:
    X, classes = texts(600, seed=3)
    order = np.argsort(classes, kind="stable")  # so that the first mean is the first class's
    near = NearestMeans.of(sums_of(X[order], classes[order]), {})
    assert near is not None
    held, places = texts(300, seed=11)
    apart = new_class_recall(near, held, places)
    assert apart is not None
    assert apart > 0.9, "classes lie in directions of their own"
    twins = replace(near, means=np.concatenate([near.means, near.means]))
    both = new_class_recall(twins, held, places)
    assert both == pytest.approx(0.05, abs=0.01), "a class with a twin is missed by nobody"
    assert new_class_recall(near, held[:49], places[:49]) is None
    assert new_class_recall(replace(near, means=near.means[:1]), held, np.zeros(300, dtype=np.intp)) is None
