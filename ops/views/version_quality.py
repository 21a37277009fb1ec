"""How good a version is, out of its kept answers to held-out rows: classes, confusions and calibration; no training."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from perennial.continual.intervals import wilson
from perennial.continual.learning.metrics import accuracy_by_class, calibration_bins
from perennial.continual.preparation import deidentify
from perennial.continual.quality import AnswerFigures, HeldOutAnswers, judge_answers
from perennial.ops.ledger import Ledger, VersionRow
from perennial.ops.making.held_out_answers import kept_answers
from perennial.ops.making.probing import ProbedVersion, kept_probes
from perennial.ops.making.smaller import Compression, kept_compression
from perennial.ops.store.workspace import Workspace
from perennial.ops.views.fairness import FairnessView, fairness_view

__all__ = [
    "CalibrationPoint",
    "ClassQuality",
    "VersionQuality",
    "VersionReport",
    "VersionsBeside",
    "version_fairness",
    "version_quality",
    "version_report",
    "versions_beside",
]

_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationPoint:
    """Rows answered with about the same confidence, and the share of them that was right, with its 95% interval."""

    confidence: float
    right: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassQuality:
    """One class: its held-out rows, the share answered rightly, and of the rows answered with it the share so right."""

    label: str
    rows: int
    recall: float
    answered: int
    precision: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionQuality:
    """The figures of a version's held-out answers, each class, the worst first, and its calibration."""

    figures: AnswerFigures
    classes: tuple[ClassQuality, ...]
    calibration: tuple[CalibrationPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsBeside:
    """Two versions on the held-out rows that both answered: which alone was right, and classes by their difference."""

    rows: int
    both_right: int
    first_alone: int
    second_alone: int
    neither: int
    classes: tuple[tuple[str, int, float, float], ...]  # label, rows, recall of the first, of the second


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionReport:
    """What is kept of a version beside its facts; None of what was not measured."""

    model: str
    version: int
    quality: VersionQuality | None
    fairness: FairnessView | None
    probed: ProbedVersion | None
    compressed: Compression | None

    def without_texts(self) -> "VersionReport":
        """The same for who may not read texts: confused classes have no examples."""
        if self.quality is None:
            return self
        figures = self.quality.figures
        bare = replace(figures, confused=tuple(replace(pair, examples=()) for pair in figures.confused))
        return replace(self, quality=replace(self.quality, figures=bare))


def version_report(ledger: Ledger, workspace: Workspace, model: str, version: int) -> VersionReport:
    """Return all reports of a version.

    Raises:
        NotFound: there is no such version.
    """
    return VersionReport(
        model=model,
        version=version,
        quality=version_quality(ledger, workspace, model, version),
        fairness=version_fairness(ledger, workspace, model, version),
        probed=kept_probes(workspace, model, version),
        compressed=kept_compression(workspace, model, version),
    )


def version_quality(ledger: Ledger, workspace: Workspace, model: str, version: int) -> VersionQuality | None:
    """Return the figures of a version; None where its answers were not kept, or all their rows were erased."""
    row = ledger.version(model, version)
    answers = _answers(ledger, workspace, row)
    if answers is None:
        return None
    given, labels = list(answers.given), list(answers.labels)
    right = np.array(given, object) == np.array(labels, object)
    rows, answered = Counter(labels), Counter(given)
    hits = Counter(label for label, is_right in zip(labels, right, strict=True) if is_right)
    classes = [
        ClassQuality(
            label=str(label),
            rows=rows[label],
            recall=recall,
            answered=answered[label],
            precision=hits[label] / answered[label] if answered[label] else None,
        )
        for label, recall in accuracy_by_class(given, labels).items()
    ]
    return VersionQuality(
        figures=judge_answers(answers, row.labels, partial(_texts, ledger, model)),
        classes=tuple(sorted(classes, key=lambda each: (each.recall, -each.rows, each.label))),
        calibration=_calibration(answers.confidence, right),
    )


def versions_beside(ledger: Ledger, workspace: Workspace, model: str, first: int, second: int) -> VersionsBeside | None:
    """Return how two versions differ on the rows that both answered; None where there are none."""
    kept = [kept_answers(workspace, model, version) for version in (first, second)]
    given = [{} if each is None else dict(zip(each.ids, each.given, strict=True)) for each in kept]
    labels = ledger.targets_of(model, sorted(given[0].keys() & given[1].keys()))
    if not labels:
        return None
    common = sorted(labels)
    right = [{number: each[number] == labels[number] for number in common} for each in given]
    counts = Counter((right[0][number], right[1][number]) for number in common)
    rows = Counter(labels.values())
    recalls = [Counter(labels[number] for number in common if each[number]) for each in right]
    classes = [
        (label, count, recalls[0][label] / count, recalls[1][label] / count)
        for label, count in rows.items()
        if recalls[0][label] != recalls[1][label]
    ]
    return VersionsBeside(
        rows=len(common),
        both_right=counts[True, True],
        first_alone=counts[True, False],
        second_alone=counts[False, True],
        neither=counts[False, False],
        classes=tuple(sorted(classes, key=lambda each: (-abs(each[3] - each[2]), each[0]))),
    )


def version_fairness(ledger: Ledger, workspace: Workspace, model: str, version: int) -> FairnessView | None:
    """Return whom a version answers worse, out of its kept answers; None where the settings declare no attribute."""
    row, configured = ledger.version(model, version), workspace.settings.models.get(model)
    if configured is None or not configured.fairness.attributes or not row.labels:
        return None
    settings = configured.fairness
    kept = kept_answers(workspace, model, version)
    if kept is None:
        return fairness_view(settings, [], None)
    there = {number: stored.example for number, stored in ledger.examples_of(model, kept.ids).items()}
    proof = [there[number] for number in kept.ids if number in there]
    return fairness_view(settings, proof, kept.of_rows({number: row.label for number, row in there.items()}))


def _answers(ledger: Ledger, workspace: Workspace, row: VersionRow) -> HeldOutAnswers | None:
    kept = kept_answers(workspace, row.model, row.version) if row.labels else None
    if kept is None:
        return None
    return kept.of_rows(ledger.targets_of(row.model, kept.ids))


def _texts(ledger: Ledger, model: str, ids: Sequence[int]) -> dict[int, str]:
    return {number: deidentify(stored.example.text) for number, stored in ledger.examples_of(model, ids).items()}


def _calibration(
    confidence: tuple[float, ...], right: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> tuple[CalibrationPoint, ...]:
    points = []
    for part in calibration_bins(confidence, right, bins=_BINS):
        if not part.count:
            continue
        share = wilson(round(part.accuracy * part.count), part.count)
        points.append(
            CalibrationPoint(
                confidence=part.confidence, right=part.accuracy, low=share.low, high=share.high, rows=part.count
            )
        )
    return tuple(points)
