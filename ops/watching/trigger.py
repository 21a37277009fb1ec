"""Whether a retraining begins now: facts out of the ledger, put before the model's policy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from perennial.continual.cycle.events import CycleState
from perennial.continual.policy import (
    DriftState,
    Facts,
    LearningGain,
    PastAttempt,
    TriggerDecision,
    TriggerPolicy,
    decide,
    parse_policy,
)
from perennial.continual.records import Route, Split
from perennial.ops.ledger import AttemptRow, CycleRow
from perennial.ops.ledger.ports import Cycles, DriftReports, ExampleCounts, Examples, State, Vocabulary
from perennial.ops.store.state import WATCH, ErrorState, ModelAccuracy, WorthState
from perennial.ops.store.workspace import Workspace
from perennial.ops.watching.opening import Opening, opening
from perennial.ops.watching.proof_needed import proof_needed
from perennial.ops.watching.unlearnt import UnlearntLabels

__all__ = ["Trigger"]

_ERRORS = "labelled_errors"
_CYCLES = 200  # newest ones that a policy looks at
_NOVELTY = "new_requests"
_OVER = "over, and not answered yet"
_IN_VAIN = frozenset({CycleState.FAILED.value, CycleState.REFUSED.value})
_ENDS = {  # in words; what failed for reasons of its own may be tried again on the same labels
    CycleState.ROLLED_BACK.value: "rolled back",
    CycleState.ABORTED.value: "aborted",
    CycleState.PROMOTED.value: "promoted and put back",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drift:
    """The present drift: what the windows or the labelled errors say, and since when."""

    state: DriftState = DriftState.OK
    since: datetime | None = None
    signals: tuple[str, ...] = ()


class TriggerLedger(Cycles, DriftReports, ExampleCounts, Examples, State, Vocabulary, Protocol):
    """Where the facts come from."""


class Trigger:
    """One model's policy and what it looks at. Reads the ledger only, so that any process may ask."""

    def __init__(
        self, ledger: TriggerLedger, workspace: Workspace, model: str, policy: TriggerPolicy | None = None
    ) -> None:
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self.policy = policy or parse_policy(workspace.model(model).policy)
        self._followed: UnlearntLabels | None = None

    def decide(self, now: datetime) -> TriggerDecision | None:
        """What the policy says now; None before the first version and while a cycle is under way, probation aside.

        While traffic drifts, only labels of requests since the drift began count towards the policy's minimum: a late
        label of an older request cannot teach what is new. An alert stands until a version learns after it: the labels
        may come when the windows have calmed down, for so few of them look new. What failed or was refused made none.
        """
        route = self._ledger.route(self._model)
        cycle = self._ledger.active_cycle(self._model)
        if route is None or not (cycle is None or cycle.on_probation):
            return None
        rows, attempt, cycles = self._unlearnt(route), self._attempt(route), self._cycles()
        facts = self._facts(route, rows, attempt, cycles)
        calm = decide(self.policy, facts, now)
        drift = self._drift(route, cycles)
        if calm.fire or drift.state is DriftState.OK:
            return calm
        return decide(self.policy, _in_drift(facts, drift, rows), now)

    def facts(self) -> Facts | None:
        """What the policy looks at; None before the first version."""
        route = self._ledger.route(self._model)
        if route is None:
            return None
        rows, attempt, cycles = self._unlearnt(route), self._attempt(route), self._cycles()
        return _in_drift(self._facts(route, rows, attempt, cycles), self._drift(route, cycles), rows)

    def opening(self) -> Opening | None:
        """What a cycle would begin with now; None before the first version."""
        route = self._ledger.route(self._model)
        if route is None:
            return None
        attempt = self._attempt(route)
        learnt_until = 0 if attempt is None else attempt.last_example_id
        rows = self._ledger.examples(self._model, split=Split.TRAIN, since_id=self._learnt_until(route))
        return opening(self._ledger, self._workspace, self._model, route, rows, learnt_until)

    def _attempt(self, route: Route) -> AttemptRow | None:
        return self._ledger.newest_attempt(self._model, route.champion)

    def _cycles(self) -> Sequence[CycleRow]:
        return self._ledger.cycles(self._model, limit=_CYCLES)

    def _unlearnt(self, route: Route) -> UnlearntLabels:
        """Training labels that came since the champion learnt."""
        last = self._learnt_until(route)
        if self._followed is None or self._followed.since_id != last:
            self._followed = UnlearntLabels(self._ledger, self._model, last)
        followed = self._followed
        followed.follow()
        return followed

    def _learnt_until(self, route: Route) -> int:
        return int(self._ledger.version(self._model, route.champion).lineage.get("last_example_id", 0))

    def _drift(self, route: Route, cycles: Sequence[CycleRow]) -> _Drift:
        watch = WATCH.read(self._ledger, self._model)
        if watch is not None and watch.version != route.champion:
            watch = None
        if watch is not None and watch.in_alert:
            newest = self._ledger.drift_reports(self._model, limit=1)
            signals = tuple(newest[0].payload["signal"].get("signals", ())) if newest else ()
            if newest and newest[0].payload["comparison"].get("novel"):
                signals = (*signals, _NOVELTY)
            return _Drift(state=DriftState.ALERT, since=watch.since, signals=signals)
        errors = ErrorState.of(self._ledger, self._model, route.champion)
        if errors is not None and errors.since is not None:
            return _Drift(state=DriftState.ALERT, since=errors.since, signals=(_ERRORS,))
        if watch is not None and watch.alerted is not None and not _is_answered(watch.alerted, cycles):
            return _Drift(state=DriftState.ALERT, since=watch.alerted, signals=(_OVER,))
        if watch is not None and watch.level.value == DriftState.WARNING.value:
            return _Drift(state=DriftState.WARNING, since=watch.since)
        return _Drift()

    def _facts(
        self, route: Route, rows: UnlearntLabels, attempt: AttemptRow | None, cycles: Sequence[CycleRow]
    ) -> Facts:
        """All but the drift."""
        champion = self._ledger.version(self._model, route.champion)
        needed = proof_needed(self._ledger, self._workspace, self._model, champion)
        proof = self._ledger.examples(self._model, split=Split.HOLDOUT, since_id=rows.since_id, limit=max(1, needed))
        accuracy = ModelAccuracy.of(self._ledger, self._model, route.champion)
        worth = WorthState.of(self._ledger, self._model, route.champion)
        return Facts(
            champion_since=champion.state_at or datetime.now(UTC),
            cycles=tuple(row.opened_at for row in cycles),
            in_vain=tuple(row.opened_at for row in cycles if row.outcome in _IN_VAIN),
            unlearnt_feedback=len(rows),
            proof=len(proof),
            proof_needed=needed,
            estimated_quality=None if accuracy is None or accuracy.estimated is None else accuracy.estimated.value,
            measured_quality=None if accuracy is None else accuracy.share,
            reference_quality=None if accuracy is None or accuracy.reference is None else accuracy.reference.value,
            gain=_gain(worth, attempt),
            turned_away=_turned_away(attempt, rows),
        )


def _in_drift(facts: Facts, drift: _Drift, rows: UnlearntLabels) -> Facts:
    """The facts with the drift; in an alert only labels of requests since it began count."""
    seen = replace(facts, drift=drift.state, drift_since=drift.since, drift_signals=drift.signals)
    if drift.state is not DriftState.ALERT or drift.since is None:
        return seen
    return replace(seen, unlearnt_feedback=rows.asked_after(drift.since))


def _is_answered(alerted: datetime, cycles: Sequence[CycleRow]) -> bool:
    """Whether a cycle began after that, and was not in vain."""
    return any(row.opened_at >= alerted and row.outcome not in _IN_VAIN for row in cycles)


def _gain(worth: WorthState | None, attempt: AttemptRow | None) -> LearningGain | None:
    """What the watch of labels tells; what it found before the newest attempt has been answered by that."""
    gain = None if worth is None else worth.facts
    if worth is None or gain is None or worth.answered == (0 if attempt is None else attempt.version):
        return gain
    return replace(gain, found=False)


def _turned_away(attempt: AttemptRow | None, rows: UnlearntLabels) -> PastAttempt | None:
    """The newest attempt, if its answers were judged: by the gate, by live labels or by an operator."""
    if attempt is None:
        return None
    end = _end(attempt)
    if end is None:
        return None
    learnt = rows.until(attempt.last_example_id)
    return PastAttempt(
        version=attempt.version, learnt=learnt, since=len(rows) - learnt, began=attempt.opened_at, end=end
    )


def _end(attempt: AttemptRow) -> str | None:
    """How an attempt ended whose answers were judged, in words."""
    refused = attempt.outcome == CycleState.REFUSED.value and attempt.gate_accepted is False
    return "refused by the gate" if refused else _ENDS.get(attempt.outcome)
