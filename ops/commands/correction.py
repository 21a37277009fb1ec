"""A version like the champion, without some rows: the same engine, its sums corrected exactly."""

from perennial.continual.jobs.process import Progress
from perennial.continual.learning.card import ModelCard, read_card
from perennial.continual.learning.learners import learner_named
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.trained import OTHERS_FILE
from perennial.continual.records import Route
from perennial.continual.route import corrected, pinned
from perennial.continual.task import AnyRow
from perennial.continual.tasks import task_named
from perennial.ops.commands.promotion import promote_version
from perennial.ops.ledger import VersionRow, VersionState, version_card
from perennial.ops.making.rows import TrainingRows
from perennial.ops.making.version_maker import VersionMaker, engine_metrics
from perennial.ops.parts import Parts
from perennial.ops.store.route_changes import change_route

__all__ = ["Correction"]


class Correction:
    """Makes the corrected version of one model; repeated after a kill it goes on with the same number."""

    def __init__(self, parts: Parts, model: str, rows: tuple[AnyRow, ...], on_progress: Progress) -> None:
        self._parts, self._model, self._rows, self._on_progress = parts, model, rows, on_progress
        self._settings = parts.workspace.model(model)
        self._learner = learner_named(self._settings.learning.learner)
        self._maker = VersionMaker(parts.ledger, parts.workspace, model)

    def run(self, route: Route) -> tuple[int, int]:
        """Make it, publish it and let it answer; returns its number and how many rows left the sums."""
        ledger, maker = self._parts.ledger, self._maker
        champion = ledger.version(self._model, route.champion)
        version = self._number(champion)
        card = self._train(version, champion)
        nothing = TrainingRows(fresh=(), replay=maker.rows.replay_rows(), learnt=())
        maker.export(version, champion, nothing, None, self._on_progress)
        manifest = maker.publish(version)
        ledger.mark_learnt(self._model, (), version, base=champion.version)
        ledger.set_version_state(
            self._model,
            version,
            VersionState.PUBLISHED,
            card=version_card(labels=card.labels, encoder_fingerprint=card.encoder_fingerprint),
            metrics=engine_metrics(manifest),
        )
        self._answer(version, champion)
        return version, card.data["rows_removed"]

    def _number(self, champion: VersionRow) -> int:
        """The number that an unfinished correction of the same rows had, or a new one.

        What was made without other rows still has these in its sums.
        """
        ledger = self._parts.ledger
        rows = " ".join(sorted(f"{key:x}" for key in self._learner.keys(self._rows)))
        own = {"reason": f"erasure from version {champion.version}", "erased": ledger.key_digest(rows)}
        for row in ledger.versions(self._model):
            if own.items() <= row.lineage.items() and row.state in {VersionState.TRAINING, VersionState.PUBLISHED}:
                return row.version
        version = ledger.next_version(self._model)
        ledger.add_version(
            VersionRow(
                model=self._model,
                version=version,
                parent=champion.version,
                learner=self._learner.corrector,
                lineage={**champion.lineage, **own},
            )
        )
        return version

    def _train(self, version: int, champion: VersionRow) -> ModelCard:
        learning, folder = self._settings.learning, self._maker.folder(version)
        bundle = self._parts.workspace.bundle(self._model, champion.version)
        card, others = read_card(bundle), bundle / OTHERS_FILE
        erased = folder / "erase.jsonl"
        write_rows(erased, self._rows, task_named(self._settings.task))
        spec = self._maker.job(
            version,
            champion,
            self._maker.rows.holdout_rows(champion),
            learner=self._learner.corrector,
            encoder=card.encoder_source(bundle),
            previous=bundle,
            examples=None,
            erase=erased,
            others=others if others.is_file() else None,
            max_length=card.max_length or learning.max_length,  # a card of no texts has none
            params=self._learner.correction_params(learning.params),
        )
        try:
            trained = self._maker.learn(
                version,
                spec,
                self._on_progress,
                name="erase",
                what=f"correction of {self._model} version {champion.version}",
                next_step="the rows themselves are erased; run the command again",
            )
        finally:
            erased.unlink()
        return read_card(trained)

    def _answer(self, version: int, champion: VersionRow) -> None:
        """Put the corrected version in the champion's place; without a running Triton the next start loads it."""
        parts, model, of = self._parts, self._model, champion.version
        reason = f"a person's rows were erased: version {version} is version {of} without them"
        if all(control.live() for control in parts.controls):
            promote_version(parts, model, version, actor="erasure", reason=reason, corrects=of)
        else:
            resident = parts.workspace.model(model).cycle.resident_versions
            for change in (pinned(version), corrected(version, of=of, resident=resident)):
                change_route(parts.ledger, parts.workspace, model, change, actor="erasure", reason=reason)
        parts.ledger.set_version_state(model, champion.version, VersionState.RETIRED)
