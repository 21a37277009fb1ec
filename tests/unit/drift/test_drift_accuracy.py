from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from perennial.continual.drift.accuracy import (
    ConfidenceCalibration,
    GivenLabel,
    SampledAnswer,
    estimate_accuracy,
    measure_accuracy,
    resolve_labels,
)
from perennial.continual.errors import DataError

START = datetime(2026, 1, 1, tzinfo=UTC)


def _label(prediction: str, label: str, annotator: str = "ann", day: int = 0) -> GivenLabel:
    return GivenLabel(prediction_id=prediction, label=label, annotator=annotator, at=START + timedelta(days=day))


def test_calibrated_confidence_estimates_accuracy_where_raw_confidence_does_not() -> None:
    rng = np.random.default_rng(1)
    raw = rng.random(4_000)
    right = rng.random(4_000) < raw**2  # an overconfident model
    calibration = ConfidenceCalibration.fit(raw[:2_000], right[:2_000])
    truth = right[2_000:].mean()
    calibrated = estimate_accuracy(raw[2_000:], calibration)
    assert calibrated.low <= truth <= calibrated.high
    assert estimate_accuracy(raw[2_000:]).low > truth
    assert "assumes" in calibrated.assumption


def test_estimate_is_blind_to_a_change_of_concept_and_says_so() -> None:
    estimate = estimate_accuracy(np.full(300, 0.95))
    assert estimate.value == pytest.approx(0.95)
    assert "blind to a change of concept" in estimate.assumption
    with pytest.raises(DataError, match="empty"):
        estimate_accuracy(np.array([]))


def test_measured_accuracy_is_unbiased_when_doubtful_answers_are_labelled_more_often() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.beta(4, 1, 20_000)
    right = rng.random(20_000) < confidence
    chance = np.where(confidence < 0.7, 0.4, 0.05)
    picked = np.flatnonzero(rng.random(20_000) < chance)
    answers = [SampledAnswer(prediction_id=str(i), predicted="a", chance=float(chance[i])) for i in picked]
    resolved = resolve_labels([_label(str(i), "a" if right[i] else "b") for i in picked])
    measured = measure_accuracy(answers, resolved)
    assert measured.low <= right.mean() <= measured.high
    assert abs(measured.value - right.mean()) < 0.02
    assert right[picked].mean() < right.mean() - 0.1  # what an unweighted mean would have said


def test_a_later_word_of_the_same_annotator_corrects_the_earlier_in_any_order() -> None:
    labels = [_label("p", "old", day=0), _label("p", "new", day=3)]
    for order in (labels, labels[::-1]):
        resolved = resolve_labels(order)
        assert resolved.labels == {"p": "new"}
        assert resolved.corrected == 1
    assert resolve_labels(labels, until=START + timedelta(days=1)).labels == {"p": "old"}


def test_annotators_outvote_each_other_and_an_even_split_is_contested() -> None:
    two = [_label("p", "a", "x"), _label("p", "b", "y")]
    assert resolve_labels(two).contested == {"p"}
    assert resolve_labels([*two, _label("p", "b", "z")]).labels == {"p": "b"}


@given(st.permutations([("x", "a", 0), ("y", "b", 1), ("x", "b", 2), ("z", "a", 3), ("y", "a", 4)]))
def test_labels_mean_the_same_in_whatever_order_they_arrive(order: list[tuple[str, str, int]]) -> None:
    assert resolve_labels([_label("p", label, who, day) for who, label, day in order]).labels == {"p": "a"}


def test_contested_answers_widen_the_interval_on_both_sides() -> None:
    answers = [SampledAnswer(prediction_id=str(i), predicted="a", chance=0.5) for i in range(100)]
    agreed = [_label(str(i), "a" if i % 5 else "b") for i in range(80)]
    split = [_label(str(i), label, who) for i in range(80, 100) for who, label in (("x", "a"), ("y", "b"))]
    without = measure_accuracy(answers[:80], resolve_labels(agreed))
    with_split = measure_accuracy(answers, resolve_labels([*agreed, *split]))
    assert with_split.contested == 20
    assert with_split.low < without.low < without.high < with_split.high
    assert with_split.value == without.value


def test_nothing_labelled_and_impossible_chances_are_refused() -> None:
    with pytest.raises(DataError, match="wait for labels"):
        measure_accuracy([SampledAnswer(prediction_id="p", predicted="a", chance=1.0)], resolve_labels([]))
    with pytest.raises(DataError, match="chance"):
        SampledAnswer(prediction_id="p", predicted="a", chance=0.0)
    with pytest.raises(DataError, match="20 or more"):
        ConfidenceCalibration.fit(np.ones(3), np.ones(3))
    for strange in (np.nan, np.inf):
        with pytest.raises(DataError, match="1 of 30 answers"):
            ConfidenceCalibration.fit(np.append(np.linspace(0, 1, 29), strange), np.ones(30))


def test_chances_are_never_below_none_or_above_all() -> None:
    calibration = ConfidenceCalibration.fit(np.linspace(0, 1, 40), np.linspace(-0.5, 1.5, 40))
    chances = calibration(np.array([0.0, 0.5, 1.0]))
    assert chances == pytest.approx([0.0, 0.5, 1.0])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("places", [7, 40, 10_000])
def test_calibration_is_the_isotonic_regression_of_scikit_learn(seed: int, places: int) -> None:
    rng = np.random.default_rng(seed)
    confidences = rng.integers(0, places, 300) / places  # with equal ones among them
    right = rng.random(300) < confidences
    theirs = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(confidences, right.astype(float))
    asked = np.linspace(-0.1, 1.1, 500)
    ours = ConfidenceCalibration.fit(confidences, right)
    np.testing.assert_allclose(ours(asked), theirs.predict(asked), atol=1e-9)
    assert len(ours.confidences) <= len(theirs.X_thresholds_)
