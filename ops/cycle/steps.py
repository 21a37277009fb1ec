"""What each command of a cycle does to the world."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from perennial.continual import cycle as cy
from perennial.continual.errors import PerennialError, PublishFailed
from perennial.continual.jobs.memory import available_mb
from perennial.continual.learning.card import read_card
from perennial.continual.records import Route
from perennial.continual.route import (
    pinned,
    promoted,
    settled,
    turned_away,
    while_champion,
    with_challenger,
    without_challenger,
)
from perennial.exporters.bundle import read_manifest
from perennial.ops.comparing.comparison import ArmComparison
from perennial.ops.cycle.corrections import is_correction
from perennial.ops.cycle.runner import StepContext
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.making.challenger import ChallengerMaker
from perennial.ops.making.retention import remove_superfluous
from perennial.ops.making.version_maker import engine_metrics
from perennial.ops.serving.reconciler import Reconciler
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.route_changes import RouteChange, change_route
from perennial.ops.store.state import PROBATION, Probation
from perennial.ops.store.workspace import Workspace

__all__ = ["LoopSteps"]

logger = logging.getLogger(__name__)
_FREEING_S = 3.0


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
    feed: EventFeed

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
                return self._publish(version, context)
            case cy.Promote(challenger=version):
                return self._promote(version, context)
            case cy.RollBack(to=version, reasons=reasons):
                self._roll_back(version, "; ".join(reasons), context)
                return None
            case cy.AbortChallenger(challenger=version):
                self._abort(version, context)
                return None
            case cy.ReleaseOld():
                self._release_old()
                return None
            case _:
                return self._wait(command, context)

    def _wait(self, command: cy.Command, context: StepContext) -> cy.Event | None:
        waited_s = context.waited.waited_s
        settings = self.workspace.model(self.model).cycle
        match command:
            case cy.StartShadow(challenger=version):
                return self.comparison.shadow(champion=context.cycle.champion, challenger=version)
            case cy.RequestApproval():
                return cy.ApprovalExpired() if context.waited.outlasts(settings.approval_deadline_s) else None
            case cy.SetShare(challenger=version, share=share):
                change = with_challenger(version, share, resident=settings.resident_versions)
                if not self._change_for(context, change, f"canary share {share:.0%}", keep_waiting=False):
                    return None
                return self.comparison.canary(
                    cycle=context.cycle_id,
                    champion=context.cycle.champion,
                    challenger=version,
                    entered=context.entered_at,
                    over=waited_s >= settings.canary_step_s,
                )
            case cy.StartProbation(champion=version, previous=previous):
                if self.ledger.erasure_under_way(self.model) is not None:
                    return None  # it corrects the champion, which must not change meanwhile
                over, route = waited_s >= settings.probation_s, self.ledger.route(self.model)
                if route is not None and route.champion == version and previous not in route.resident:
                    gone = f"version {previous}, with which it was compared, is gone"  # erased or unloaded
                    return cy.ProbationPassed(note=f"version {version} is champion; {gone}")
                if over and route is not None and route.champion == previous:
                    # its command to this cycle is lost: whoever rolled back was killed before sending it
                    return cy.OperatorRolledBack(actor="operator")
                return self.comparison.probation(
                    cycle=context.cycle_id,
                    champion=version,
                    previous=previous,
                    since=context.entered_at,
                    settled=waited_s >= min(settings.probation_least_s, settings.probation_s),
                    over=over,
                )
            case _:
                raise PublishFailed(f"command {command} has no work behind it")

    def watch_beside(self) -> None:
        """Go on with the probation that an earlier cycle left to the next ones; harmless where there is none."""
        kept = PROBATION.read(self.ledger, self.model)
        if kept is None or self.ledger.erasure_under_way(self.model) is not None:
            return
        route = self.ledger.route(self.model)
        if route is not None and is_correction(self.ledger, self.model, route.champion, of=kept.champion):
            facts = {"cycle": kept.cycle, "version": route.champion, "instead_of": kept.champion}
            kept = replace(kept, champion=route.champion)
            with self.ledger.transaction():
                PROBATION.keep(self.ledger, self.model, kept)
                self.ledger.audit("loop", "probation.corrected", self.model, facts)
        if route is None or route.champion != kept.champion or kept.previous not in route.resident:
            self._end_beside(kept, "another champion took its place, or the one before it is gone")
            return
        event = self.comparison.probation(
            cycle=kept.cycle,
            champion=kept.champion,
            previous=kept.previous,
            since=datetime.fromisoformat(kept.since),
            settled=True,
            over=datetime.now(UTC) >= datetime.fromisoformat(kept.until),
            beside=True,
        )
        if isinstance(event, cy.ProbationFailed):
            reason = "; ".join(event.reasons)
            self._put_back(kept.previous, kept.champion, reason)
            facts = {"cycle": kept.cycle, "version": kept.champion, "to": kept.previous, "note": reason}
            with self.ledger.transaction():  # its cycle is closed: nothing else tells it
                self._end_beside(kept, "rolled back")
                self.ledger.audit("loop", "probation.rolled_back", self.model, facts)
        elif event is not None:
            self._end_beside(kept, "it held")

    def _end_beside(self, kept: Probation, why: str) -> None:
        PROBATION.keep(self.ledger, self.model, None)
        self.feed.record(self.model, "probation.ended", version=kept.champion, cycle=kept.cycle, why=why)

    def _champion(self, context: StepContext) -> VersionRow:
        return self.ledger.version(self.model, context.cycle.champion)

    def _train(self, version: int, context: StepContext) -> cy.Event:
        champion = self._champion(context)
        offered = self.maker.rows.training_rows(champion)
        folder = self.maker.train(version, champion, offered, self._progress("train", version))
        rows = self.maker.rows.taught_rows(version, champion)  # more may have been labelled since a killed try began
        card = read_card(folder)
        lineage = {**self.ledger.version(self.model, version).lineage, **rows.counted}
        self.ledger.mark_learnt(self.model, rows.learnt, version, base=rows.base)
        self.ledger.set_version_state(
            self.model,
            version,
            VersionState.TRAINING,
            lineage=lineage,
            card=version_card(labels=card.labels, encoder_fingerprint=card.encoder_fingerprint),
            metrics={"training": card.metrics},
        )
        return cy.ChallengerTrained()

    def _export(self, version: int, context: StepContext) -> cy.Event:
        champion = self._champion(context)
        rows = self.maker.rows.taught_rows(version, champion)
        staged = self.maker.export_judged(version, champion, rows, context.cycle_id, self._progress("export", version))
        manifest = read_manifest(staged)  # its files are verified when it is published
        self.ledger.set_version_state(
            self.model,
            version,
            VersionState.EXPORTED,
            metrics={**self.ledger.version(self.model, version).metrics, **engine_metrics(manifest)},
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
        self.feed.record(
            self.model,
            "gate.decided",
            version=version,
            accepted=decision.accepted,
            reasons=list(decision.reasons),
            **decision.figures,
        )
        return cy.GateAccepted() if decision.accepted else cy.GateRefused(reasons=decision.reasons)

    def _publish(self, version: int, context: StepContext) -> cy.Event | None:
        self._check_memory(version)
        self.maker.publish(version)
        if self.ledger.version(self.model, version).state is VersionState.EXPORTED:
            self.ledger.set_version_state(self.model, version, VersionState.PUBLISHED)
        settings = self.workspace.model(self.model).cycle
        change = with_challenger(version, 0.0, resident=settings.resident_versions)
        return cy.ChallengerLoaded() if self._change_for(context, change, "challenger loaded") else None

    def _check_memory(self, version: int) -> None:
        """What the judgement's process needed to load the engine, Triton will need again.

        Raises:
            PublishFailed: there is not so much memory; nothing was published.
        """
        gate = self.ledger.version(self.model, version).metrics.get("gate", {})
        needed, free = float(gate.get("challenger_load_mb", 0.0)), available_mb()
        if free is not None and needed > free:
            self.maker.cancel.wait(_FREEING_S)  # the process that exported or judged may be giving its pages back
            free = available_mb()
        if free is not None and needed > free:
            raise PublishFailed(
                f"version {version} of {self.model} took {needed:.0f} MB to load and {free:.0f} MB are free; stop "
                f"something, or lower cycle.resident_versions, then retrain"
            )

    def _promote(self, version: int, context: StepContext) -> cy.Event | None:
        champion = self._champion(context)
        rows = self.maker.rows.taught_rows(version, champion)
        settings = self.workspace.model(self.model).cycle
        self.reconciler.reconcile(self.model)  # all servers or none: each must hold the challenger now
        change = promoted(version, resident=settings.resident_versions)
        if not self._change_for(context, change, f"cycle {context.cycle_id}"):
            return None
        if self.ledger.erasure_under_way(self.model) is None:
            self.maker.work_ahead(version)  # the next update may come before anybody looks
        held = self.maker.rows.remember(rows)
        self.feed.record(self.model, "route.promoted", version=version, previous=champion.version, replay_rows=held)
        return cy.Promoted()

    def _roll_back(self, to: int, reason: str, context: StepContext) -> None:
        """Put `to` back, unless an operator has put another version in the challenger's place already."""
        challenger = context.cycle.challenger
        if challenger is None:
            raise ValueError(f"cycle {context.cycle_id} rolls back to {to} and has no challenger")
        self._put_back(to, challenger, reason)

    def _put_back(self, to: int, challenger: int, reason: str) -> None:
        self._load_for_return(to, challenger)
        route_change = self._change(turned_away(challenger, to=to), f"rolled back: {reason}", keep_waiting=False)
        champion = route_change.after.champion
        self.ledger.set_version_state(self.model, challenger, VersionState.RETIRED)
        self.feed.record(self.model, "route.rolled_back", version=champion, reason=reason)

    def _abort(self, version: int, context: StepContext) -> None:
        """Take the challenger out of the route, even where a promotion had been under way when the abort came."""
        champion = context.cycle.champion
        self._load_for_return(champion, version)

        def change(route: Route) -> Route:
            return without_challenger(version)(turned_away(version, to=champion)(route))

        self._change(change, f"version {version}: {context.cycle.note}", keep_waiting=False)
        state = VersionState.REFUSED if context.cycle.state is cy.CycleState.REFUSED else VersionState.FAILED
        self.ledger.set_version_state(self.model, version, state)
        self.maker.drop_staged(version)
        shutil.rmtree(self.maker.trained(version), ignore_errors=True)

    def _load_for_return(self, to: int, challenger: int) -> None:
        """Have `to` loaded where it is to answer in the challenger's place and was unloaded meanwhile."""
        route = self.ledger.route(self.model)
        if route is not None and route.champion == challenger and to not in route.resident:
            self._change(pinned(to), f"version {to} loaded: it answers again in place of version {challenger}")

    def _release_old(self) -> None:
        """After probation: Triton lets go of versions beyond its budget, and the disk of bundles that nobody needs."""
        settings = self.workspace.model(self.model).cycle
        try:
            self._change(settled(resident=settings.resident_versions), "probation is over", keep_waiting=False)
        except PerennialError as exc:  # a server that is away is brought to the route by the timer
            logger.warning("cycle.release_waits", extra={"model": self.model, "error": str(exc)})
        removed = remove_superfluous(self.ledger, self.workspace, self.repository, self.model)
        if removed:
            self.feed.record(self.model, "bundles.removed", versions=list(removed))

    def _change(self, change: Callable[[Route], Route], reason: str, *, keep_waiting: bool = True) -> RouteChange:
        """Change the route and bring every server to it.

        Without `keep_waiting` an unchanged route is left to the timer, so that a server which is away does not keep the
        loop from judging what the others answer.
        """
        self._wake(change)
        route_change = change_route(self.ledger, self.workspace, self.model, change, actor="loop", reason=reason)
        if keep_waiting or route_change.before != route_change.after:
            self.reconciler.reconcile(self.model)
        return route_change

    def _wake(self, change: Callable[[Route], Route]) -> None:
        """Have another champion ready before it answers: a version that only waited holds no engine."""
        if (route := self.ledger.route(self.model)) is None:
            return
        try:
            champion = change(route).champion
        except PerennialError:  # the change itself tells why it cannot be
            return
        if champion != route.champion:
            self.reconciler.wake(self.model, champion)

    def _change_for(
        self, context: StepContext, change: Callable[[Route], Route], reason: str, *, keep_waiting: bool = True
    ) -> bool:
        """The change as a step of a cycle; False when somebody has made another version champion meanwhile."""
        expected = cy.expected_champions(context.cycle)
        route_change = self._change(while_champion(expected, change), reason, keep_waiting=keep_waiting)
        return route_change.before.champion in expected

    def _progress(self, what: str, version: int) -> Any:
        def on_progress(progress: dict[str, Any]) -> None:
            self.feed.record(self.model, f"{what}.progress", version=version, **progress)

        return on_progress
