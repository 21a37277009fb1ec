"""Whether a retraining begins now: facts out of the ledger, put before the model's policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from perennial.continual.policy import (
    DriftState,
    Facts,
    RefusedAttempt,
    TriggerDecision,
    TriggerPolicy,
    decide,
    parse_policy,
)
from perennial.continual.records import Example, Route, Split
from perennial.ops.ledger import StoredExample
from perennial.ops.ledger.ports import Cycles, DriftReports, Examples, Routes, State, Versions
from perennial.ops.prediction_ids import id_time_us
from perennial.ops.store.state import WATCH, ErrorState, ModelAccuracy, WorthState
from perennial.ops.store.workspace import Workspace
from perennial.ops.watching.opening import Opening, opening
from perennial.ops.watching.worth_watch import refused_attempts

__all__ = ["Trigger"]

_ERRORS = "labelled_errors"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drift:
    """The present drift: what the windows or the labelled errors say, and since when."""

    state: DriftState = DriftState.OK
    since: datetime | None = None
    signals: tuple[str, ...] = ()


class TriggerLedger(Cycles, DriftReports, Examples, Routes, State, Versions, Protocol):
    """Where the facts come from."""


class Trigger:
    """One model's policy and what it looks at. Reads the ledger only, so that any process may ask."""

    def __init__(
        self, ledger: TriggerLedger, workspace: Workspace, model: str, policy: TriggerPolicy | None = None
    ) -> None:
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self.policy = policy or parse_policy(workspace.model(model).policy)

    def decide(self, now: datetime) -> TriggerDecision | None:
        """What the policy says now; None before the first version and while a cycle is under way, probation aside.

        While traffic drifts, only labels of requests since the drift began count towards the policy's minimum: a late
        label of an older request cannot teach what is new.
        """
        route = self._ledger.route(self._model)
        cycle = self._ledger.active_cycle(self._model)
        if route is None or not (cycle is None or cycle.on_probation):
            return None
        rows = self._unlearnt(route)
        calm = decide(self.policy, self._facts(route, None, rows), now)
        drift = self._drift(route)
        if calm.fire or drift.state is DriftState.OK:
            return calm
        return decide(self.policy, self._facts(route, drift, rows), now)

    def facts(self) -> Facts | None:
        """What the policy looks at; None before the first version."""
        route = self._ledger.route(self._model)
        return None if route is None else self._facts(route, self._drift(route), self._unlearnt(route))

    def opening(self) -> Opening | None:
        """What a cycle would begin with now; None before the first version."""
        route = self._ledger.route(self._model)
        if route is None:
            return None
        refused = refused_attempts(self._ledger, self._model, route.champion)
        rows, newest = self._unlearnt(route), refused[-1] if refused else None
        return opening(self._ledger, self._workspace, self._model, route, rows, newest)

    def _unlearnt(self, route: Route) -> tuple[StoredExample, ...]:
        """Training labels that came since the champion learnt."""
        last = int(self._ledger.version(self._model, route.champion).lineage.get("last_example_id", 0))
        return self._ledger.examples(self._model, split=Split.TRAIN, since_id=last)

    def _drift(self, route: Route) -> _Drift:
        watch = WATCH.read(self._ledger, self._model)
        if watch is not None and watch.version == route.champion and watch.in_alert:
            newest = self._ledger.drift_reports(self._model, limit=1)
            signals = tuple(newest[0].payload["signal"].get("signals", ())) if newest else ()
            return _Drift(state=DriftState.ALERT, since=watch.since, signals=signals)
        errors = ErrorState.of(self._ledger, self._model, route.champion)
        if errors is not None and errors.since is not None:
            return _Drift(state=DriftState.ALERT, since=errors.since, signals=(_ERRORS,))
        if watch is not None and watch.version == route.champion and watch.level.value == DriftState.WARNING.value:
            return _Drift(state=DriftState.WARNING, since=watch.since)
        return _Drift()

    def _facts(self, route: Route, drift: _Drift | None, rows: Sequence[StoredExample]) -> Facts:
        champion = self._ledger.version(self._model, route.champion)
        accuracy = ModelAccuracy.of(self._ledger, self._model, route.champion)
        seen = drift or _Drift()
        alert = seen.state is DriftState.ALERT and seen.since is not None
        worth = WorthState.of(self._ledger, self._model, route.champion)
        since = seen.since or datetime.min.replace(tzinfo=UTC)
        return Facts(
            champion_since=champion.state_at or datetime.now(UTC),
            cycles=tuple(row.opened_at for row in self._ledger.cycles(self._model, limit=200)),
            unlearnt_feedback=sum(1 for s in rows if _asked_at(s.example) > since) if alert else len(rows),
            drift=seen.state,
            drift_since=seen.since,
            drift_signals=seen.signals,
            estimated_quality=None if accuracy is None or accuracy.estimated is None else accuracy.estimated.value,
            measured_quality=None if accuracy is None else accuracy.share,
            reference_quality=None if accuracy is None or accuracy.reference is None else accuracy.reference.value,
            gain=None if worth is None else worth.facts,
            refused=self._refused(route, rows),
        )

    def _refused(self, route: Route, rows: Sequence[StoredExample]) -> RefusedAttempt | None:
        attempts = refused_attempts(self._ledger, self._model, route.champion)
        if not attempts:
            return None
        newest = attempts[-1]
        last = int(newest.lineage["last_example_id"])
        return RefusedAttempt(
            version=newest.version,
            rows=int(newest.lineage.get("rows", 0)),
            rows_since=sum(row.id > last for row in rows),
        )


def _asked_at(example: Example) -> datetime:
    """When the labelled request was answered; for a text that came without a request, when it was labelled."""
    asked_us = None if example.prediction_id is None else id_time_us(example.prediction_id)
    return example.at if asked_us is None else datetime.fromtimestamp(asked_us / 1e6, UTC)
