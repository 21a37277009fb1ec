"""A version like the champion, without some rows: the same engine, its sums corrected exactly."""

import json
import threading
from collections.abc import Callable
from typing import Any

from perennial.continual.errors import TrainingFailed
from perennial.continual.jobs.process import run_job
from perennial.continual.learning.rows import write_rows
from perennial.continual.records import Example, Route
from perennial.continual.route import pinned, promoted
from perennial.exporters.bundle import verify_bundle
from perennial.ops.commands.promotion import promote_version
from perennial.ops.ledger import VersionRow, VersionState
from perennial.ops.making.challenger import ChallengerMaker, TrainingRows
from perennial.ops.making.starting_point import keep_encoder
from perennial.ops.parts import Parts
from perennial.ops.store.replay_buffer import open_buffer
from perennial.ops.store.route_changes import change_route
from perennial.ops.store.workspace import write_atomically

__all__ = ["Correction"]

Progress = Callable[[dict[str, Any]], None]


class Correction:
    """Makes the corrected version of one model; repeated after a kill it goes on with the same number."""

    def __init__(self, parts: Parts, model: str, rows: tuple[Example, ...], on_progress: Progress) -> None:
        self._parts, self._model, self._rows, self._tell = parts, model, rows, on_progress
        self._maker = ChallengerMaker(parts.ledger, parts.workspace, model)

    def run(self, route: Route) -> tuple[int, int]:
        """Make it, publish it and let it answer; returns its number and how many rows left the sums."""
        ledger, workspace = self._parts.ledger, self._parts.workspace
        champion = ledger.version(self._model, route.champion)
        version = self._number(champion)
        card = self._train(version, champion)
        nothing = TrainingRows(fresh=(), replay=tuple(open_buffer(ledger, workspace, self._model).rows()), learnt=())
        staged = self._maker.export(version, champion, nothing, None, self._tell)
        manifest = verify_bundle(staged)
        if not workspace.bundle(self._model, version).is_dir():
            self._parts.repository.publish(staged, workspace.engine_model(self._model), version)
        still = ledger.examples(self._model)
        unlearnt = {row.id for row in ledger.examples(self._model, not_learnt_by=champion.version)}
        ledger.mark_learnt(self._model, [row.id for row in still if row.id not in unlearnt], version)
        ledger.set_version_state(
            self._model,
            version,
            VersionState.PUBLISHED,
            labels=tuple(card["labels"]),
            encoder_fingerprint=card["encoder_fingerprint"],
            metrics={"parity": dict(manifest.parity), "engine": f"{manifest.engine.value} {manifest.precision.value}"},
        )
        self._answer(version, champion)
        return version, int(card["data"]["rows_removed"])

    def _number(self, champion: VersionRow) -> int:
        """The number that an unfinished correction had, or a new one."""
        reason = f"erasure from version {champion.version}"
        for row in self._parts.ledger.versions(self._model):
            if row.lineage.get("reason") == reason and row.state in {VersionState.TRAINING, VersionState.PUBLISHED}:
                return row.version
        version = self._parts.ledger.next_version(self._model)
        lineage = {**champion.lineage, "reason": reason}
        row = VersionRow(
            model=self._model, version=version, parent=champion.version, learner="kernel_lda", lineage=lineage
        )
        self._parts.ledger.add_version(row)
        return version

    def _train(self, version: int, champion: VersionRow) -> dict[str, Any]:
        workspace, learning = self._parts.workspace, self._parts.workspace.model(self._model).learning
        folder, bundle = workspace.run(self._model, version), workspace.bundle(self._model, champion.version)
        card = json.loads((bundle / "model.json").read_text(encoding="utf-8"))
        encoder = str(bundle / "encoder") if card["encoder"] == "encoder" else card["encoder"]
        holdout = self._maker.holdout_rows(champion)
        write_rows(folder / "erase.jsonl", self._rows)
        write_rows(folder / "holdout.jsonl", [*holdout.old, *holdout.fresh])
        spec = {
            "learner": "kernel_lda",
            "encoder": encoder,
            "previous": str(bundle),
            "examples": None,
            "erase": str(folder / "erase.jsonl"),
            "holdout": str(folder / "holdout.jsonl"),
            "out": str(folder / "trained"),
            "seed": workspace.settings.seed,
            "threads": learning.threads,
            "nice": 0,
            "max_length": card["max_length"],
            "cache": str(workspace.state / "embeddings"),
            "parent_version": champion.version,
            "params": _without_descriptions(learning.params) if learning.learner == "kernel_lda" else {},
        }
        write_atomically(folder / "erase.json", json.dumps(spec, indent=1))
        result = run_job(
            "perennial.continual.learning.job",
            [str(folder / "erase.json")],
            log=folder / "erase.log",
            timeout_s=learning.timeout_s,
            niceness=learning.niceness,
            cancel=threading.Event(),
            on_progress=self._tell,
        )
        (folder / "erase.jsonl").unlink()
        trained = folder / "trained" / "model.json"
        if result.exit_code != 0 or not trained.is_file():
            last = result.tail.splitlines()[-1] if result.tail else "nothing on stderr"
            raise TrainingFailed(
                f"the head of {self._model} version {champion.version} could not be corrected: {last} (log: "
                f"{folder / 'erase.log'}); the rows themselves are erased; run the command again"
            )
        keep_encoder(trained.parent, encoder)
        told: dict[str, Any] = json.loads(trained.read_text(encoding="utf-8"))
        return told

    def _answer(self, version: int, champion: VersionRow) -> None:
        """Put the corrected version in the champion's place; without a running Triton the next start loads it."""
        parts, model, reason = self._parts, self._model, "a person's rows were erased"
        if all(control.live() for control in parts.controls):
            promote_version(parts, model, version, actor="erasure", reason=reason)
        else:
            resident = parts.workspace.model(model).cycle.resident_versions
            for change in (pinned(version), promoted(version, resident=resident)):
                change_route(parts.ledger, parts.workspace, model, change, actor="erasure", reason=reason)
        parts.ledger.set_version_state(model, champion.version, VersionState.RETIRED)


def _without_descriptions(params: dict[str, Any]) -> dict[str, Any]:
    """A correction keeps the described classes that the champion has: it may bring no new one past the gate."""
    return {name: value for name, value in params.items() if name != "descriptions"}
