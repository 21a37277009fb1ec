"""What is learnt and what is forgotten, in numbers; every arm of every benchmark and every gate is scored here.

An *accuracy matrix* R has a row for each update and a column for each experience: R[i, j] is the accuracy on the test
rows of experience j after update i. Its last row is the final model; NaN marks what was not measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perennial.continual.errors import DataError

__all__ = [
    "CalibrationBin",
    "accuracy",
    "accuracy_by_class",
    "accuracy_by_slice",
    "accuracy_matrix",
    "backward_transfer",
    "calibration_bins",
    "expected_calibration_error",
    "final_accuracy",
    "first_minus_last_forgetting",
    "forward_transfer",
    "macro_f1",
    "max_minus_last_forgetting",
    "mean_accuracy",
    "worst_class",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """One bin of confidences (low, high]: how many answers fell in it, how sure they were and how often right.

    >>> calibration_bins([0.91, 0.95], [True, False], bins=10)[-1].accuracy
    0.5
    """

    low: float
    high: float
    count: int
    confidence: float  # NaN when the bin is empty
    accuracy: float  # NaN when the bin is empty


def accuracy(predicted: ArrayLike, actual: ArrayLike) -> float:
    """Return the share of right answers.

    >>> accuracy(["a", "b", "b"], ["a", "b", "a"])
    0.6666666666666666
    """
    right, wanted = _pair(predicted, actual)
    return float(np.mean(right == wanted))


def accuracy_by_class(predicted: ArrayLike, actual: ArrayLike) -> dict[Any, float]:
    """Return each actual class's share of right answers (its recall), in sorted order of the classes.

    >>> accuracy_by_class(["a", "b", "b"], ["a", "b", "a"])
    {'a': 0.5, 'b': 1.0}
    """
    return accuracy_by_slice(predicted, actual, actual)


def accuracy_by_slice(predicted: ArrayLike, actual: ArrayLike, slices: ArrayLike) -> dict[Any, float]:
    """Return the share of right answers within each slice; `slices` names one a row.

    >>> accuracy_by_slice([1, 2, 3], [1, 2, 4], ["short", "short", "long"])
    {'long': 0.0, 'short': 1.0}
    """
    predicted_labels, wanted = _pair(predicted, actual)
    names, _ = _pair(slices, actual)
    found, place = np.unique(names, return_inverse=True)
    shares = np.bincount(place, predicted_labels == wanted) / np.bincount(place)
    return dict(zip(found.tolist(), shares.tolist(), strict=True))


def worst_class(predicted: ArrayLike, actual: ArrayLike) -> tuple[Any, float]:
    """Return the class with the lowest accuracy, and that accuracy; of equals the first in sorted order.

    >>> worst_class(["a", "b", "b"], ["a", "b", "a"])
    ('a', 0.5)
    """
    by_class = accuracy_by_class(predicted, actual)
    name = min(by_class, key=lambda label: by_class[label])
    return name, by_class[name]


def macro_f1(predicted: ArrayLike, actual: ArrayLike) -> float:
    """Return the mean over classes of F1; a class only ever predicted, or never right, counts as 0.

    Source: arithmetic mean over individual F1, Opitz and Burst, arXiv 1911.03347, section 2.

    >>> round(macro_f1(["a", "b", "b"], ["a", "b", "a"]), 4)
    0.6667
    """
    predicted_labels, wanted = _pair(predicted, actual)
    found, place = np.unique(np.concatenate([predicted_labels, wanted]), return_inverse=True)
    both, given = np.bincount(place), place[: len(wanted)]
    hits = np.bincount(given[given == place[len(wanted) :]], minlength=len(found))
    return float(np.mean(2.0 * hits / both))


def accuracy_matrix(predictions: Sequence[ArrayLike], actual: ArrayLike, experience: ArrayLike) -> Floats:
    """Return R (updates, experiences) from the whole test set's predictions after each update.

    `experience` says which experience, 0 and up, each test row belongs to.

    >>> accuracy_matrix([["a", "a"], ["a", "b"]], ["a", "b"], [0, 1]).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    part = np.asarray(experience)
    columns = int(part.max()) + 1
    matrix = np.full((len(predictions), columns), np.nan)
    for update, given in enumerate(predictions):
        answers, wanted = _pair(given, actual)
        for j in range(columns):
            if np.any(part == j):
                matrix[update, j] = np.mean(answers[part == j] == wanted[part == j])
    return matrix


def final_accuracy(matrix: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the last row's mean, weighted by each experience's test rows when `weights` gives them.

    Source: A_T of Chaudhry et al., "Riemannian walk", ECCV 2018, section 2.2.

    >>> final_accuracy([[1.0, 0.0], [0.5, 1.0]])
    0.75
    """
    r = _square(matrix)
    return float(np.average(r[-1], weights=None if weights is None else np.asarray(weights, float)))


def mean_accuracy(matrix: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the mean over updates of the accuracy on the experiences met so far (average incremental accuracy).

    Source: iCaRL, Rebuffi et al., CVPR 2017, section 4.1.

    >>> mean_accuracy([[1.0, 0.0], [0.5, 1.0]])
    0.875
    """
    r = _square(matrix)
    w = np.ones(len(r)) if weights is None else np.asarray(weights, float)
    return float(np.mean([np.average(r[i, : i + 1], weights=w[: i + 1]) for i in range(len(r))]))


def max_minus_last_forgetting(matrix: ArrayLike) -> float:
    """Return the mean over past experiences of (best accuracy before the last update) - (last); higher is worse.

    Source: F_T of Chaudhry et al., ECCV 2018, section 2.2; Renate and Mammoth report this one. Can be negative.

    >>> round(max_minus_last_forgetting([[0.9, 0.0, 0.0], [1.0, 0.8, 0.0], [0.7, 0.8, 0.9]]), 4)
    0.15
    """
    r = _square(matrix)
    return _mean([float(r[j:-1, j].max() - r[-1, j]) for j in range(len(r) - 1)])


def first_minus_last_forgetting(matrix: ArrayLike) -> float:
    """Return the mean over past experiences of (accuracy when just learnt) - (last); higher is worse.

    Source: Avalanche 0.6.0, `evaluation/metrics/forgetting_bwt.py`; it is minus `backward_transfer`.

    >>> round(first_minus_last_forgetting([[0.9, 0.0, 0.0], [1.0, 0.8, 0.0], [0.7, 0.8, 0.9]]), 4)
    0.1
    """
    r = _square(matrix)
    return _mean([float(r[j, j] - r[-1, j]) for j in range(len(r) - 1)])


def backward_transfer(matrix: ArrayLike) -> float:
    """Return the mean over past experiences of (last) - (accuracy when just learnt); negative means forgetting.

    Source: BWT, Lopez-Paz and Ranzato, "Gradient episodic memory", NeurIPS 2017, equation 3.

    >>> round(backward_transfer([[0.9, 0.0, 0.0], [1.0, 0.8, 0.0], [0.7, 0.8, 0.9]]), 4)
    -0.1
    """
    return -first_minus_last_forgetting(matrix)


def forward_transfer(matrix: ArrayLike, baseline: ArrayLike) -> float:
    """Return the mean gain on an experience just before it is learnt, over an untrained model's `baseline` (one each).

    Source: FWT, Lopez-Paz and Ranzato, NeurIPS 2017, equation 4.

    >>> round(forward_transfer([[0.9, 0.3], [0.9, 0.9]], [0.5, 0.1]), 4)
    0.2
    """
    r, b = _square(matrix), np.asarray(baseline, float)
    if b.shape != (len(r),):
        raise DataError(
            f"forward transfer got a baseline of shape {b.shape}; it needs one accuracy for each of {len(r)}"
        )
    return _mean([float(r[j - 1, j] - b[j]) for j in range(1, len(r))])


def calibration_bins(confidence: ArrayLike, right: ArrayLike, *, bins: int = 15) -> tuple[CalibrationBin, ...]:
    """Return the reliability diagram: `bins` bins of equal width over (0, 1]; a confidence of 0 counts in the first."""
    sure, hit = np.asarray(confidence, float), np.asarray(right, float)
    if len(sure) != len(hit) or len(sure) == 0:
        raise DataError(f"calibration got {len(sure)} confidences and {len(hit)} outcomes; give as many, at least one")
    if not np.all((sure >= 0) & (sure <= 1)):
        raise DataError(f"calibration got confidences from {sure.min()} to {sure.max()}; they must lie in [0, 1]")
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    diagram = []
    for b in range(bins):
        inside, count = place == b, int(np.sum(place == b))
        means = (float(sure[inside].mean()), float(hit[inside].mean())) if count else (np.nan, np.nan)
        diagram.append(
            CalibrationBin(low=b / bins, high=(b + 1) / bins, count=count, confidence=means[0], accuracy=means[1])
        )
    return tuple(diagram)


def expected_calibration_error(confidence: ArrayLike, right: ArrayLike, *, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over bins, weighted by their rows; 0 is calibrated.

    Source: ECE, Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3; 15 bins as there.

    >>> expected_calibration_error([0.75, 0.75, 0.75, 0.75], [True, True, True, False])
    0.0
    """
    parts = [b for b in calibration_bins(confidence, right, bins=bins) if b.count]
    rows = sum(b.count for b in parts)
    return sum(b.count * abs(b.accuracy - b.confidence) for b in parts) / rows


def _pair(given: Any, actual: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    a, b = np.asarray(given), np.asarray(actual)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise DataError(f"scores need two equal lists of at least one row; they have shapes {a.shape} and {b.shape}")
    return a, b


def _square(matrix: ArrayLike) -> Floats:
    r = np.asarray(matrix, float)
    if r.ndim != 2 or r.shape[0] != r.shape[1] or len(r) == 0:
        raise DataError(f"an accuracy matrix has shape {r.shape}; it needs a row and a column for each experience")
    return r


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
