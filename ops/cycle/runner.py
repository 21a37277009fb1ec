"""Carries one model's cycle: saves it after every event, journals every step, goes on where a killed one stopped."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from perennial.continual import cycle as cy
from perennial.continual.errors import DependencyUnreachable, LeaseLost, PerennialError, Refused
from perennial.continual.records import Route
from perennial.ops.comparing.foresight import foreseen
from perennial.ops.cycle.corrections import is_correction
from perennial.ops.cycle.inbox import CommandInbox
from perennial.ops.cycle.lane import LaneSeat, TrainingLane
from perennial.ops.cycle.retries import StepRetries
from perennial.ops.cycle.waiting import StepWait, Waited, utc_now
from perennial.ops.ledger import CycleRow, Fence, Ledger, Phase, VersionRow
from perennial.ops.safety.log_context import about
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.ledger_guard import check_not_behind
from perennial.ops.store.state import PAUSED, PROBATION, ROLLOUT_POWER, Probation
from perennial.ops.store.workspace import Workspace

__all__ = ["POLICY", "STOP_S", "CycleRunner", "StepContext", "Steps"]

logger = logging.getLogger(__name__)
_RETRY_S = 1.0
_RETRY_MOST_S = 30.0  # between two tries of an outcome, which must succeed in the end
_BESIDE_AGAIN_S = 2.0  # until a probation whose look failed is looked at again
_LOOK_S = 0.5
_AHEAD = timedelta(seconds=5)  # clocks are corrected by small steps
POLICY = "policy"  # who asks for a cycle because of what was measured
STOP_S = 10.0  # for the present step when the runner is stopped
_HEAVY = frozenset({cy.CycleState.TRAINING, cy.CycleState.EXPORTING, cy.CycleState.JUDGING})  # these take turns
_LONG = _HEAVY | {cy.CycleState.SHADOW}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """Which cycle a step belongs to, when its present state began, and how long that has lasted."""

    cycle_id: int
    cycle: cy.Cycle
    entered_at: datetime
    waited: Waited = field(default_factory=Waited)


class Steps(Protocol):
    """The work behind the commands. Each may be carried out again after a crash, with the same effect as once."""

    def execute(self, command: cy.Command, context: StepContext) -> cy.Event | None:
        """Carry a command out. None means: not done yet, ask again soon."""
        ...

    def cancel(self) -> None:
        """Make a step that is at work end early."""
        ...

    def watch_beside(self) -> None:
        """Go on with the probation that an earlier cycle left to the next ones; harmless where there is none."""
        ...


class CycleRunner:
    """One model's cycles, one after the other, in one thread; only while this process leads.

    `lead` gives the proof that every write carries, and raises `LeaseLost` while another process leads.
    """

    def __init__(
        self,
        ledger: Ledger,
        workspace: Workspace,
        model: str,
        steps: Steps,
        feed: EventFeed,
        lead: Callable[[], Fence],
        lane: TrainingLane | None = None,
    ) -> None:
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self._lead = lead
        self._epoch: int | None = None
        self._steps, self._feed = steps, feed
        self._seat = LaneSeat(lane or TrainingLane(), ledger, model, feed)
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._retries = StepRetries(ledger, model, feed)
        self._again_at = 0.0  # monotonic: when an outcome that failed is tried again
        self._beside_again_at = 0.0  # and when a probation beside the cycle is looked at again
        self._inbox = CommandInbox(ledger, model, self)
        self._wait = StepWait()
        self._begun: tuple[int, int, cy.Command] | None = None  # its intent is written, and not yet its outcome

    def start(self) -> None:
        """Begin to carry cycles, first the one that was under way."""
        self._thread = threading.Thread(target=self._run, name=f"cycle-{self._model}", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Begin nothing more, and tell the present step to end early."""
        self._stop.set()
        self._wake.set()
        self._steps.cancel()

    def stop(self, *, within_s: float = STOP_S) -> bool:
        """Stop after the present step, which is told to end early; the cycle goes on at the next start.

        Returns whether it ended in time. A step that hangs ends with the process; it is repeated as after a kill.
        """
        self.leave()
        if self._thread is None:
            return True
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def fire(self, reason: str, *, actor: str, evidence: Mapping[str, Any] | None = None) -> int | None:
        """Open a cycle and return its id, or None when one is under way already, or an erasure.

        The `evidence` for it is kept with the challenger and in the audit log. A probation hinders none: its cycle is
        closed as promoted, and the watch goes on beside the new one. The policy waits for its least time.
        """
        told = {} if evidence is None else {"evidence": dict(evidence)}
        route = self._ledger.route(self._model)
        check_not_behind(route, self._workspace, self._model)
        before = self._ledger.active_cycle(self._model)
        if route is None or not (before is None or self._may_follow(before, route, actor)):
            return None
        if self._ledger.erasure_under_way(self._model) is not None:
            return None
        version = self._ledger.next_version(self._model)
        settings = self._workspace.model(self._model)
        power, shares = foreseen(self._ledger, self._workspace, self._model)
        plan = cy.CyclePlan(
            shadow=settings.cycle.shadow,
            approval=settings.cycle.approval == "operator",
            canary_shares=shares,
            probation=settings.cycle.probation_s > 0,
        )
        cycle = cy.new_cycle(model=self._model, champion=route.champion, plan=plan)
        cycle, _ = cy.handle(cycle, cy.TriggerFired(reason=reason, challenger=version))
        with self._ledger.transaction():  # a killed process leaves no cycle without its version
            if before is not None:
                self._leave_beside(before, reason)
            cycle_id = self._ledger.open_cycle(self._model, reason, cy.encode(cycle), state=cycle.state.value)
            self._ledger.add_version(
                VersionRow(
                    model=self._model,
                    version=version,
                    parent=route.champion,
                    cycle_id=cycle_id,
                    learner=settings.learning.learner,
                    lineage={
                        "reason": reason,
                        "actor": actor,
                        "labels_until": self._ledger.last_example_id(self._model),
                        **told,
                    },
                )
            )
            self._ledger.audit(
                actor, "cycle.opened", self._model, {"cycle": cycle_id, "version": version, "reason": reason, **told}
            )
        self._feed.record(self._model, "cycle.opened", cycle=cycle_id, version=version, reason=reason, **told)
        logger.info(
            "cycle.opened", extra={"model": self._model, "cycle": cycle_id, "version": version, "reason": reason}
        )
        foresight = replace(power, cycle=cycle_id)
        ROLLOUT_POWER.keep(self._ledger, self._model, foresight)
        self._feed.record(self._model, "rollout.power", **asdict(foresight))
        logger.info("rollout.power", extra={"model": self._model, **asdict(foresight)})
        self._wake.set()
        return cycle_id

    def _may_follow(self, before: CycleRow, route: Route, actor: str) -> bool:
        settings = self._workspace.model(self._model).cycle
        least_s = min(settings.probation_least_s, settings.probation_s) if actor == POLICY else 0.0
        cycle = cy.decode(before.payload)
        waited_s = (utc_now() - before.saved_at).total_seconds()
        return before.on_probation and route.champion == cycle.challenger and waited_s >= least_s

    def _leave_beside(self, before: CycleRow, reason: str) -> None:
        """Close a cycle whose version is on probation, and let the next ones carry the watch."""
        cycle = cy.decode(before.payload)
        after, _ = cy.handle(cycle, cy.NextCycleBegan(reason=reason))
        self._ledger.save_cycle(before.id, after.state.value, cy.encode(after))
        self._ledger.journal(before.id, self._model, "StartProbation", Phase.OUTCOME, {"event": "NextCycleBegan"})
        age = timedelta(seconds=self._workspace.model(self._model).cycle.probation_s)
        kept = Probation(
            cycle=before.id,
            champion=after.challenger or 0,
            previous=after.champion,
            since=before.saved_at.isoformat(),
            until=(before.saved_at + age).isoformat(),
        )
        PROBATION.keep(self._ledger, self._model, kept)
        self._close(replace(before, payload=cy.encode(after)), cy.CloseCycle(outcome=after.state, note=after.note))

    def _watch_beside(self) -> None:
        if time.monotonic() < self._beside_again_at:
            return
        try:
            self._steps.watch_beside()
        except LeaseLost:
            raise
        except (PerennialError, OSError) as exc:  # it is looked at again, and must not keep a cycle from its steps
            self._beside_again_at = time.monotonic() + _BESIDE_AGAIN_S
            logger.warning("probation.not_watched", extra={"model": self._model, "error": str(exc)})

    def advance(self) -> bool:
        """Carry out the present state's commands once; False when there is nothing to do now."""
        self._watch_beside()
        row = self._ledger.active_cycle(self._model)
        if row is None:
            self._seat.leave()
            return self._inbox.take(None, None)
        cycle = cy.decode(row.payload)
        if self._follow_correction(row, cycle):
            return True
        ends = cycle.state in cy.OUTCOMES
        if (not ends or self._retries.tries) and self._inbox.take(row, cycle):
            return True
        if (replaced := self.replaced(cycle)) is not None:
            self.apply(row, cycle, replaced)
            return True
        if ends and time.monotonic() < self._again_at:
            return False
        row = self._dated(row)
        paused = bool(PAUSED.read(self._ledger, self._model)) and not ends and not self._flipped(cycle)
        if not paused and self._share_begins(cycle):
            self._ledger.save_cycle(row.id, row.state, row.payload)  # its time counts from here, not from a pause
            row = replace(row, saved_at=datetime.now(UTC))
        if not self._has_turn(cycle, paused=paused):
            return False
        waited = self._wait.look(row.id, row.saved_at)
        context = StepContext(cycle_id=row.id, cycle=cycle, entered_at=row.saved_at, waited=waited)
        for command in self._watching(cycle) if paused else cy.resume(cycle):
            if isinstance(command, cy.CloseCycle):
                self._close(row, command)
                return True
            done, event = self._execute(command, context, paused=paused)
            if event is not None and not ends:
                self.apply(row, cycle, event)
                return True
            if not done:
                return False  # what follows must not come first
        return False

    def _has_turn(self, cycle: cy.Cycle, *, paused: bool) -> bool:
        """Whether the state's commands may be carried out now; heavy work takes turns."""
        if paused:
            self._retries.rests()  # what is watched meanwhile says that it was tried
        if paused or cycle.state not in _HEAVY:
            self._seat.leave()
            return True
        if not self._seat.may_work():
            self._retries.rests()
            return False
        return True

    def _dated(self, row: CycleRow) -> CycleRow:
        """The cycle with a time that can be: one that lies ahead was stamped by a clock that was wrong."""
        if row.saved_at - utc_now() <= _AHEAD:
            return row
        self._wait.look(row.id, row.saved_at)
        self._ledger.save_cycle(row.id, row.state, row.payload)
        dated = self._ledger.cycle(row.id)
        self._wait.dated_anew(row.id, dated.saved_at)
        facts = {"cycle": row.id, "at": row.saved_at.isoformat(), "now_at": dated.saved_at.isoformat()}
        logger.warning("cycle.time_healed", extra={"model": self._model, **facts})
        return dated

    def apply(self, row: CycleRow, cycle: cy.Cycle, event: cy.Event) -> cy.Cycle:
        """Let an event act on the cycle under way, save it, and return it as it becomes.

        Raises:
            IllegalTransition: the event does not fit the cycle's state.
        """
        after, _ = cy.handle(cycle, event)
        cy.check_invariants(after)
        self._ledger.save_cycle(row.id, after.state.value, cy.encode(after))
        facts = {"cycle": row.id, "state": after.state.value, "event": type(event).__name__, "note": after.note}
        self._feed.record(self._model, "cycle.state", version=after.challenger, **facts)
        logger.info("cycle.state", extra={"model": self._model, **facts})
        return after

    def _follow_correction(self, row: CycleRow, cycle: cy.Cycle) -> bool:
        """Let a probation go on with the copy that an erasure put in its version's place, before any command acts."""
        corrected = self.replaced(cycle) if cycle.state is cy.CycleState.PROBATION else None
        if not isinstance(corrected, cy.ChampionCorrected):
            return False
        facts = {"cycle": row.id, "version": corrected.champion, "instead_of": cycle.challenger}
        with self._ledger.transaction():
            self.apply(row, cycle, corrected)
            self._ledger.journal(row.id, self._model, "StartProbation", Phase.OUTCOME, {"event": "ChampionCorrected"})
            self._ledger.audit("loop", "probation.corrected", self._model, facts)
        return True

    def replaced(self, cycle: cy.Cycle) -> cy.ChampionReplaced | cy.ChampionCorrected | None:
        """What a promotion, a rollback or an erasure beside the cycle is to it."""
        route = self._ledger.route(self._model)
        if route is None or cycle.state in cy.OUTCOMES or route.champion in cy.expected_champions(cycle):
            return None
        on_probation = cycle.challenger if cycle.state is cy.CycleState.PROBATION else None
        if on_probation is not None and is_correction(self._ledger, self._model, route.champion, of=on_probation):
            return cy.ChampionCorrected(champion=route.champion)
        return cy.ChampionReplaced(champion=route.champion)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                busy = self._advance_as_leader()
            except LeaseLost as exc:
                self._lane_left()
                logger.debug("cycle.not_leading", extra={"model": self._model, "why": str(exc)})
                busy = False
            except Exception:  # a cycle that stops for good because of one surprise would be worse than a loud log
                self._lane_left()
                logger.exception("cycle.step_failed", extra={"model": self._model})
                self._stop.wait(_RETRY_S)
                busy = False
            if not busy:
                self._wake.wait(0.25)
                self._wake.clear()
        self._lane_left()

    def _lane_left(self) -> None:
        """Give others their turn when this thread can go on no more, or not now."""
        self._retries.rests()
        try:
            with self._ledger.fenced(self._lead()):
                self._seat.leave()
        except PerennialError:
            self._seat.give_up()

    def _advance_as_leader(self) -> bool:
        """`advance` under this process's fence; a new leader first takes over what a dead one had begun."""
        fence = self._lead()
        with self._ledger.fenced(fence):
            if fence.epoch != self._epoch:
                self._ledger.reclaim_commands(self._model)
                self._epoch = fence.epoch
            try:
                return self.advance()
            except Exception:
                self._epoch = None  # commands that were taken and not answered are handed out again
                raise

    def _execute(self, command: cy.Command, context: StepContext, *, paused: bool) -> tuple[bool, cy.Event | None]:
        """Whether the command was carried out as far as it can be now, and what came of it."""
        step = type(command).__name__
        waits = isinstance(command, cy.StartShadow | cy.RequestApproval | cy.SetShare | cy.StartProbation)
        begun = (context.cycle_id, len(context.cycle.story), command)
        if begun != self._begun:
            self._ledger.journal(context.cycle_id, self._model, step, Phase.INTENT, asdict(command))
            self._begun = begun
            self._retries.over()
            self._feed.record(self._model, "cycle.step", cycle=context.cycle_id, step=step)
        event: cy.Event | None
        self._retries.tried()
        try:
            told = about(model=self._model, cycle=context.cycle_id, version=context.cycle.challenger)
            with told, self._interruptible(context):
                event = self._steps.execute(command, context)
        except LeaseLost:
            raise
        except (PerennialError, OSError) as exc:
            event = self._failure(exc, step, context)
            if event is None:
                return False, None
        if self._retries.tries:
            self._retries.over()
        if paused and not isinstance(event, cy.CanaryStepFailed | cy.ProbationFailed | cy.StepFailed):
            return False, None  # a pause holds what goes well; live requests stay protected from what does not
        if event is not None or not waits:
            self._begun = None
            outcome = None if event is None else type(event).__name__
            self._ledger.journal(context.cycle_id, self._model, step, Phase.OUTCOME, {"event": outcome})
        return True, event

    def _failure(self, exc: PerennialError | OSError, step: str, context: StepContext) -> cy.StepFailed | None:
        """What a step's error is to the cycle; None where the step is to be tried again.

        A version that was turned away is taken out of the route before its cycle is closed, however long that takes.
        What a promotion leaves behind is not worth that: timers clear it up.
        """
        ends = context.cycle.state in cy.OUTCOMES
        must = ends and context.cycle.state is not cy.CycleState.PROMOTED
        if self._stop.is_set() or (not ends and self._inbox.abort_waits(context.cycle_id)):
            return None
        patience_s = self._workspace.model(self._model).cycle.step_patience_s
        if must or (isinstance(exc, DependencyUnreachable) and self._retries.failing_s() < patience_s):
            self._retries.failed(context.cycle_id, step, str(exc))
            if must:  # not slept through: commands are taken meanwhile
                pause_s = _RETRY_S * 2.0 ** min(self._retries.tries - 1, 10)
                self._again_at = time.monotonic() + min(pause_s, _RETRY_MOST_S)
            else:
                self._seat.leave()  # what cannot be reached now may be so for long
                self._stop.wait(_RETRY_S)
            return None
        if isinstance(exc, OSError):
            logger.error("cycle.step_disk", extra={"model": self._model, "step": step, "error": str(exc)}, exc_info=exc)
            return cy.StepFailed(error=f"{step}: the disk refuses ({exc}); free some space, then retrain")
        logger.warning("cycle.step_refused", extra={"model": self._model, "step": step, "error": str(exc)})
        return cy.StepFailed(error=f"{step}: {exc}", refused=isinstance(exc, Refused))

    def _watching(self, cycle: cy.Cycle) -> tuple[cy.Command, ...]:
        """What a pause lets through: to watch the version that answers live requests, at the share that it has."""
        if cycle.state is cy.CycleState.PROBATION:
            return cy.resume(cycle)
        share = self._live_share(cycle) if cycle.state is cy.CycleState.CANARY else 0.0
        return (cy.SetShare(challenger=cycle.challenger or 0, share=share),) if share > 0 else ()

    def _flipped(self, cycle: cy.Cycle) -> bool:
        """Whether the challenger answers all requests already: no pause holds that, and it is to be watched."""
        route = self._ledger.route(self._model) if cycle.state is cy.CycleState.PROMOTING else None
        return route is not None and route.champion == cycle.challenger

    def _share_begins(self, cycle: cy.Cycle) -> bool:
        """Whether the canary's present share is not live yet."""
        canary = cycle.state is cy.CycleState.CANARY
        return canary and self._live_share(cycle) != cycle.plan.canary_shares[cycle.canary_step]

    def _live_share(self, cycle: cy.Cycle) -> float:
        route = self._ledger.route(self._model)
        return route.share if route is not None and route.challenger == cycle.challenger else 0.0

    @contextmanager
    def _interruptible(self, context: StepContext) -> Iterator[None]:
        """While a step is at work, end it early when an operator aborts the cycle."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_LOOK_S):
                try:
                    end = self._stop.is_set() or self._inbox.abort_waits(context.cycle_id)
                except PerennialError as exc:
                    logger.warning("cycle.inbox_unread", extra={"model": self._model, "error": str(exc)})
                    continue
                if end:
                    self._steps.cancel()
                    return

        if context.cycle.state not in _LONG:
            yield
            return
        thread = threading.Thread(target=watch, name=f"abort-{self._model}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _close(self, row: CycleRow, command: cy.CloseCycle) -> None:
        cycle = cy.decode(row.payload)
        facts = {"cycle": row.id, "outcome": command.outcome.value, "note": command.note}
        with self._ledger.transaction():  # a closed cycle is in the audit log, whoever is killed when
            self._ledger.close_cycle(row.id, command.outcome.value, command.note)
            self._ledger.audit("loop", "cycle.closed", self._model, {**facts, "version": cycle.challenger})
        self._feed.record(self._model, "cycle.closed", version=cycle.challenger, **facts)
        logger.info("cycle.closed", extra={"model": self._model, **facts})
