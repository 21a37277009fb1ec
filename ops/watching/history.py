"""A model's logged past as a policy would have lived through it, had the first version never been replaced.

The answers of that version are taken from the traffic log where it gave them, and given anew from its bundle where a
later version answered. What a retraining would have been worth is read off the present champion, on held-out inputs
that it has not learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from perennial.continual.drift.dependence import Counting
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.window import Window
from perennial.continual.errors import DataError
from perennial.continual.identity import split_by
from perennial.continual.policy import History
from perennial.continual.policy.past import PastKnowledge, PastRows, PastRules, changes_in, history_of
from perennial.continual.records import Split
from perennial.continual.task import score_kept
from perennial.continual.tasks import task_named
from perennial.ops.ledger.ports import Cycles, Examples, Labels, State, Vocabulary
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.port import Answer
from perennial.ops.serving.tasks import serving_side
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.opening import cycle_cost_s
from perennial.ops.watching.proof_needed import proof_needed
from perennial.ops.watching.watcher import counting_rule, drift_settings
from perennial.ops.watching.windows import window_of

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


class PastLedger(Cycles, Examples, Labels, State, Vocabulary, Protocol):
    """What the past is read from."""


class PastReader:
    """Reads one model's past."""

    def __init__(self, ledger: PastLedger, workspace: Workspace, model: str, traffic: TrafficLog) -> None:
        self._ledger, self._workspace, self._model, self._traffic = ledger, workspace, model, traffic
        self._settings = workspace.model(model)
        self._task, self._side = task_named(self._settings.task), serving_side(self._settings.task)

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
        window, inputs, anew = self._answered_by(kept, table)
        rows = self._with_labels(window, inputs, fresh, self._counted(window, table))
        reference, start = self._reference(kept, window, rows.counted)
        known = set(self._ledger.version(self._model, kept).labels)
        least = self._settings.learning.min_class_rows
        changes_found = changes_in(rows, known, least=least, near=drift.window_rows) if known else []
        knowledge = PastKnowledge(
            reference=reference,
            start=start,
            sample_scores=self._sample_scores(reference.sample),
            changes=sorted(changes) or changes_found,
            learnt_at=self._came(Split.TRAIN),
            proved_at=self._came(Split.HOLDOUT),
            proof_needed=proof_needed(
                self._ledger, self._workspace, self._model, self._ledger.version(self._model, kept)
            ),
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

    def _answered_by(self, version: int, table: pa.Table) -> tuple[Window, list[Any], int]:
        """The rows as the version answers them, what was asked in each, and how many it answers anew.

        A row that another version answered is left out where nothing is left of it that could be asked again.
        """
        inputs = [self._side.logged_input(row) for row in table.select(list(self._side.input_columns)).to_pylist()]
        own = table["version"].to_numpy() == version
        kept = [place for place, task_input in enumerate(inputs) if own[place] or task_input is not None]
        table, inputs, own = table.take(kept), [inputs[place] for place in kept], own[kept]
        others: list[int] = np.flatnonzero(~own).tolist()
        if not others:
            return window_of(table, self._task.name), inputs, 0
        asked_again = [inputs[place] for place in others]
        answers = self._answers(version, asked_again)
        columns = {**self._side.columns(asked_again, answers), "version": [version] * len(others)}
        for name in (*self._task.log_columns, "version"):
            table = _replaced(table, name, others, columns[name])
        window = window_of(table, self._task.name)
        embeddings = _embedded(window.embeddings, others, [answer.embedding for answer in answers])
        return replace(window, embeddings=embeddings), inputs, len(others)

    def _answers(self, version: int, inputs: Sequence[Any], *, proved: bool = False) -> Sequence[Answer]:
        """What a version says, by what was remembered of those who ask; `proved`: before it learnt held-out rows."""
        memory = self._side.memory(self._workspace.memory(self._model))
        return self._version(version, proved=proved).answers(memory.recalled(inputs))

    def _version(self, version: int, *, proved: bool) -> BundledVersion:
        bundle = self._workspace.bundle(self._model, version)
        if not bundle.is_dir():
            raise DataError(
                f"version {version} of {self._model} answered first and its bundle {bundle} is gone, so its later "
                "answers cannot be told; give a later --since, or raise cycle.disk_versions"
            )
        return BundledVersion.load(bundle, cache_dir=self._workspace.engines(self._model), proved=proved)

    def _counted(self, window: Window, table: pa.Table) -> NDArray[np.bool_]:
        """Which rows the watch would count."""
        callers = dict(zip(table["prediction_id"].to_pylist(), table["key"].to_pylist(), strict=True))
        ids = [] if window.ids is None else window.ids.tolist()
        rule = counting_rule(self._workspace, self._model)
        return Counting(rule).counted(
            [callers[name] for name in ids], window.texts.tolist(), window.whole_answers.tolist()
        )

    def _with_labels(
        self, window: Window, inputs: Sequence[Any], fresh: int | None, counted: NDArray[np.bool_]
    ) -> PastRows:
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
                for answer, label in zip(window.whole_answers, labels, strict=True)
            ],
            fresh_scores=[None] * len(ids) if fresh is None else self._fresh_scores(fresh, inputs, labels),
            counted=counted,
        )

    def _fresh_scores(self, fresh: int, inputs: Sequence[Any], labels: Sequence[str | None]) -> list[float | None]:
        """The present champion's scores on held-out rows with labels."""
        share = self._settings.learning.holdout_share
        chosen = {
            place: label
            for place, (task_input, label) in enumerate(zip(inputs, labels, strict=True))
            if label is not None
            and task_input is not None
            and split_by(self._task.identity(task_input), holdout_share=share) is Split.HOLDOUT
        }
        answers = self._answers(fresh, [inputs[place] for place in chosen], proved=True)
        scores: list[float | None] = [None] * len(labels)
        for (place, label), answer in zip(chosen.items(), answers, strict=True):
            scores[place] = self._score(answer.kept, label)
        return scores

    def _reference(self, version: int, window: Window, counted: NDArray[np.bool_]) -> tuple[ReferenceProfile, int]:
        """The version's own reference with the place of the first row behind it, or one of the first rows."""
        folder = self._workspace.reference(self._model, version)
        if folder.is_dir():
            reference = ReferenceProfile.load(folder)
            last = None if reference.sample.times is None else reference.sample.times.max()
            start = 0 if last is None or window.times is None else int(np.searchsorted(window.times, last, "right"))
            return reference, start
        rows = self._settings.drift.reference_rows
        rng = np.random.default_rng([self._workspace.settings.seed, version])
        places = np.flatnonzero(counted)[:rows]
        if len(places) < rows:
            raise DataError(
                f"only {len(places)} of {len(window)} answers count, the others repeat one another; a reference needs "
                f"{rows}: give an earlier --since, or wait"
            )
        return ReferenceProfile.build(window.rows(places), version=version, rng=rng), int(places[-1]) + 1

    # ---- what is known besides ----

    def _sample_scores(self, sample: Window) -> dict[int, float]:
        """The scores of the reference's sample by place, where its labels are known."""
        ids = [] if sample.ids is None else sample.ids.tolist()
        labels = self._ledger.feedback_labels(self._model, ids)
        return {i: self._score(sample.whole_answers[i], labels[n]) for i, n in enumerate(ids) if n in labels}

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

    def _came(self, split: Split) -> list[datetime]:
        """When the rows of a split came, in order."""
        return sorted(stored.example.at for stored in self._ledger.examples(self._model, split=split))

    def _training_s(self) -> float:
        """How long the promoted cycles took until their version could be loaded; 0 before the first one."""
        return cycle_cost_s(self._ledger, self._model) or 0.0


def _replaced(table: pa.Table, name: str, places: Sequence[int], values: Sequence[Any]) -> pa.Table:
    """The table with other values in some rows of a column."""
    column, field = table[name].to_pylist(), table.field(name)
    for place, value in zip(places, values, strict=True):
        column[place] = value
    return table.set_column(table.column_names.index(name), field, pa.array(column, type=field.type))


def _embedded(logged: Any, places: Sequence[int], embeddings: Sequence[Any]) -> Any:
    """The logged embeddings with others in some rows; None where one is missing or has another dimension."""
    if logged is None or any(row is None or len(row) != logged.shape[1] for row in embeddings):
        return None
    together = logged.copy()
    together[places] = np.stack(embeddings)
    return together
