"""What a version's next update begins with: the specs and rows by which processes work ahead of it."""

import json
import shutil
from pathlib import Path

from perennial.continual.atomic_file import write_atomically
from perennial.continual.learning.card import is_finished
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.trained import STATISTICS_FILE
from perennial.continual.task import AnyRow
from perennial.continual.tasks import task_named
from perennial.exporters.spec import ExportSpec
from perennial.ops.ledger import Ledger, VersionRow
from perennial.ops.making.rows import HoldoutRows, ModelRows
from perennial.ops.making.starting_point import StartingPoint, learner_params
from perennial.ops.making.written_rows import nameless
from perennial.ops.store.federation import Federation
from perennial.ops.store.kept_items import kept_items
from perennial.ops.store.workspace import Workspace

__all__ = ["EXPORT_SPEC", "TRAINING_SPEC", "NextUpdate"]

TRAINING_SPEC, EXPORT_SPEC = "train.json", "export.json"  # in the folder, beside the rows that they name
_WRITTEN = "next-of-"  # in a model's folder of work, with the version; an erasure removes that folder whole
_Rows = tuple[HoldoutRows, tuple[AnyRow, ...]]


class NextUpdate:
    """Knows the folder of these files: of a version's own making, or written anew where that has been cleared."""

    def __init__(self, ledger: Ledger, workspace: Workspace, model: str, rows: ModelRows) -> None:
        self._ledger, self._workspace, self._model, self._rows = ledger, workspace, model, rows
        self._task = task_named(workspace.model(model).task)

    def folder(self, version: int) -> Path | None:
        """Where they are; None where an update would not go on from this version, or its rows change just now."""
        own, bundle = self._workspace.run(self._model, version), self._workspace.bundle(self._model, version)
        written = self._workspace.runs(self._model) / f"{_WRITTEN}{version}"
        has_own, finished = (own / TRAINING_SPEC).is_file(), is_finished(bundle)
        self.forget(but=written if finished and not has_own else None)
        if not finished:
            return None
        if has_own:
            return own
        if (written / TRAINING_SPEC).is_file():
            return written
        champion = self._ledger.version(self._model, version)
        start = StartingPoint.of(self._ledger, self._workspace, self._model, champion)
        if start.afresh or not (bundle / STATISTICS_FILE).is_file():
            return None
        return written if self._write(champion, start, written) else None

    def forget(self, *, but: Path | None = None) -> None:
        """Remove what was written anew, but this folder."""
        for path in self._workspace.runs(self._model).glob(f"{_WRITTEN}*"):
            if path != but:
                shutil.rmtree(path, ignore_errors=True)

    def _write(self, champion: VersionRow, start: StartingPoint, folder: Path) -> bool:
        """By the rows and settings of now; False where rows changed meanwhile, and nothing of them stays.

        An erasure that begins after the second look finds what was written.
        """
        rows = self._known(champion)
        self._write_specs(champion, start, folder, rows)
        if self._known(champion) == rows:
            return True
        shutil.rmtree(folder, ignore_errors=True)
        return False

    def _known(self, champion: VersionRow) -> _Rows:
        """The rows that would prove an update, and those that it would rehearse."""
        return self._rows.holdout_rows(champion), self._rows.replay_rows()

    def _write_specs(self, champion: VersionRow, start: StartingPoint, folder: Path, rows: _Rows) -> None:
        """The training's spec last."""
        workspace, model, (holdout, replay) = self._workspace, self._model, rows
        settings, bundle = workspace.model(model), workspace.bundle(model, champion.version)
        proof, held_out, rehearsed = folder / "heldout.json", folder / "holdout.jsonl", folder / "replay.jsonl"
        write_rows(held_out, holdout.all, self._task)
        write_rows(rehearsed, replay, self._task)
        write_atomically(proof, json.dumps(nameless(self._task, holdout.all), ensure_ascii=False))
        export = ExportSpec(
            trained_dir=bundle,
            out_dir=folder / "bundle",
            held_out=proof,
            model=model,
            version=champion.version,
            previous_bundle=bundle,
            threads=settings.learning.threads,
            parity_rows=settings.engine.parity_rows,
            task=settings.task,
            embeddings=workspace.embeddings,
            memory=workspace.named_inputs(model),
        )
        export.write(folder / EXPORT_SPEC, result=folder / "export.result.json")
        training = JobSpec(
            learner=settings.learning.learner,
            examples=None,
            out=folder / "trained",
            encoder=start.encoder,
            previous=start.previous,
            replay=rehearsed,
            holdout=held_out,
            others=Federation(workspace, model).lend_others(folder),
            items=kept_items(workspace, model),
            images=workspace.named_inputs(model),
            cache=workspace.embeddings,
            seed=workspace.settings.seed,
            threads=settings.learning.threads,
            max_length=settings.learning.max_length,
            parent_version=champion.version,
            params=learner_params(self._ledger, workspace, model, champion),
        )
        training.write(folder / TRAINING_SPEC)
