"""What each command of a cycle does to the world."""

import logging
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from continual import cycle as cy
from continual.errors import PublishFailed
from exporters.bundle import verify_bundle
from ops.ledger import Ledger, VersionRow, VersionState
from ops.loop.challenger import ChallengerMaker
from ops.loop.comparison import ArmComparison
from ops.loop.events import Happenings
from ops.loop.reconciler import Reconciler
from ops.loop.runner import StepContext
from ops.operations import change_route, promoted, rolled_back, with_challenger, without_challenger
from ops.triton.repository import ModelRepository
from ops.workspace import Workspace

__all__ = ["LoopSteps"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSteps:
    """The commands of one model's cycles, carried out for real."""

    model: str
    ledger: Ledger
    workspace: Workspace
    repository: ModelRepository
    reconciler: Reconciler
    maker: ChallengerMaker
    comparison: ArmComparison
    happenings: Happenings

    def cancel(self) -> None:
        """End a training or export that is at work."""
        self.maker.cancel.set()

    def execute(self, command: cy.Command, context: StepContext) -> cy.Event | None:
        """Carry one command out. None: not done yet."""
        self.maker.cancel.clear()
        match command:
            case cy.TrainChallenger(challenger=version):
                return self._train(version, context)
            case cy.ExportChallenger(challenger=version):
                return self._export(version, context)
            case cy.JudgeChallenger(challenger=version):
                return self._judge(version, context)
            case cy.PublishChallenger(challenger=version):
                return self._publish(version)
            case cy.Promote(challenger=version):
                return self._promote(version, context)
            case cy.RollBack(to=version, reasons=reasons):
                self._roll_back(version, "; ".join(reasons), context)
                return None
            case cy.AbortChallenger(challenger=version):
                self._abort(version, context)
                return None
            case _:
                return self._wait(command, context)

    def _wait(self, command: cy.Command, context: StepContext) -> cy.Event | None:
        waited_s = max(0.0, (datetime.now(UTC) - context.entered_at).total_seconds())
        settings = self.workspace.model(self.model).cycle
        match command:
            case cy.StartShadow(challenger=version):
                return self.comparison.shadow(champion=context.cycle.champion, challenger=version)
            case cy.RequestApproval():
                return cy.ApprovalExpired() if waited_s > settings.approval_deadline_s else None
            case cy.SetShare(challenger=version, share=share):
                self._change(
                    with_challenger(version, share, resident=settings.resident_versions), f"canary share {share:.0%}"
                )
                return self.comparison.canary(
                    cycle=context.cycle_id,
                    champion=context.cycle.champion,
                    challenger=version,
                    entered=context.entered_at,
                    over=waited_s >= settings.canary_step_s,
                )
            case cy.StartProbation(champion=version, previous=previous):
                return self.comparison.probation(
                    cycle=context.cycle_id,
                    champion=version,
                    previous=previous,
                    since=context.entered_at,
                    over=waited_s >= settings.probation_s,
                )
            case _:
                raise PublishFailed(f"command {command} has no work behind it")

    def _champion(self, context: StepContext) -> VersionRow:
        return self.ledger.version(self.model, context.cycle.champion)

    def _train(self, version: int, context: StepContext) -> cy.Event:
        champion = self._champion(context)
        rows = self.maker.training_rows(champion)
        folder = self.maker.train(version, champion, rows, self._progress("train", version))
        facts = _model_facts(folder)
        lineage = {
            **self.ledger.version(self.model, version).lineage,
            "rows": len(rows.fresh),
            "replay_rows": len(rows.replay),
            "last_example_id": self.ledger.last_example_id(self.model),
        }
        self.ledger.mark_learnt(self.model, rows.learnt, version)
        self.ledger.set_version_state(self.model, version, VersionState.TRAINING, lineage=lineage, **facts)
        return cy.ChallengerTrained()

    def _export(self, version: int, context: StepContext) -> cy.Event:
        champion = self._champion(context)
        rows = self.maker.training_rows(champion)
        staged = self.maker.export(version, champion, rows, context.cycle_id, self._progress("export", version))
        manifest = verify_bundle(staged)
        self.ledger.set_version_state(
            self.model,
            version,
            VersionState.EXPORTED,
            metrics={
                **self.ledger.version(self.model, version).metrics,
                "parity": dict(manifest.parity),
                "engine": f"{manifest.engine.value} {manifest.precision.value}",
            },
        )
        return cy.ChallengerExported()

    def _judge(self, version: int, context: StepContext) -> cy.Event:
        decision = self.maker.judge(version, self._champion(context))
        row = self.ledger.version(self.model, version)
        metrics = {
            **row.metrics,
            "gate": {"accepted": decision.accepted, "reasons": list(decision.reasons), **decision.figures},
        }
        self.ledger.set_version_state(self.model, version, row.state, metrics=metrics)
        self.happenings.tell(
            self.model,
            "gate.decided",
            version=version,
            accepted=decision.accepted,
            reasons=list(decision.reasons),
            **decision.figures,
        )
        return cy.GateAccepted() if decision.accepted else cy.GateRefused(reasons=decision.reasons)

    def _publish(self, version: int) -> cy.Event:
        target = self.workspace.bundle(self.model, version)
        if not target.is_dir():
            engine = self.workspace.engine_model(self.model)
            staged = self.workspace.repository / ".staging" / f"{engine}-{version}"
            verify_bundle(staged)
            self.repository.publish(staged, engine, version)
        verify_bundle(target)
        self.ledger.set_version_state(self.model, version, VersionState.PUBLISHED)
        settings = self.workspace.model(self.model).cycle
        self._change(with_challenger(version, 0.0, resident=settings.resident_versions), "challenger loaded")
        self.ledger.set_version_state(self.model, version, VersionState.RESIDENT)
        return cy.ChallengerLoaded()

    def _promote(self, version: int, context: StepContext) -> cy.Event:
        champion = self._champion(context)
        rows = self.maker.training_rows(champion)
        settings = self.workspace.model(self.model).cycle
        self.reconciler.reconcile(self.model)  # all servers or none: each must hold the challenger now
        self._change(promoted(version, resident=settings.resident_versions), f"cycle {context.cycle_id}")
        held = self.maker.remember(rows)
        self.ledger.set_version_state(self.model, version, VersionState.CHAMPION)
        self.ledger.set_version_state(self.model, champion.version, VersionState.RESIDENT)
        self.happenings.tell(self.model, "route.promoted", version=version, previous=champion.version, replay_rows=held)
        return cy.Promoted()

    def _roll_back(self, to: int, reason: str, context: StepContext) -> None:
        if self.ledger.route(self.model) is not None:
            self._change(rolled_back(to=to), f"rolled back: {reason}")
        self.ledger.set_version_state(self.model, to, VersionState.CHAMPION)
        if context.cycle.challenger is not None:
            self.ledger.set_version_state(self.model, context.cycle.challenger, VersionState.RETIRED)
        self.happenings.tell(self.model, "route.rolled_back", version=to, reason=reason)

    def _abort(self, version: int, context: StepContext) -> None:
        self._change(without_challenger(version), f"version {version}: {context.cycle.note}")
        state = VersionState.REFUSED if context.cycle.state is cy.CycleState.REFUSED else VersionState.FAILED
        self.ledger.set_version_state(self.model, version, state)
        engine = self.workspace.engine_model(self.model)
        for leftover in (
            self.workspace.repository / ".staging" / f"{engine}-{version}",
            self.workspace.run(self.model, version) / "trained",
        ):
            shutil.rmtree(leftover, ignore_errors=True)

    def _change(self, change: Any, reason: str) -> None:
        change_route(self.ledger, self.workspace, self.model, change, actor="loop", reason=reason)
        self.reconciler.reconcile(self.model)

    def _progress(self, what: str, version: int) -> Any:
        def tell(told: dict[str, Any]) -> None:
            self.happenings.tell(self.model, f"{what}.progress", version=version, **told)

        return tell


def _model_facts(folder: Any) -> dict[str, Any]:
    import json

    told = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return {
        "labels": tuple(told["labels"]),
        "encoder_fingerprint": told.get("encoder_fingerprint"),
        "metrics": {"training": told.get("metrics", {})},
    }
