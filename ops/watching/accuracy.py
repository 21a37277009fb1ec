"""How good the champion's answers are now: estimated from its confidence, measured from the labels that came."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from perennial.continual.drift.accuracy import (
    ASSUMES_NO_CHOICE,
    ASSUMES_NOTHING,
    AccuracyEstimate,
    ConfidenceCalibration,
    ResolvedLabels,
    SampledAnswer,
    estimate_accuracy,
    in_random_share,
    measure_accuracy,
    resolve_labels,
)
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.window import Window
from perennial.continual.labelling import Reason
from perennial.continual.task import score_kept
from perennial.continual.tasks import task_named
from perennial.ops.ledger.ports import Labels, State
from perennial.ops.prediction_ids import id_time_us
from perennial.ops.store.state import ACCURACY, LABEL_QUEUE, ModelAccuracy, QueueChoice
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog

__all__ = ["AccuracyWatch"]

logger = logging.getLogger(__name__)
_LEAST = 50  # answers, or labels, below which nothing is said
_UNKNOWN_CHANCE = 1e-6  # equal for all, and small: the interval speaks for all traffic, not for the labelled part of it


class AccuracyLedger(Labels, State, Protocol):
    """What accuracy is measured by, and where it is kept."""


class AccuracyWatch:
    """Follows one model's champion. Labels may come late, be corrected and contradict each other.

    The estimate looks at the newest `accuracy_rows` answers; the measurement at as many of the newest labels, whenever
    their requests were answered, so that late labels count. Which labels speak for all answers: those of the
    `random_label_share` where there is one; else the labelling queue's choices, each by its probability, once enough of
    its random ones have labels; else all, on an assumption that is told.
    """

    def __init__(self, ledger: AccuracyLedger, workspace: Workspace, model: str, traffic: TrafficLog) -> None:
        self._ledger, self._workspace, self._model, self._traffic = ledger, workspace, model, traffic
        self._settings = workspace.model(model).drift
        self._task = task_named(workspace.model(model).task)
        self._first: tuple[int, Window] | None = None
        self._chosen: dict[str, tuple[str, float]] = {}  # by the labelling queue: reason and probability
        self._forgotten_until_us = 0  # requests until then may have been chosen by it too, and be forgotten

    def look(self, champion: int) -> ModelAccuracy:
        """Tell the accuracy of the champion now, and note it in the ledger where it changed."""
        queue = LABEL_QUEUE.read(self._ledger, self._model) or ()
        self._chosen = {row.prediction_id: (row.reason, row.probability) for row in queue}
        self._forgotten_until_us = _forgotten_until_us(queue)
        first = self._first_traffic(champion)
        calibration = None if first is None else self._calibration(first)
        accuracy = ModelAccuracy(
            version=champion,
            at=datetime.now(UTC),
            estimated=self._estimated(champion, calibration),
            measured=self._measured(champion),
            reference=None if first is None else self._reference(first, calibration),
        )
        before = ModelAccuracy.of(self._ledger, self._model, champion)
        if before is None or replace(before, at=accuracy.at) != accuracy:
            ACCURACY.keep(self._ledger, self._model, accuracy)
        return accuracy

    def counts(self, prediction_id: str) -> bool:
        """Whether a label for this answer may speak for other answers: it was not asked for because of the answer.

        Where the queue has forgotten choices, a label of a request as old as they are may have been asked for.
        """
        share = self._settings.random_label_share
        if share > 0.0:
            return in_random_share(prediction_id, share)
        chosen = self._chosen.get(prediction_id)
        if chosen is None:
            return self._forgotten_until_us == 0 or (id_time_us(prediction_id) or 0) > self._forgotten_until_us
        return chosen[0] == Reason.UNIFORM.value

    def score(self, answer: str, label: str) -> float:
        """How good an answer is by its label, in [0, 1]."""
        return score_kept(self._task, answer, label)

    def first_ids(self, champion: int) -> frozenset[str]:
        """The predictions of the champion's first traffic, as far as its reference keeps them."""
        first = self._first_traffic(champion)
        return frozenset() if first is None or first.ids is None else frozenset(first.ids.tolist())

    def first_labels(self, champion: int) -> list[tuple[str, str, str]]:
        """The labelled ones of the champion's first answers: id, answer, label."""
        first = self._first_traffic(champion)
        if first is None or first.ids is None:
            return []
        pairs = zip(first.ids.tolist(), first.whole_answers.tolist(), strict=True)
        answers = [(name, predicted) for name, predicted in pairs if self.counts(name)]
        labels = self._resolved([name for name, _ in answers]).labels
        return [(name, predicted, labels[name]) for name, predicted in answers if name in labels]

    def _estimated(self, champion: int, calibration: ConfidenceCalibration | None) -> AccuracyEstimate | None:
        if "confidence" not in self._task.log_columns:
            return None
        rows = self._traffic.read(version=champion, columns=["confidence"], last=self._settings.accuracy_rows)
        if rows.num_rows < _LEAST:
            return None
        return estimate_accuracy(rows["confidence"].to_numpy(), calibration)

    def _measured(self, champion: int) -> AccuracyEstimate | None:
        most = self._settings.accuracy_rows
        if self._chosen and self._settings.random_label_share == 0.0:
            chances = {name: chance for name, (_, chance) in list(self._chosen.items())[-most:]}
            estimate = self._measure(self._answers(chances, champion), ASSUMES_NOTHING, chosen=True)
            if estimate is not None:
                return estimate
        newest = [p.prediction_id for p in self._ledger.newest_feedback(self._model, 4 * most)]
        chances = dict.fromkeys([name for name in newest if self.counts(name)][:most], self._chance)
        return self._measure(self._answers(chances, champion), self.assumption)

    def _answers(self, chances: Mapping[str, float], champion: int) -> list[SampledAnswer]:
        """The champion's answers among these predictions, each with its chance to be labelled."""
        rows = self._traffic.lookup(list(chances), columns=["prediction_id", "prediction", "version"]).to_pylist()
        return [
            SampledAnswer(
                prediction_id=row["prediction_id"], predicted=row["prediction"], chance=chances[row["prediction_id"]]
            )
            for row in rows
            if row["version"] == champion
        ]

    def _reference(self, first: Window, calibration: ConfidenceCalibration | None) -> AccuracyEstimate | None:
        """What its first answers reached: measured where enough of them have labels, else estimated by confidence."""
        ids = [] if first.ids is None else first.ids.tolist()
        pairs = [(i, p) for i, p in zip(ids, first.whole_answers.tolist(), strict=False) if self.counts(i)]
        answers = [SampledAnswer(prediction_id=i, predicted=p, chance=self._chance) for i, p in pairs]
        if (measured := self._measure(answers, self.assumption)) is not None or first.confidences is None:
            return measured
        return estimate_accuracy(first.confidences, calibration)

    def _measure(
        self, answers: list[SampledAnswer], assumption: str, *, chosen: bool = False
    ) -> AccuracyEstimate | None:
        """The accuracy, once enough answers have a label; of the queue's choices, once enough random ones do."""
        resolved = self._resolved([answer.prediction_id for answer in answers])
        labelled = [answer.prediction_id for answer in answers if answer.prediction_id in resolved.labels]
        if chosen:
            labelled = [name for name in labelled if self._chosen[name][0] == Reason.UNIFORM.value]
        if len(labelled) < _LEAST:
            return None
        return measure_accuracy(answers, resolved, assumption=assumption, score=self.score)

    def _calibration(self, first: Window) -> ConfidenceCalibration | None:
        """Confidence to chance, from the labels of the champion's first traffic; they may have come for any reason.

        Picking answers by their confidence does not bend it, because it is fitted given the confidence.
        """
        if first.ids is None or first.confidences is None:
            return None
        labels = self._resolved(first.ids.tolist()).labels
        known = [i for i, name in enumerate(first.ids.tolist()) if name in labels]
        if len(known) < 2 * _LEAST:
            return None
        scores = [self.score(str(first.whole_answers[i]), labels[str(first.ids[i])]) for i in known]
        return ConfidenceCalibration.fit(first.confidences[known], np.asarray(scores))

    def _resolved(self, ids: list[str]) -> ResolvedLabels:
        return resolve_labels(self._ledger.given_labels(self._model, ids))

    def _first_traffic(self, champion: int) -> Window | None:
        folder = self._workspace.reference(self._model, champion)
        if self._first is None or self._first[0] != champion:
            if not folder.is_dir():
                return None
            self._first = champion, ReferenceProfile.load(folder).sample
        return self._first[1]

    @property
    def assumption(self) -> str:
        """What it takes for granted that the labels which count speak for all answers."""
        return ASSUMES_NOTHING if self._settings.random_label_share > 0.0 else ASSUMES_NO_CHOICE

    @property
    def _chance(self) -> float:
        return self._settings.random_label_share or _UNKNOWN_CHANCE


def _forgotten_until_us(queue: Sequence[QueueChoice]) -> int:
    """The newest request of the oldest batch that is remembered, in microseconds of unix time; 0 of a queue not full.

    What is forgotten was chosen before or with that batch, so that its requests are no newer.
    """
    if len(queue) < QueueChoice.KEPT:
        return 0
    oldest = min(row.batch for row in queue)
    return max(id_time_us(row.prediction_id) or 0 for row in queue if row.batch == oldest)
