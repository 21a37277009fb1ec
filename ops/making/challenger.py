"""A challenger: a version that is judged against the champion before anybody serves it."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import BundleRejected, ExportFailed
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import Progress
from perennial.continual.jobs.waiting import WaitingJobs
from perennial.continual.jobs.warm import WarmJobs
from perennial.continual.learning.names import LearnerName
from perennial.continual.records import PromotionDecision
from perennial.continual.tasks import learns_labels, reads_words
from perennial.ops.ledger import Ledger, VersionRow
from perennial.ops.making.demands import Demands
from perennial.ops.making.judging import JudgingSpec
from perennial.ops.making.logged_choices import UnknownTime, read_logged
from perennial.ops.making.next_update import EXPORT_SPEC, TRAINING_SPEC, NextUpdate
from perennial.ops.making.proving import Anticipated
from perennial.ops.making.rows import TrainingRows
from perennial.ops.making.version_maker import PROVING, TRAINING, VersionMaker
from perennial.ops.making.written_rows import nameless
from perennial.ops.serving.tasks import serving_side
from perennial.ops.store.workspace import Workspace

__all__ = ["JOB_MODULES", "ChallengerMaker"]

JOB_MODULES = (  # what a closed form's training, its export and the judgement load, and no torch
    "perennial.continual.learning.ahead_job",
    "perennial.continual.learning.fast",
    "perennial.continual.learning.job",
    "perennial.exporters.job",
    "perennial.exporters.text_classification.export",
    "perennial.exporters.text_classification.golden_rows",
    "perennial.ops.making.judging",
    "perennial.ops.making.proving",
    "perennial.ops.making.proving_ahead",
    "perennial.ops.serving.tasks.text_classification",
    "scipy.linalg",
    "safetensors.numpy",
    "threadpoolctl",
    "tokenizers",
    "onnxruntime",
    "perennial.exporters.openvino_ahead",
)
_SPEC, _DECISION = "judge.json", "decision.json"
_AHEAD = {TRAINING: "perennial.continual.learning.ahead_job", PROVING: "perennial.ops.making.proving_ahead"}
_WORKED_AHEAD = frozenset({LearnerName.AUTO, LearnerName.RIDGE})


class ChallengerMaker(VersionMaker):
    """Makes one model's challengers, and has them judged. Every step may be repeated."""

    def __init__(self, ledger: Ledger, workspace: Workspace, model: str, *, warm: WarmJobs | None = None) -> None:
        super().__init__(ledger, workspace, model, warm=warm)
        self._next_update = NextUpdate(ledger, workspace, model, self.rows)
        learning = self._settings.learning
        if warm is not None and learning.work_ahead and learning.learner in _WORKED_AHEAD:
            self._waiting = {
                job: WaitingJobs(
                    warm,
                    module,
                    log=workspace.runs(model) / f"{module.rpartition('.')[2]}.log",
                    niceness=self._niceness,
                )
                for job, module in _AHEAD.items()
                if job != TRAINING or workspace.settings.ray.cluster is None  # else it is told to a worker
            }

    def work_ahead(self, champion: int | None) -> None:
        """Have processes work out what the champion's next update needs; with None, none keeps anything of it.

        Harmless where that is so already.
        """
        if not self._waiting:
            self._next_update.forget()  # what was written while working ahead was on
            return
        folder = None if champion is None else self._next_update.folder(champion)
        if folder is None or champion is None:
            for waiting in self._waiting.values():
                waiting.drop()
            return
        bundle = self._workspace.bundle(self._model, champion)
        rows = [path for path in (folder / "holdout.jsonl", folder / "replay.jsonl") if path.is_file()]
        written = [str(path.stat().st_mtime_ns) for path in rows]  # an erasure writes them anew
        champions = str(bundle.absolute())
        if TRAINING in self._waiting:
            self._waiting[TRAINING].keep([str((folder / TRAINING_SPEC).absolute()), champions, *written])
        proofs = [str(path.stat().st_mtime_ns) for path in [folder / "heldout.json"] if path.is_file()]
        self._waiting[PROVING].keep(
            [champions, str((folder / EXPORT_SPEC).absolute()), str(self.engine_threads), *proofs]
        )

    def export_judged(
        self, version: int, champion: VersionRow, rows: TrainingRows, cycle_id: int, on_progress: Progress
    ) -> Path:
        """Export a challenger as `export` does, and where its rows are labelled texts begin its judgement with it.

        Raises:
            PerennialError: see `export`.
        """
        judgement = None
        if learns_labels(self._task.name):
            spec, judgement = self._judging(version, champion, rows), self.folder(version) / _SPEC
            write_atomically(judgement, json.dumps(spec.record()))
        staged = self.export(version, champion, rows, cycle_id, on_progress, judgement=judgement)
        self.verify_staged(version)
        return staged

    def judge(self, version: int, champion: VersionRow) -> PromotionDecision:
        """Champion against challenger on held-out rows, in a process of its own; the export's where that has done it.

        Raises:
            BundleRejected: a bundle is altered, or the challenger does not repeat its golden answers.
            ExportFailed: the process ended without a decision; something killed it, or the engine crashed in it.
        """
        folder = self.folder(version)
        spec = self._judging(version, champion, self.rows.taught_rows(version, champion))
        anticipated = Anticipated.read(folder)
        if anticipated is not None and anticipated.answers(spec):
            write_atomically(folder / _DECISION, json.dumps(asdict(anticipated.decision)))
            return anticipated.decision
        return self._judged(spec)

    def _judged(self, spec: JudgingSpec) -> PromotionDecision:
        """What a process of its own decides."""
        version = spec.challenger
        folder = self.folder(version)
        path = folder / _DECISION
        write_atomically(folder / _SPEC, json.dumps(spec.record()))
        path.unlink(missing_ok=True)
        timeout_s = self._settings.learning.timeout_s
        result = self._run("perennial.ops.making.judging", folder, "judge", timeout_s, lambda _: None)
        if spec.logged:  # requests of callers, most of which are in no labelled row: nobody needs the copy any more
            write_atomically(folder / _SPEC, json.dumps(replace(spec, logged=[]).record()))
        if result.exit_code != 0 or not path.is_file():
            raise JobErrors(
                what=f"judgement of {self._model} version {version}",
                failed=ExportFailed,
                refused=BundleRejected,
                log=folder / "judge.log",
            ).of(result)
        return PromotionDecision.from_json(json.loads(path.read_text(encoding="utf-8")))

    def judge_smaller(self, version: int, source: VersionRow, *, most_lost_points: float) -> PromotionDecision:
        """The ordinary judgement of a version beside the one that it was made smaller from, which it need not better.

        Raises:
            As `judge`.
        """
        spec = self._judging(version, source, self.rows.taught_rows(version, source))
        rules = {
            "min_gain_points": -most_lost_points,
            "max_forgetting_points": most_lost_points,
            "min_fresh_rows": 0,
        }
        return self._judged(replace(spec, rules={**spec.rules, **rules}))

    def _judging(self, version: int, champion: VersionRow, taught: TrainingRows) -> JudgingSpec:
        """What the gate asks of the challenger now."""
        holdout = self.rows.holdout_rows(champion, [stored.id for stored in taught.fresh])
        task = self._task
        demands = Demands.on(self._ledger, self._workspace, self._model, version, champion)
        limits = [asdict(limit) for limit in self._settings.fairness.as_limits()] if learns_labels(task.name) else []
        rows = (*holdout.fresh, *holdout.old)
        attributes = [dict(task.keep(row).attributes) for row in rows] if limits else []
        return JudgingSpec(
            champion=champion.version,
            challenger=version,
            champion_bundle=str(self._workspace.bundle(self._model, champion.version)),
            challenger_bundle=str(self.bundle(version)),
            fresh=nameless(task, holdout.fresh),
            old=nameless(task, holdout.old),
            rules=demands.rules,
            old_among_all=demands.old_among_all,
            seed=self._workspace.settings.seed,
            threads=self.engine_threads,
            cache=str(self._workspace.engines(self._model)),
            embeddings=str(self._workspace.embeddings),
            task=task.name,
            taught=self._taught_files(version),
            memory=str(self._workspace.memory(self._model)),
            logged=self._logged(champion.version, taught),
            attributes=attributes,
            limits=limits,
            probes=self._probes(),
        )

    def _probes(self) -> dict[str, Any]:
        """The limits of the settings on how changed texts change answers."""
        fairness, lost = self._settings.fairness, self._settings.robustness.most_lost_points
        by_names, by_wording = fairness.most_changed_by_names, fairness.most_changed_by_wording
        if not reads_words(self._task.name) or (not lost and by_names is None and by_wording is None):
            return {}
        return {"lost_points": dict(lost), "by_names": by_names, "by_wording": by_wording}

    def _logged(self, champion: int, taught: TrainingRows) -> list[dict[str, Any]]:
        """The champion's newest live answers, where a task's log tells of other choices too.

        They are later than all that the challenger was taught: of what it has learnt it would only repeat the outcome.
        """
        side = serving_side(self._task.name)
        outcomes = side.outcomes(self._workspace.bundle(self._model, champion))
        if outcomes is None:
            return []
        last = max((stored.example.at for stored in taught.fresh), default=None)
        within = UnknownTime.of(self._workspace, self._model, last)
        return read_logged(self._ledger, self._workspace, self._model, outcomes, side, version=champion, within=within)

    def _taught_files(self, version: int) -> tuple[str, ...]:
        """The rows of the challenger's training, fresh first, where words tell of labels and they are still there."""
        if not reads_words(self._task.name):
            return ()
        files = (self.folder(version) / name for name in ("examples.jsonl", "replay.jsonl"))
        return tuple(str(path) for path in files if path.is_file())
