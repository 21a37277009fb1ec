"""A model's logged past as a policy would have lived through it, had the first version never been replaced.

The answers of that version are taken from the traffic log where it gave them, and given anew from its bundle where a
later version answered. What a retraining would have been worth is read off the present champion, on held-out texts
that it has not learnt.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from perennial.continual.arrays import softmax
from perennial.continual.drift.accuracy import (
    ConfidenceCalibration,
    GivenLabel,
    SampledAnswer,
    estimate_accuracy,
    in_random_share,
    measure_accuracy,
    resolve_labels,
)
from perennial.continual.drift.compare import compare
from perennial.continual.drift.monitor import DriftMonitor, Level
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.window import Window
from perennial.continual.errors import DataError
from perennial.continual.policy import DriftState, History, HistoryPoint, MeasuredShare
from perennial.continual.preparation import split_of
from perennial.continual.records import Split
from perennial.exporters.classifier import BundleClassifier, Predictions
from perennial.ops.ledger import Ledger
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.watch_state import reference_folder
from perennial.ops.watching.watcher import drift_settings

__all__ = ["Past", "PastReader"]

_LEAST_LABELS = 50
_LABELS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A history, and what it was made of. `changes_from` is `given`, `labels` or `nothing`."""

    history: History
    kept: int
    fresh: int | None
    requests: int
    labelled: int
    answered_anew: int
    changes_from: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """The logged requests as the kept version answers them, and what became known of each. All of one length."""

    window: Window
    at: list[datetime]
    labels: list[str | None]
    label_at: list[datetime | None]
    fresh_right: list[bool | None] = field(default_factory=list)  # None: not held out, or not labelled

    def right(self, i: int) -> bool | None:
        return None if self.labels[i] is None else str(self.window.predictions[i]) == self.labels[i]


class PastReader:
    """Reads one model's past. `tell` hears of the stages, for whoever waits."""

    def __init__(self, ledger: Ledger, workspace: Workspace, model: str, traffic: TrafficLog) -> None:
        self._ledger, self._workspace, self._model, self._traffic = ledger, workspace, model, traffic
        self._settings = workspace.model(model)

    def read(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        changes: Sequence[datetime] = (),
        training_s: float | None = None,
    ) -> Past:
        """Return the past between two times; `changes` are the times at which the world is known to have changed.

        Without them they are taken from the labels: a change is where labels begin that the version does not know.

        Raises:
            DataError: fewer answers than a reference and a window, or the first version's bundle is gone.
        """
        table = self._traffic.read(since=since, until=until)
        drift = self._settings.drift
        needed = drift.reference_rows + drift.window_rows
        if table.num_rows < needed:
            raise DataError(
                f"the traffic log holds {table.num_rows} answers of that time; a replay needs at least {needed}, a "
                "reference and a window: give an earlier --since, or wait"
            )
        kept = int(table["version"][0].as_py())
        route = self._ledger.route(self._model)
        fresh = None if route is None or route.champion == kept else route.champion
        window, anew = self._answered_by(kept, table)
        rows = self._with_labels(window, fresh)
        reference, start = self._reference(kept, window)
        found = [rows.at[i] for i in self._new_labels(kept, rows)]
        points = self._points(rows, reference, start, kept, sorted(changes) or found)
        history = History(
            champion_since=rows.at[start - 1] if start else rows.at[0],
            points=tuple(points),
            changes=tuple(sorted(changes) or found),
            reference_quality=self._accuracy_of(reference.sample, rows),
            training_s=self._training_s() if training_s is None else training_s,
        )
        return Past(
            history=history,
            kept=kept,
            fresh=fresh,
            requests=len(rows.at) - start,
            labelled=sum(label is not None for label in rows.labels[start:]),
            answered_anew=anew,
            changes_from="given" if changes else "labels" if found else "nothing",
        )

    # ---- the kept version's answers ----

    def _answered_by(self, version: int, table: pa.Table) -> tuple[Window, int]:
        logged = Window.from_columns({name: table[name] for name in table.column_names})
        others = np.flatnonzero(logged.versions != version)
        if not len(others):
            return logged, 0
        answers = self._classifier(version).predict([str(text) for text in logged.texts[others]])
        columns = {name: getattr(logged, name) for name in logged.__slots__}
        return Window(**{**columns, **_replaced(logged, others, answers, version)}), len(others)

    def _classifier(self, version: int) -> BundleClassifier:
        bundle = self._workspace.bundle(self._model, version)
        if not bundle.is_dir():
            raise DataError(
                f"version {version} of {self._model} answered first and its bundle {bundle} is gone, so its later "
                "answers cannot be told; give a later --since, or raise cycle.disk_versions"
            )
        return BundleClassifier.load(bundle, cache_dir=self._workspace.cache / "engines")

    def _with_labels(self, window: Window, fresh: int | None) -> _Rows:
        ids = [] if window.ids is None else window.ids.tolist()
        at = [] if window.times is None else [moment.replace(tzinfo=UTC) for moment in window.times.tolist()]
        given = {p.prediction_id: p for p in self._ledger.first_feedback(self._model, _LABELS)}
        labels = [given[name].label if name in given else None for name in ids]
        label_at = [given[name].received_at if name in given else None for name in ids]
        rows = _Rows(window=window, at=at, labels=labels, label_at=label_at, fresh_right=[None] * len(ids))
        if fresh is not None:
            share = self._settings.learning.holdout_share
            texts = [str(text) for text in window.texts]
            chosen = [
                i
                for i, label in enumerate(labels)
                if label is not None and split_of(texts[i], holdout_share=share) is Split.HOLDOUT
            ]
            answers = self._classifier(fresh).predict([texts[i] for i in chosen])
            for i, answer in zip(chosen, answers.labels, strict=True):
                rows.fresh_right[i] = answer == labels[i]
        return rows

    def _reference(self, version: int, window: Window) -> tuple[ReferenceProfile, int]:
        """The version's own reference with the place of the first row behind it, or one of the first rows."""
        folder = reference_folder(self._workspace, self._model, version)
        if folder.is_dir():
            reference = ReferenceProfile.load(folder)
            last = None if reference.sample.times is None else reference.sample.times.max()
            start = 0 if last is None or window.times is None else int(np.searchsorted(window.times, last, "right"))
            return reference, start
        rows = self._settings.drift.reference_rows
        rng = np.random.default_rng([self._workspace.settings.seed, version])
        first = window.rows(slice(0, rows))
        return ReferenceProfile.build(first, version=version, rng=rng), rows

    # ---- what the policy would have seen ----

    def _points(
        self, rows: _Rows, reference: ReferenceProfile, start: int, version: int, changes: Sequence[datetime]
    ) -> list[HistoryPoint]:
        size = self._settings.drift.window_rows
        settings = drift_settings(self._workspace, self._model)
        monitor = DriftMonitor(settings=settings)
        state = monitor.start(version, now_request=start)
        learnt = sorted(s.example.at for s in self._ledger.examples(self._model, split=Split.TRAIN))
        calibration = self._calibration(reference.sample, rows)
        began: datetime | None = None
        points: list[HistoryPoint] = []
        gains = self._gains(rows, changes)
        before = rows.at[start - 1] if start else rows.at[0]
        for number, first in enumerate(range(start, len(rows.at) - size + 1, size)):
            last = first + size
            rng = np.random.default_rng([self._workspace.settings.seed, version, number])
            comparison = compare(reference, rows.window.rows(slice(first, last)), settings, rng)
            state, signal = monitor.update(state, comparison, last)
            if comparison.drifted and began is None:
                began = before
            elif state.level is Level.OK:
                began = None
            at = rows.at[last - 1]
            kept = [right for i in range(first, last) if (right := rows.right(i)) is not None]
            accuracy = float(np.mean(kept)) if kept else None
            gain = gains[sum(change <= at for change in changes)]
            in_alert = state.level in {Level.ALERT, Level.COOLDOWN}
            points.append(
                HistoryPoint(
                    at=at,
                    requests=size,
                    feedback=bisect_left(learnt, at) - bisect_left(learnt, before),
                    drift=DriftState.ALERT if in_alert and began is not None else DriftState(state.level.value),
                    drift_since=began,
                    drift_signals=tuple(s.value for s in signal.signals),
                    estimated_quality=self._estimated(rows, last, calibration),
                    measured_quality=self._measured(rows, last, at),
                    accuracy_kept=accuracy,
                    accuracy_fresh=None if accuracy is None or gain is None else min(1.0, max(0.0, accuracy + gain)),
                )
            )
            before = at
        return points

    def _estimated(self, rows: _Rows, last: int, calibration: ConfidenceCalibration | None) -> float:
        newest = rows.window.confidences[max(0, last - self._settings.drift.accuracy_rows) : last]
        return estimate_accuracy(newest, calibration).value

    def _measured(self, rows: _Rows, last: int, now: datetime) -> MeasuredShare | None:
        share = self._settings.drift.random_label_share
        ids = rows.window.ids
        known = [
            (label_at, i)
            for i in range(last)
            if (label_at := rows.label_at[i]) is not None
            and label_at <= now
            and ids is not None
            and (share == 0 or in_random_share(str(ids[i]), share))
        ]
        newest = [i for _, i in sorted(known)[-self._settings.drift.accuracy_rows :]]
        if len(newest) < _LEAST_LABELS:
            return None
        answers = [
            SampledAnswer(prediction_id=str(i), predicted=str(rows.window.predictions[i]), chance=share or 1e-6)
            for i in newest
        ]
        given = [GivenLabel(prediction_id=str(i), label=str(rows.labels[i]), annotator="log", at=now) for i in newest]
        told = measure_accuracy(answers, resolve_labels(given))
        return MeasuredShare(value=told.value, low=told.low, high=told.high, rows=told.rows)

    def _calibration(self, sample: Window, rows: _Rows) -> ConfidenceCalibration | None:
        pairs = self._labelled(sample, rows)
        if len(pairs) < 2 * _LEAST_LABELS:
            return None
        return ConfidenceCalibration.fit(
            sample.confidences[[i for i, _ in pairs]], np.asarray([right for _, right in pairs])
        )

    def _accuracy_of(self, sample: Window, rows: _Rows) -> float:
        pairs = self._labelled(sample, rows)
        if len(pairs) >= _LEAST_LABELS:
            return float(np.mean([right for _, right in pairs]))
        return estimate_accuracy(sample.confidences).value

    def _labelled(self, sample: Window, rows: _Rows) -> list[tuple[int, bool]]:
        """The sample's labelled rows by place, and whether each was answered right."""
        ids = [] if sample.ids is None else sample.ids.tolist()
        labels = self._ledger.feedback_labels(self._model, ids)
        return [(i, labels[n] == str(sample.predictions[i])) for i, n in enumerate(ids) if n in labels]

    def _gains(self, rows: _Rows, changes: Sequence[datetime]) -> list[float | None]:
        """For each stretch between changes: the present champion's accuracy minus the kept one's, on held-out texts."""
        edges = [0, *(bisect_left(rows.at, change) for change in changes), len(rows.at)]
        gains: list[float | None] = []
        for first, last in pairwise(edges):
            differences = [
                float(fresh) - float(bool(rows.right(i)))
                for i in range(first, last)
                if (fresh := rows.fresh_right[i]) is not None
            ]
            gains.append(float(np.mean(differences)) if differences else None)
        return gains

    def _new_labels(self, version: int, rows: _Rows) -> list[int]:
        """The places at which labels begin that the version does not know; those near each other are one change."""
        known = set(self._ledger.version(self._model, version).labels)
        least = self._settings.learning.min_class_rows
        places: dict[str, list[int]] = {}
        for i, label in enumerate(rows.labels):
            if label is not None and label not in known:
                places.setdefault(label, []).append(i)
        begun = sorted(found[0] for found in places.values() if len(found) >= least)
        near = self._settings.drift.window_rows
        return [place for before, place in zip([-near - 1, *begun], begun, strict=False) if place - before > near]

    def _training_s(self) -> float:
        """How long the promoted cycles took, probation left out; 0 before the first one."""
        probation = timedelta(seconds=self._settings.cycle.probation_s)
        took = [
            (row.closed_at - row.opened_at - probation).total_seconds()
            for row in self._ledger.cycles(self._model, limit=50)
            if row.outcome == "promoted" and row.closed_at is not None
        ]
        return max(0.0, median(took)) if took else 0.0


def _replaced(logged: Window, places: Any, answers: Predictions, version: int) -> dict[str, Any]:
    """The columns of a window in which some rows were answered by another version."""
    chances = np.sort(softmax(answers.logits).astype(np.float64), axis=1)
    entropy = -(chances * np.log(chances + 1e-12)).sum(axis=1)
    second = chances[:, -2] if chances.shape[1] > 1 else np.zeros(len(chances))
    labels = logged.predictions.astype(object)
    labels[places] = answers.labels
    columns: dict[str, Any] = {"predictions": labels.astype(str)}
    for name, values in (
        ("confidences", answers.confidences),
        ("margins", chances[:, -1] - second),
        ("entropies", entropy),
        ("versions", np.full(len(places), version)),
    ):
        column = getattr(logged, name).copy()
        column[places] = values
        columns[name] = column
    if logged.embeddings is not None and logged.embeddings.shape[1] == answers.embeddings.shape[1]:
        embeddings = logged.embeddings.copy()
        embeddings[places] = answers.embeddings
        columns["embeddings"] = embeddings
    else:
        columns["embeddings"] = None
    return columns
