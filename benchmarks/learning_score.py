"""One scoring function for every arm, ours and theirs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning_arms import Update
from perennial.continual.arrays import softmax
from perennial.continual.intervals import paired_bootstrap
from perennial.continual.learning import metrics

__all__ = ["Scored", "compare", "score"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """An arm's record for the results file, and which test rows it got right at the end (for paired intervals)."""

    record: dict[str, Any]
    right: NDArray[np.bool_]


def score(
    about: dict[str, Any], updates: Iterable[Update], order: Sequence[int], y_test: NDArray[np.int64], per_update: int
) -> Scored:
    """Score one run. The answer after each update is restricted to the classes met so far, for every arm alike.

    `forgetting` is max-past minus last. `forgetting_old_classes_only` is the same with the answer restricted to each
    experience's own classes: what is left of it is forgotten, not merely confused with newer classes.
    """
    experience = np.empty(len(order), dtype=np.int64)
    experience[list(order)] = np.arange(len(order)) // per_update
    part = experience[y_test]
    predictions, within, seconds, steps, spent = [], [], [], [], []
    for number, update in enumerate(updates):
        seen = experience <= number
        scores = np.where(seen[None, :], update.scores, -np.inf)
        predictions.append(scores.argmax(axis=1))
        own = np.where(experience[None, :] == part[:, None], update.scores, -np.inf)
        within.append(own.argmax(axis=1))
        seconds.append(update.seconds)
        steps.append(update.steps)
        spent.append(update.cpu_seconds)
    matrix = metrics.accuracy_matrix(predictions, y_test, part)
    own_matrix = metrics.accuracy_matrix(within, y_test, part)
    weights = np.bincount(part)
    last = predictions[-1]
    sure = softmax(scores.astype(np.float64)).max(axis=1)
    worst, worst_accuracy = metrics.worst_class(last, y_test)
    record = {
        **about,
        "final_accuracy": 100 * metrics.final_accuracy(matrix, weights),
        "mean_accuracy": 100 * metrics.mean_accuracy(matrix, weights),
        "forgetting": 100 * metrics.max_minus_last_forgetting(matrix),
        "forgetting_first_minus_last": 100 * metrics.first_minus_last_forgetting(matrix),
        "forgetting_old_classes_only": 100 * metrics.max_minus_last_forgetting(own_matrix),
        "backward_transfer": 100 * metrics.backward_transfer(matrix),
        "macro_f1": 100 * metrics.macro_f1(last, y_test),
        "worst_class": int(worst),
        "worst_class_accuracy": 100 * worst_accuracy,
        "calibration_error": 100 * metrics.expected_calibration_error(sure, last == y_test),
        "accuracy_after_update": [
            100 * float(np.average(matrix[i, : i + 1], weights=weights[: i + 1])) for i in range(len(matrix))
        ],
        "accuracy_matrix": np.round(100 * matrix, 2),
        "seconds_per_update": float(np.mean(seconds)),
        "slowest_update_seconds": float(np.max(seconds)),
        "cpu_seconds_per_update": float(np.mean(spent)) if min(spent) >= 0 else None,
        "steps": int(np.sum(steps)),
    }
    return Scored(record=record, right=last == y_test)


def compare(ours: Sequence[Scored], theirs: Sequence[Scored], rng: np.random.Generator) -> dict[str, Any]:
    """Return ours - theirs in points of final accuracy, over all test rows of the orders both ran."""
    by_order = {arm.record["order"]: arm for arm in theirs}
    pairs = [(arm, by_order[arm.record["order"]]) for arm in ours if arm.record["order"] in by_order]
    interval = paired_bootstrap(
        100.0 * np.concatenate([a.right for a, _ in pairs]),
        100.0 * np.concatenate([b.right for _, b in pairs]),
        rng,
        resamples=2000,  # as in the figures that are published
    )
    return {
        "ours": ours[0].record["name"],
        "ours_buffer_rows": ours[0].record["buffer_rows"],
        "theirs": theirs[0].record["name"],
        "theirs_buffer_rows": theirs[0].record["buffer_rows"],
        "orders": len(pairs),
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "level": interval.level,
        "verdict": {1: "ahead", 0: "equal within the interval", -1: "behind"}[interval.decided],
    }
