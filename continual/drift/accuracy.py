"""How right the model is: estimated without labels under a stated assumption, and measured from labels without one."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual import labelling
from perennial.continual.errors import DataError

__all__ = [
    "AccuracyEstimate",
    "ConfidenceCalibration",
    "GivenLabel",
    "ResolvedLabels",
    "SampledAnswer",
    "equality",
    "estimate_accuracy",
    "in_random_share",
    "measure_accuracy",
    "resolve_labels",
]

ASSUMES_UNCHANGED = (
    "assumes that texts like these still mean what they meant when the confidence was calibrated; "
    "blind to a change of concept"
)
ASSUMES_NOTHING = "unbiased: each answer counts by the inverse of its chance to be labelled"
ASSUMES_NO_CHOICE = (
    "assumes that whether an answer gets a label does not depend on the answer; "
    "have a random share labelled (drift.random_label_share) to drop this"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyEstimate:
    """An accuracy in [0, 1] with its interval, and what must hold for it to be true; show the three together.

    >>> AccuracyEstimate(value=0.9, low=0.86, high=0.93, rows=300, assumption=ASSUMES_NOTHING).rows
    300
    """

    value: float
    low: float
    high: float
    rows: int
    assumption: str
    contested: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConfidenceCalibration:
    """A rising step-wise linear map from confidence to the chance of being right, fitted on labelled answers.

    >>> c = ConfidenceCalibration.fit(np.linspace(0, 1, 200), np.linspace(0, 1, 200) > 0.5)
    >>> c(np.array([0.1, 0.9])).tolist()
    [0.0, 1.0]
    """

    confidences: NDArray[np.float64]
    chances: NDArray[np.float64]

    @classmethod
    def fit(cls, confidences: NDArray[np.generic], correct: NDArray[np.generic]) -> Self:
        """Return the isotonic fit.

        Raises:
            DataError: fewer than 20 answers, or a value that is not finite.
        """
        from scipy.optimize import isotonic_regression

        if len(confidences) < 20 or len(confidences) != len(correct):
            raise DataError(f"{len(confidences)} confidences, {len(correct)} verdicts; give 20 or more of each")
        given, verdicts = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
        if strange := int((~np.isfinite(given) | ~np.isfinite(verdicts)).sum()):
            raise DataError(
                f"{strange} of {len(given)} answers have a confidence or verdict that is not finite; omit them"
            )
        different, place = np.unique(given, return_inverse=True)
        answers = np.bincount(place)
        means = np.bincount(place, weights=verdicts) / answers
        chances = np.clip(isotonic_regression(means, weights=answers).x, 0.0, 1.0)
        steps = np.concatenate([[True], chances[1:] != chances[:-1], [True]])
        turns = steps[1:] | steps[:-1]  # between two equal neighbours a value adds nothing to the line
        return cls(confidences=different[turns], chances=chances[turns])

    def __call__(self, confidences: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return each answer's chance of being right."""
        chances: NDArray[np.float64] = np.interp(
            np.asarray(confidences, dtype=np.float64), self.confidences, self.chances
        )
        return chances


def estimate_accuracy(
    confidences: NDArray[np.generic], calibration: ConfidenceCalibration | None = None
) -> AccuracyEstimate:
    """Return the accuracy that calibrated confidence promises; without a calibration the confidence is taken as one.

    The 95% interval covers chance only, not a broken assumption.

    >>> round(estimate_accuracy(np.full(100, 0.9)).value, 6)
    0.9
    """
    if len(confidences) == 0:
        raise DataError("an accuracy estimate needs at least one answer; the window is empty")
    raw = np.asarray(confidences, dtype=np.float64)
    chances = raw if calibration is None else calibration(raw)
    value = float(chances.mean())
    spread = 1.96 * float(np.sqrt(value * (1.0 - value) / len(chances)))
    return AccuracyEstimate(
        value=value,
        low=max(0.0, value - spread),
        high=min(1.0, value + spread),
        rows=len(chances),
        assumption=ASSUMES_UNCHANGED,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenLabel:
    """A label as somebody gave it. A later one by the same annotator corrects the earlier."""

    prediction_id: str
    label: str
    annotator: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedLabels:
    """One label a prediction; `contested` are the predictions whose annotators are evenly split."""

    labels: dict[str, str]
    contested: frozenset[str]
    corrected: int


def resolve_labels(given: Sequence[GivenLabel], *, until: datetime | None = None) -> ResolvedLabels:
    """Return what the labels say at `until`, in whatever order they arrive.

    Each annotator's last word counts; annotators outvote each other; an even split is contested and gives no label.

    >>> from datetime import UTC
    >>> when = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2)]
    >>> r = resolve_labels([GivenLabel(prediction_id="p", label="b", annotator="x", at=when[1]),
    ...                     GivenLabel(prediction_id="p", label="a", annotator="x", at=when[0])])
    >>> r.labels, r.corrected
    ({'p': 'b'}, 1)
    """
    last: dict[tuple[str, str], GivenLabel] = {}
    words: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for label in sorted(given, key=lambda item: (item.at, item.label)):
        if until is None or label.at <= until:
            last[label.prediction_id, label.annotator] = label
            words[label.prediction_id, label.annotator].add(label.label)
    votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (prediction, _), label in last.items():
        votes[prediction][label.label] += 1
    labels: dict[str, str] = {}
    contested = set()
    for prediction, counts in votes.items():
        ranked = counts.most_common(2)
        if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
            contested.add(prediction)
        else:
            labels[prediction] = ranked[0][0]
    corrected = sum(len(labels_seen) > 1 for labels_seen in words.values())
    return ResolvedLabels(labels=labels, contested=frozenset(contested), corrected=corrected)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledAnswer:
    """An answer that was picked for labelling with a known chance, in (0, 1]."""

    prediction_id: str
    predicted: str
    chance: float

    def __post_init__(self) -> None:
        if not 0.0 < self.chance <= 1.0:
            raise DataError(f"prediction {self.prediction_id} was picked with chance {self.chance}; give (0, 1]")


def in_random_share(prediction_id: str, share: float) -> bool:
    """Return whether an answer is of the random share: by a hash, so that everybody picks the same answers.

    >>> sum(in_random_share(f"prediction {i}", 0.1) for i in range(10_000)) / 10_000
    0.1037
    """
    digest = hashlib.blake2b(prediction_id.encode(), digest_size=8, person=b"random share").digest()
    return int.from_bytes(digest, "big") < share * 2**64


def equality(answer: str, label: str) -> float:
    """The score of right and wrong: 1 where answer and label are equal, else 0."""
    return float(answer == label)


def measure_accuracy(
    sampled: Sequence[SampledAnswer],
    resolved: ResolvedLabels,
    *,
    assumption: str = ASSUMES_NOTHING,
    score: Callable[[str, str], float] = equality,
) -> AccuracyEstimate:
    """Return the mean score over all answers from those that were picked at random and labelled.

    Value and 95% interval come from `continual.labelling.estimate_accuracy`, weighted by inverse propensity. Contested
    answers are left out of the value and widen the interval from all wrong to all right. Picked answers whose label has
    not come yet are left out, which is unbiased as long as lateness does not depend on the answer. `assumption` says
    what must hold besides when the picks were not made at random. `score` takes answer and label to [0, 1]; where it
    gives more than 0 and 1, the interval is wider than it need be.

    Raises:
        DataError: none of the picked answers has a label.

    >>> answers = [SampledAnswer(prediction_id=str(i), predicted="a", chance=0.1) for i in range(100)]
    >>> labels = ResolvedLabels(labels={str(i): "a" if i < 90 else "b" for i in range(100)}, contested=frozenset(),
    ...                         corrected=0)
    >>> e = measure_accuracy(answers, labels)
    >>> round(e.value, 3), round(e.low, 3), round(e.high, 3)
    (0.9, 0.842, 0.958)
    """
    known = [answer for answer in sampled if answer.prediction_id in resolved.labels]
    if not known:
        raise DataError(f"none of the {len(sampled)} picked answers has a label yet; wait for labels")
    scores = [score(answer.predicted, resolved.labels[answer.prediction_id]) for answer in known]
    measured = labelling.estimate_accuracy(scores, [answer.chance for answer in known])
    known_weight = sum(1.0 / answer.chance for answer in known)
    open_weight = sum(1.0 / a.chance for a in sampled if a.prediction_id in resolved.contested)
    share = open_weight / (open_weight + known_weight)
    return AccuracyEstimate(
        value=measured.accuracy,
        low=measured.low * (1.0 - share),
        high=measured.high * (1.0 - share) + share,
        rows=len(known),
        assumption=assumption,
        contested=sum(answer.prediction_id in resolved.contested for answer in sampled),
    )
