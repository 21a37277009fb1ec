"""A model's logged past as a policy would have lived through it, had the first version never been replaced.

The answers of that version are taken from the traffic log where it gave them, and given anew from its bundle where a
later version answered. What a retraining would have been worth is read off the present champion, on held-out texts
that it has not learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from perennial.continual.arrays import softmax
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.window import Window
from perennial.continual.errors import DataError
from perennial.continual.identity import split_by
from perennial.continual.policy import History
from perennial.continual.policy.past import PastKnowledge, PastRows, PastRules, changes_in, history_of
from perennial.continual.records import Split
from perennial.continual.task import score_kept
from perennial.continual.tasks import task_named
from perennial.exporters.text_classification.classifier import BundleClassifier, Predictions
from perennial.ops.ledger.ports import Cycles, Examples, Labels, Routes, Versions
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.watcher import drift_settings

__all__ = ["Past", "PastReader"]

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


class PastLedger(Cycles, Examples, Labels, Routes, Versions, Protocol):
    """What the past is read from."""


class PastReader:
    """Reads one model's past."""

    def __init__(self, ledger: PastLedger, workspace: Workspace, model: str, traffic: TrafficLog) -> None:
        self._ledger, self._workspace, self._model, self._traffic = ledger, workspace, model, traffic
        self._settings = workspace.model(model)
        self._task = task_named(self._settings.task)

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
        known = set(self._ledger.version(self._model, kept).labels)
        changes_found = changes_in(rows, known, least=self._settings.learning.min_class_rows, near=drift.window_rows)
        knowledge = PastKnowledge(
            reference=reference,
            start=start,
            sample_scores=self._sample_scores(reference.sample),
            changes=sorted(changes) or changes_found,
            learnt_at=sorted(s.example.at for s in self._ledger.examples(self._model, split=Split.TRAIN)),
            training_s=self._training_s() if training_s is None else training_s,
        )
        return Past(
            history=history_of(rows, knowledge, self._rules(kept)),
            kept=kept,
            fresh=fresh,
            requests=len(rows.at) - start,
            labelled=sum(label is not None for label in rows.targets[start:]),
            answered_anew=anew,
            changes_from="given" if changes else "labels" if changes_found else "nothing",
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

    def _with_labels(self, window: Window, fresh: int | None) -> PastRows:
        ids = [] if window.ids is None else window.ids.tolist()
        at = [] if window.times is None else [moment.replace(tzinfo=UTC) for moment in window.times.tolist()]
        labelled = {p.prediction_id: p for p in self._ledger.first_feedback(self._model, _LABELS)}
        labels = [labelled[name].label if name in labelled else None for name in ids]
        return PastRows(
            window=window,
            at=at,
            targets=labels,
            target_at=[labelled[name].received_at if name in labelled else None for name in ids],
            scores=[
                None if label is None else self._score(answer, label)
                for answer, label in zip(window.predictions, labels, strict=True)
            ],
            fresh_scores=[None] * len(ids) if fresh is None else self._fresh_scores(fresh, window, labels),
        )

    def _fresh_scores(self, fresh: int, window: Window, labels: Sequence[str | None]) -> list[float | None]:
        """The present champion's scores on held-out rows with labels."""
        share = self._settings.learning.holdout_share
        texts = [str(text) for text in window.texts]
        chosen = {
            i: label
            for i, label in enumerate(labels)
            if label is not None and split_by(self._task.identity(texts[i]), holdout_share=share) is Split.HOLDOUT
        }
        answers = self._classifier(fresh).predict([texts[i] for i in chosen])
        scores: list[float | None] = [None] * len(labels)
        for (i, label), answer in zip(chosen.items(), answers.labels, strict=True):
            scores[i] = self._score(answer, label)
        return scores

    def _reference(self, version: int, window: Window) -> tuple[ReferenceProfile, int]:
        """The version's own reference with the place of the first row behind it, or one of the first rows."""
        folder = self._workspace.reference(self._model, version)
        if folder.is_dir():
            reference = ReferenceProfile.load(folder)
            last = None if reference.sample.times is None else reference.sample.times.max()
            start = 0 if last is None or window.times is None else int(np.searchsorted(window.times, last, "right"))
            return reference, start
        rows = self._settings.drift.reference_rows
        rng = np.random.default_rng([self._workspace.settings.seed, version])
        first = window.rows(slice(0, rows))
        return ReferenceProfile.build(first, version=version, rng=rng), rows

    # ---- what is known besides ----

    def _sample_scores(self, sample: Window) -> dict[int, float]:
        """The scores of the reference's sample by place, where its labels are known."""
        ids = [] if sample.ids is None else sample.ids.tolist()
        labels = self._ledger.feedback_labels(self._model, ids)
        return {i: self._score(sample.predictions[i], labels[n]) for i, n in enumerate(ids) if n in labels}

    def _score(self, answer: Any, label: str) -> float:
        return score_kept(self._task, str(answer), label)

    def _rules(self, version: int) -> PastRules:
        drift = self._settings.drift
        return PastRules(
            drift=drift_settings(self._workspace, self._model),
            window_rows=drift.window_rows,
            quality_rows=drift.accuracy_rows,
            random_share=drift.random_label_share,
            seed=self._workspace.settings.seed,
            version=version,
        )

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
