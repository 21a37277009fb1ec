import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score

from perennial.continual.errors import DataError
from perennial.continual.learning import metrics

R = [[0.9, 0.1, 0.2], [0.95, 0.8, 0.3], [0.7, 0.85, 0.9]]


def test_matrix_figures_agree_with_the_formulas_by_hand() -> None:
    assert metrics.final_accuracy(R) == pytest.approx((0.7 + 0.85 + 0.9) / 3)
    assert metrics.mean_accuracy(R) == pytest.approx((0.9 + (0.95 + 0.8) / 2 + (0.7 + 0.85 + 0.9) / 3) / 3)
    assert metrics.max_minus_last_forgetting(R) == pytest.approx(((0.95 - 0.7) + (0.8 - 0.85)) / 2)
    assert metrics.first_minus_last_forgetting(R) == pytest.approx(((0.9 - 0.7) + (0.8 - 0.85)) / 2)
    assert metrics.backward_transfer(R) == pytest.approx(-((0.9 - 0.7) + (0.8 - 0.85)) / 2)
    assert metrics.forward_transfer(R, [0.0, 0.05, 0.1]) == pytest.approx(((0.1 - 0.05) + (0.3 - 0.1)) / 2)


def test_weights_make_the_final_accuracy_that_of_all_rows() -> None:
    predictions, actual, part = [list("aab"), list("abb"), list("abc")], list("abc"), [0, 1, 2]
    matrix = metrics.accuracy_matrix([*predictions[:2], list("abb")], actual, part)
    assert metrics.final_accuracy(matrix, [1, 1, 1]) == pytest.approx(2 / 3)
    assert metrics.final_accuracy([[1.0, 0.0], [0.5, 1.0]], [3, 1]) == pytest.approx(0.625)
    assert metrics.mean_accuracy([[1.0, 0.0], [0.5, 1.0]], [3, 1]) == pytest.approx((1 + 0.625) / 2)


def test_a_single_experience_forgets_nothing() -> None:
    assert metrics.max_minus_last_forgetting([[0.7]]) == 0.0
    assert metrics.backward_transfer([[0.7]]) == 0.0
    assert metrics.mean_accuracy([[0.7]]) == pytest.approx(0.7)


def test_accuracy_matrix_marks_an_experience_without_rows() -> None:
    matrix = metrics.accuracy_matrix([["a", "b"]], ["a", "a"], [0, 2])
    np.testing.assert_array_equal(matrix, [[1.0, np.nan, 0.0]])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_class_figures_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    predicted, actual = map(np.array, zip(*pairs, strict=True))
    expected = f1_score(actual, predicted, average="macro", zero_division=0)
    assert metrics.macro_f1(predicted, actual) == pytest.approx(expected)
    labels = sorted(set(actual.tolist()))
    recalls = recall_score(actual, predicted, labels=labels, average=None, zero_division=0)
    assert metrics.accuracy_by_class(predicted, actual) == pytest.approx(dict(zip(labels, recalls, strict=True)))
    assert metrics.worst_class(predicted, actual)[1] == pytest.approx(min(recalls))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.integers(1, 20))
def test_calibration_bins_hold_every_answer_once(answers: list[tuple[float, bool]], bins: int) -> None:
    confidence, right = map(list, zip(*answers, strict=True))
    parts = metrics.calibration_bins(confidence, right, bins=bins)
    assert len(parts) == bins
    assert sum(part.count for part in parts) == len(answers)
    for part in parts:
        if part.count:
            assert part.low - 1e-9 <= part.confidence <= part.high + 1e-9
    error = metrics.expected_calibration_error(confidence, right, bins=bins)
    assert 0 <= error <= 1
    assert metrics.expected_calibration_error(confidence, right, bins=1) == pytest.approx(
        abs(np.mean(confidence) - np.mean(right))
    )


def test_calibration_error_sees_over_and_under_confidence() -> None:
    right = [True] * 6 + [False] * 4
    assert metrics.expected_calibration_error([0.6] * 10, right) == pytest.approx(0.0)
    assert metrics.expected_calibration_error([0.9] * 10, right) == pytest.approx(0.3)
    assert metrics.expected_calibration_error([0.2] * 10, right) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy([1], [1, 2]), "two equal lists"),
        (lambda: metrics.accuracy([], []), "two equal lists"),
        (lambda: metrics.final_accuracy([[1.0, 2.0]]), "row and a column for each"),
        (lambda: metrics.forward_transfer(R, [0.1]), "one accuracy for each of 3"),
        (lambda: metrics.expected_calibration_error([1.2], [True]), r"must lie in \[0, 1\]"),
        (lambda: metrics.expected_calibration_error([0.2, 0.1], [True]), "2 confidences and 1 outcomes"),
    ],
)
def test_wrong_input_is_refused_with_what_was_seen(call, message) -> None:
    with pytest.raises(DataError, match=message):
        call()


def test_a_confidence_on_the_edge_of_a_bin_counts_in_the_lower_one_and_none_is_lost() -> None:
    bins = metrics.calibration_bins([0.0, 0.2, 0.2000001, 0.4, 1.0], [0, 1, 0, 1, 1], bins=5)
    assert [part.count for part in bins] == [2, 2, 0, 0, 1]
    assert (bins[0].low, bins[0].high, bins[0].confidence, bins[0].accuracy) == (0.0, 0.2, 0.1, 0.5)
    assert (bins[4].low, bins[4].high) == (0.8, 1.0)


def test_the_calibration_error_weights_each_bin_by_its_rows() -> None:
    confidence, right = [0.9] * 8 + [0.3] * 2, [1] * 4 + [0] * 4 + [1, 1]
    assert metrics.expected_calibration_error(confidence, right) == pytest.approx((8 * 0.4 + 2 * 0.7) / 10)
    edge = [1 / 15, 1 / 15 + 1e-9]  # two bins: one right and sure of little, one wrong
    assert metrics.expected_calibration_error(edge, [1, 0]) == pytest.approx((14 / 15 + 1 / 15) / 2)
