"""The one way in which a version comes about: trained, exported, published. Each step may be repeated after a kill."""

import json
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DataError, ExportFailed, ParityFailed, Refused, TrainingFailed
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import KILLED_RETRIES, JobResult, Progress, run_job
from perennial.continual.jobs.waiting import WaitingJobs
from perennial.continual.jobs.warm import WarmJobs
from perennial.continual.learning.card import is_finished, noise_of
from perennial.continual.learning.learners import learner_named
from perennial.continual.learning.names import AUTO_ENCODER
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.tasks import task_named
from perennial.exporters.bundle import Lineage, Manifest, ReadFile, note_digests, verify_bundle
from perennial.exporters.spec import ExportSpec
from perennial.ops.ledger import Ledger, VersionRow
from perennial.ops.making.held_out_answers import keep_answers, note_held_out
from perennial.ops.making.logged_embeddings import reuse_logged_embeddings
from perennial.ops.making.lost_pictures import without_lost_pictures
from perennial.ops.making.rows import HoldoutRows, ModelRows, TrainingRows
from perennial.ops.making.starting_point import StartingPoint, keep_encoder, learner_params
from perennial.ops.making.written_rows import nameless
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.settings import LearningSettings
from perennial.ops.store.federation import Federation
from perennial.ops.store.kept_items import kept_items
from perennial.ops.store.privacy import terms_of
from perennial.ops.store.workspace import Workspace

__all__ = ["PROVING", "TRAINING", "EngineOrder", "VersionMaker", "engine_metrics"]

TRAINING, PROVING = "perennial.continual.learning.job", "perennial.ops.making.proving"  # modules of jobs
_FEW_PROCESSORS = 2
_FRESH_S = 300.0  # a bundle that was read within it is read again only where a file's length or times have changed


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOrder:
    """An engine that is to be made of a trained model, and the rows that prove it.

    `previous` is a bundle whose engine may take the new weights; `beside` is one that the new engine is timed beside.
    `judgement` is the spec of one that follows in the same process; see `perennial.ops.making.proving`.
    """

    trained: Path
    engine: str
    precision: str
    lineage: Lineage
    held_out: Sequence[Mapping[str, Any]]  # rows as their task writes them; without a target where nobody knows it
    calibration: Sequence[Mapping[str, Any]]
    previous: Path | None = None
    judgement: Path | None = None
    beside: Path | None = None


class VersionMaker:
    """Makes versions of one model, each step in a process of its own where it is work.

    A training or an export that is complete is not made again; one that was killed goes on where it can. The steps
    leave the ledger alone: their callers note what a version has become.
    """

    def __init__(
        self,
        ledger: Ledger,
        workspace: Workspace,
        model: str,
        *,
        niceness: int | None = None,
        warm: WarmJobs | None = None,
    ) -> None:
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self._settings = workspace.model(model)
        self._task = task_named(self._settings.task)
        self._repository = ModelRepository(workspace.repository)
        self._niceness = self._settings.learning.niceness if niceness is None else niceness
        self._warm = warm
        self._waiting: Mapping[str, WaitingJobs] = {}  # by the module of the job that they wait to be
        self.rows = ModelRows(ledger, workspace, model)
        self.cancel = threading.Event()
        self._verified: dict[int, Future[float]] = {}  # of the staged bundle that is read: since when

    @property
    def engine_threads(self) -> int:
        """Of an engine that is proved beside one that serves: of two processors the latter has one.

        For one thread an engine is compiled once, and for more twice.
        """
        few = len(os.sched_getaffinity(0)) <= _FEW_PROCESSORS
        return 1 if few else self._settings.learning.threads

    def folder(self, version: int) -> Path:
        """Where the version's specs, rows, logs and reports lie."""
        return self._workspace.run(self._model, version)

    def trained(self, version: int) -> Path:
        """The trained model's folder."""
        return self.folder(version) / "trained"

    def staged(self, version: int) -> Path:
        """Where an export puts the bundle before it is published."""
        return self._repository.staging / f"{self._workspace.engine_model(self._model)}-{version}"

    def bundle(self, version: int) -> Path:
        """Where the version's bundle lies now: in the repository once it is published."""
        published = self._workspace.bundle(self._model, version)
        return published if published.is_dir() else self.staged(version)

    def report(self, version: int) -> Path:
        """What the version's export did, or the error that ended it."""
        return self.folder(version) / "export.result.json"

    def train(
        self,
        version: int,
        champion: VersionRow | None,
        rows: TrainingRows,
        on_progress: Progress,
        *,
        encoder: str | None = None,
    ) -> Path:
        """Train on the rows and return the trained model's folder; with this encoder, if one was chosen before.

        Raises:
            DataError: there is nothing to learn from.
            TrainingFailed: the process ended without a model.
        """
        start = StartingPoint.of(self._ledger, self._workspace, self._model, champion)
        folder, trained = self.folder(version), self.trained(version)
        if is_finished(trained):
            keep_encoder(trained, start.encoder)  # the last try may have ended before it
            keep_answers(self._workspace, self._model, version, trained=trained)
            return trained
        if not rows.fresh and champion is None:
            raise DataError(
                f"model {self._model} has no labelled training rows; import some with `perennial feedback import`"
            )
        learning, holdout = self._learning(champion), self.rows.holdout_rows(champion, [s.id for s in rows.fresh])
        rows, holdout = without_lost_pictures(self._workspace, self._model, rows, holdout)
        encoder = encoder or start.encoder
        embeds = learner_named(learning.learner).embeds
        if learning.reuse_logged_embeddings and embeds and encoder != AUTO_ENCODER:  # else the job chooses one
            answered = [*rows.examples, *holdout.fresh]
            reuse_logged_embeddings(self._ledger, self._workspace, self._model, encoder, answered)
        write_rows(folder / "examples.jsonl", rows.examples, self._task)
        write_rows(folder / "replay.jsonl", rows.replay, self._task)
        spec = self.job(
            version,
            champion,
            holdout,
            learner=learning.learner,
            encoder=encoder,
            previous=None if rows.afresh else start.previous,
            examples=folder / "examples.jsonl",
            replay=folder / "replay.jsonl",
            others=Federation(self._workspace, self._model).lend_others(folder),
            max_length=learning.max_length,
            params=learner_params(self._ledger, self._workspace, self._model, champion),
        )
        self.rows.note_taught(version, rows)
        return self.learn(version, spec, on_progress)

    def job(self, version: int, champion: VersionRow | None, holdout: HoldoutRows, **own: Any) -> JobSpec:
        """The training job of a version with fields of its `own`; the rows that prove it are written."""
        folder = self.folder(version)
        write_rows(folder / "holdout.jsonl", holdout.all, self._task)
        note_held_out(folder, holdout.ids)
        return JobSpec(
            holdout=folder / "holdout.jsonl",
            out=self.trained(version),
            seed=self._workspace.settings.seed,
            threads=self._settings.learning.threads,
            nice=0,  # the process is niced as a whole
            cache=self._workspace.embeddings,
            items=kept_items(self._workspace, self._model),
            images=self._workspace.named_inputs(self._model),
            parent_version=None if champion is None else champion.version,
            privacy=terms_of(
                self._workspace, self._model, version, corrects=own["previous"] if _corrects(own) else None
            ),
            **own,
        )

    def learn(
        self,
        version: int,
        spec: JobSpec,
        on_progress: Progress,
        *,
        name: str = "train",
        what: str | None = None,
        next_step: str | None = None,
    ) -> Path:
        """Carry the job out and return the trained model's folder, its encoder inside where it is a tuned one.

        `name` is that of the spec's file and of the log; a failure tells `what` was tried, and the `next_step`.

        Raises:
            TrainingFailed: the process ended without a model.
            Refused: the budget of privacy is spent.
        """
        folder = self.folder(version)
        spec.write(folder / f"{name}.json")
        timeout_s = self._settings.learning.timeout_s
        result = self._run(TRAINING, folder, name, timeout_s, on_progress)
        if result.exit_code != 0 or not is_finished(spec.out):
            raise JobErrors(
                what=what or f"training of {self._model} version {version}",
                failed=TrainingFailed,
                refused=Refused,
                log=folder / f"{name}.log",
                next_step=next_step,
            ).of(result)
        keep_encoder(spec.out, spec.encoder)
        keep_answers(self._workspace, self._model, version, trained=spec.out)
        return spec.out

    def export(
        self,
        version: int,
        champion: VersionRow | None,
        rows: TrainingRows,
        cycle_id: int | None,
        on_progress: Progress,
        *,
        judgement: Path | None = None,
    ) -> Path:
        """Compile what was trained into the settings' engine, prove it, and return the bundle's folder.

        With `judgement`, the spec of one, what came of it is judged in the same process.

        Raises:
            ParityFailed: the engine does not answer like the model.
            BundleRejected, ConfigurationError, DataError, DependencyUnreachable: what the export says is wrong.
            ExportFailed: the process ended without a bundle.
        """
        taught = [stored.id for stored in rows.fresh]
        proof, task = self.rows.holdout_rows(champion, taught).all or rows.examples, self._task
        parent = None if champion is None else champion.version
        order = EngineOrder(
            trained=self.trained(version),
            engine=self._settings.engine.engine,
            precision=self._settings.engine.precision,
            previous=None if parent is None else self._workspace.bundle(self._model, parent),
            lineage=Lineage(
                parent_version=parent,
                cycle_id=None if cycle_id is None else str(cycle_id),
                learner=self._learning(champion).learner,
                rows=len(rows.fresh),
                replay_rows=len(rows.replay),
                privacy=noise_of(self.trained(version)),
            ),
            held_out=nameless(task, proof),
            calibration=nameless(task, (*rows.examples, *rows.replay) or proof),
            judgement=judgement,
        )
        errors = JobErrors(
            what=f"export of {self._model} version {version}",
            failed=ExportFailed,
            refused=ParityFailed,
            report=self.report(version),
            log=self.folder(version) / "export.log",
        )
        return self.compile(version, order, errors, on_progress)

    def compile(self, version: int, order: EngineOrder, errors: JobErrors, on_progress: Progress) -> Path:
        """Make and prove the engine and return the bundle's folder, which appears complete, by one rename.

        Raises:
            PerennialError: the process ended without a bundle; `errors` say which.
        """
        folder, bundle, staged = self.folder(version), self.bundle(version), self.staged(version)
        if (bundle / "manifest.json").is_file():
            return bundle
        for name, rows in (("heldout.json", order.held_out), ("calibration.json", order.calibration)):
            write_atomically(folder / name, json.dumps(list(rows), ensure_ascii=False))
        engine, report = self._settings.engine, self.report(version)
        report.unlink(missing_ok=True)  # a killed try must not speak for this one
        spec = ExportSpec(
            trained_dir=order.trained,
            out_dir=staged,
            engine=order.engine,
            precision=order.precision,
            held_out=folder / "heldout.json",
            calibration=folder / "calibration.json",
            previous_bundle=order.previous,
            beside=order.beside,
            model=self._model,
            version=version,
            lineage=order.lineage,
            threads=self._settings.learning.threads,
            engine_threads=self.engine_threads if order.judgement is not None else 0,
            parity_rows=engine.parity_rows,
            limits_by_precision=engine.limits,
            task=self._settings.task,
            embeddings=self._workspace.embeddings,
            memory=self._workspace.named_inputs(self._model),
        )
        spec.write(folder / "export.json", result=report)
        module, arguments = "perennial.exporters.job", list[str]()
        if order.judgement is not None:
            module, arguments = PROVING, [str(order.judgement)]
        result = self._run(module, folder, "export", engine.timeout_s, on_progress, *arguments)
        if (staged / "manifest.json").is_file():
            return staged  # whatever became of the process after that
        raise errors.of(result)

    def publish(self, version: int) -> Manifest:
        """Put the bundle in its place in the repository, verified before and after; Triton does not look at it yet.

        Files that were read within the last minutes are read again only where their lengths or times have changed. The
        engine that serves reads all of them once more when it is loaded.

        Raises:
            BundleRejected: a file is not what the manifest says.
            PublishFailed: the disk refuses.
        """
        target, begun = self._workspace.bundle(self._model, version), self._verified.pop(version, None)
        if target.is_dir():
            return verify_bundle(target)
        fresh = begun is not None and time.monotonic() - begun.result() < _FRESH_S
        verify_bundle(self.staged(version), reread=not fresh)
        self._repository.publish(self.staged(version), self._workspace.engine_model(self._model), version)
        return verify_bundle(target, reread=False)  # a rename leaves the files what they are

    def verify_staged(self, version: int) -> None:
        """Begin to verify a staged bundle, beside all that is to be done before it is published.

        What the export has read of it is read again only where a file's length or times have changed since.
        """
        pool = ThreadPoolExecutor(1, "verify")
        self._verified = {version: pool.submit(_verified, self.staged(version), self.report(version))}
        pool.shutdown(wait=False)

    def drop_staged(self, version: int) -> None:
        """Delete a staged bundle; the end of a reading of it is waited for."""
        if (begun := self._verified.pop(version, None)) is not None and not begun.cancel():
            wait([begun])
        shutil.rmtree(self.staged(version), ignore_errors=True)

    def discard(self, version: int) -> None:
        """Delete what the making of a version that nobody will publish left."""
        self.drop_staged(version)
        shutil.rmtree(self.folder(version), ignore_errors=True)

    def _learning(self, champion: VersionRow | None) -> LearningSettings:
        return self._settings.learning.of_first_version() if champion is None else self._settings.learning

    def _run(
        self,
        module: str,
        folder: Path,
        name: str,
        timeout_s: float,
        on_progress: Progress,
        *arguments: str,
    ) -> JobResult:
        return run_job(
            module,
            [str(folder / f"{name}.json"), *arguments],
            log=folder / f"{name}.log",
            timeout_s=timeout_s,
            niceness=self._niceness,
            cancel=self.cancel,
            on_progress=on_progress,
            killed_retries=KILLED_RETRIES,
            warm=self._warm,
            waiting=self._waiting.get(module),
            cluster=self._workspace.settings.ray.cluster if module == TRAINING else None,
        )


def _verified(bundle: Path, report: Path) -> float:
    """Since when the bundle is known to be whole, by the monotonic clock; `report` tells what its export has read."""
    began = time.monotonic()
    try:
        fresh = time.time() - report.stat().st_mtime < _FRESH_S  # a cycle may go on after days
        if fresh:
            told = json.loads(report.read_text(encoding="utf-8"))
            note_digests([ReadFile.from_record(each) for each in told["read"]])
        verify_bundle(bundle, reread=not fresh)
    except (OSError, ValueError, KeyError, TypeError):  # an earlier release told nothing
        verify_bundle(bundle)
    return began


def _corrects(own: Mapping[str, Any]) -> bool:
    """Whether a job takes rows back from a version and learns none."""
    return own.get("examples") is None and own.get("erase") is not None


def engine_metrics(manifest: Manifest) -> dict[str, Any]:
    """What the ledger keeps of a version's engine: the figures it was accepted with, and which it is."""
    return {
        "parity": dict(manifest.parity),
        "engine": f"{manifest.engine.value} {manifest.precision.value}",
    }
