"""What a version answered to rows that it has not learnt."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perennial.continual.errors import DataError
from perennial.continual.intervals import wilson
from perennial.continual.learning.metrics import accuracy_by_class, expected_calibration_error, macro_f1

__all__ = ["AnswerFigures", "ClassRecall", "ConfusedPair", "HeldOutAnswers", "judge_answers"]

TextsOf = Callable[[Sequence[int]], Mapping[int, str]]
_WORST, _PAIRS, _EXAMPLES = 5, 5, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutAnswers:
    """Rows that were held out, by the ledger's ids, their labels, what was answered, and how sure the version was."""

    ids: tuple[int, ...]
    labels: tuple[str, ...]
    given: tuple[str, ...]
    confidence: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.ids), len(self.labels), len(self.given), len(self.confidence)}
        if len(sizes) != 1 or not self.ids:
            raise DataError(f"held-out answers have {sorted(sizes)} values; give as many of each, at least one")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRecall:
    """One class: its held-out rows, and the share of them that was answered rightly."""

    label: str
    rows: int
    recall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedPair:
    """Rows of one class that were answered with another, with some of their texts."""

    label: str
    answered: str
    rows: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFigures:
    """Figures of the answers; `low` and `high` bound the accuracy with 95% confidence.

    `missing_class_rows` are rows of classes that the version cannot answer with; they count as wrong.
    """

    rows: int
    accuracy: float
    low: float
    high: float
    macro_f1: float
    calibration_error: float
    missing_class_rows: int
    worst: tuple[ClassRecall, ...]
    confused: tuple[ConfusedPair, ...]


def judge_answers(answers: HeldOutAnswers, known: Sequence[str], texts_of: TextsOf) -> AnswerFigures:
    """The figures of a version's answers; `known` are the labels that it can give.

    `texts_of` is asked for the texts of the few rows that are shown as examples.

    >>> answers = HeldOutAnswers(ids=(7, 8, 9), labels=("a", "b", "b"), given=("a", "a", "b"),
    ...                          confidence=(0.9, 0.6, 0.9))
    >>> judged = judge_answers(answers, ["a", "b"], lambda ids: {number: f"text {number}" for number in ids})
    >>> judged.accuracy, judged.confused[0].examples
    (0.6666666666666666, ('text 8',))
    """
    given, labels = list(answers.given), list(answers.labels)
    right = np.array(given, object) == np.array(labels, object)
    share = wilson(int(right.sum()), len(labels))
    answerable = set(known)
    return AnswerFigures(
        rows=len(labels),
        accuracy=float(right.mean()),
        low=share.low,
        high=share.high,
        macro_f1=macro_f1(given, labels),
        calibration_error=expected_calibration_error(answers.confidence, right),
        missing_class_rows=sum(label not in answerable for label in labels),
        worst=_worst(given, labels),
        confused=_confused(answers, texts_of),
    )


def _worst(given: Sequence[str], labels: Sequence[str]) -> tuple[ClassRecall, ...]:
    """The classes with the lowest recall; of equals the ones with most rows, for there it is least by chance."""
    rows = Counter(labels)
    recalls = [
        ClassRecall(label=str(label), rows=rows[label], recall=recall)
        for label, recall in accuracy_by_class(given, labels).items()
        if recall < 1.0
    ]
    return tuple(sorted(recalls, key=lambda each: (each.recall, -each.rows, each.label))[:_WORST])


def _confused(answers: HeldOutAnswers, texts_of: TextsOf) -> tuple[ConfusedPair, ...]:
    """The pairs with most rows; the examples are those that the version was surest of."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, (label, given) in enumerate(zip(answers.labels, answers.given, strict=True)):
        if label != given:
            places[label, given].append(place)
    most = sorted(places.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:_PAIRS]
    surest = [
        [answers.ids[place] for place in sorted(rows, key=lambda row: -answers.confidence[row])[:_EXAMPLES]]
        for _, rows in most
    ]
    texts = texts_of([number for numbers in surest for number in numbers])
    return tuple(
        ConfusedPair(
            label=label,
            answered=given,
            rows=len(rows),
            examples=tuple(texts[number] for number in numbers if number in texts),
        )
        for ((label, given), rows), numbers in zip(most, surest, strict=True)
    )
