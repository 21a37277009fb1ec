"""One model's loop: what the scheduler's jobs do for it."""

import logging
import queue
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from continual.drift.evidently_report import build_report, prune_reports
from continual.errors import PerennialError
from continual.policy import DriftState, Facts, TriggerDecision, decide, parse_policy
from continual.records import Route, Split
from ops.ledger import Ledger
from ops.loop.challenger import ChallengerMaker
from ops.loop.collector import collect
from ops.loop.comparison import ArmComparison
from ops.loop.events import Happenings
from ops.loop.reconciler import Reconciler
from ops.loop.runner import CycleRunner
from ops.loop.steps import LoopSteps
from ops.loop.watcher import ReportRequest, Watcher
from ops.traffic import TrafficLog
from ops.triton.repository import ModelRepository
from ops.workspace import Workspace

__all__ = ["ModelLoop"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labels:
    """Training labels that the champion has not learnt: all of them, and those given since the drift began."""

    unlearnt: int
    since_drift: int


class ModelLoop:
    """Watching, deciding and learning for one model."""

    def __init__(
        self,
        ledger: Ledger,
        workspace: Workspace,
        model: str,
        repository: ModelRepository,
        reconciler: Reconciler,
        happenings: Happenings,
    ) -> None:
        self._ledger, self._workspace, self.model, self._happenings = ledger, workspace, model, happenings
        self._repository, self._reconciler = repository, reconciler
        self._settings = workspace.model(model)
        self._policy = parse_policy(self._settings.policy)
        self.traffic = TrafficLog(workspace.traffic(model))
        self._reports: queue.Queue[ReportRequest | None] = queue.Queue(maxsize=8)
        self._reporter = threading.Thread(target=self._make_reports, name=f"reports-{model}", daemon=True)
        self.watcher = Watcher(ledger, workspace, model, self.traffic, happenings, self._want_report)
        steps = LoopSteps(
            model=model,
            ledger=ledger,
            workspace=workspace,
            repository=repository,
            reconciler=reconciler,
            maker=ChallengerMaker(ledger, workspace, model),
            comparison=ArmComparison(
                model=model, ledger=ledger, workspace=workspace, traffic=self.traffic, happenings=happenings
            ),
            happenings=happenings,
        )
        self.runner = CycleRunner(ledger, workspace, model, steps, happenings)

    def start(self) -> None:
        """Begin to carry cycles and to make reports."""
        self._reporter.start()
        self.runner.start()

    def stop(self) -> None:
        """End the present step early and stop."""
        self.runner.stop()
        self._reports.put(None)

    def watch(self) -> str:
        """Compare what came since the last pass."""
        signals = self.watcher.watch()
        return f"{len(signals)} windows" if signals else ""

    def check(self) -> str:
        """Join labels, ask the policy, and open a cycle when it says so."""
        now = datetime.now(UTC)
        collect(self._ledger, self.traffic, self.model, holdout_share=self._settings.learning.holdout_share, now=now)
        decision = self.decide(now)
        if decision is None or not decision.fire:
            return "" if decision is None or not decision.held_by else f"held back: {'; '.join(decision.held_by)}"
        reason = "; ".join(decision.reasons)
        cycle = self.runner.fire(reason, actor="policy")
        return "" if cycle is None else f"cycle {cycle}: {reason}"

    def decide(self, now: datetime) -> TriggerDecision | None:
        """What the policy says now; None before the first version and while a cycle is under way.

        While traffic drifts, only labels given since the drift began count towards the policy's minimum: older ones
        cannot teach what is new.
        """
        route = self._ledger.route(self.model)
        if route is None or self._ledger.active_cycle(self.model) is not None:
            return None
        labels = self._labels(route)
        calm = decide(self._policy, self._facts(route, DriftState.OK, labels.unlearnt), now)
        if calm.fire or not self.watcher.in_alert():
            return calm
        return decide(self._policy, self._facts(route, DriftState.ALERT, labels.since_drift), now)

    def compact(self) -> str:
        """Turn sealed traffic segments into Parquet."""
        files = self.traffic.compact()
        return f"{files} rows" if files else ""

    def retain(self) -> str:
        """Forget traffic, reports and bundles beyond what the settings keep."""
        keep = timedelta(days=self._workspace.settings.traffic.retention_days)
        pruned = self.traffic.prune(datetime.now(UTC) - keep)
        reports = prune_reports(self._reports_folder, self._settings.drift.reports_kept)
        removed = self._remove_old_bundles()
        return f"{pruned} traffic rows, {len(reports)} reports, bundles {removed}"

    def _remove_old_bundles(self) -> list[int]:
        route = self._ledger.route(self.model)
        if route is None:
            return []
        engine = self._workspace.engine_model(self.model)
        versions = self._repository.versions(engine)
        kept = set(versions[-self._settings.cycle.disk_versions :]) | set(route.resident)
        old = [version for version in versions if version not in kept]
        for version in old:
            self._repository.remove_version(engine, version)
        return old

    def _labels(self, route: Route) -> _Labels:
        champion = self._ledger.version(self.model, route.champion)
        last = int(champion.lineage.get("last_example_id", 0))
        rows = self._ledger.examples(self.model, split=Split.TRAIN, since_id=last)
        began = self.watcher.drift_since()
        recent = 0 if began is None else sum(1 for s in rows if s.example.at >= began)
        return _Labels(unlearnt=len(rows), since_drift=recent)

    def _facts(self, route: Route, drift: DriftState, labels: int) -> Facts:
        champion = self._ledger.version(self.model, route.champion)
        newest = self._ledger.drift_reports(self.model, limit=1)
        signals: tuple[str, ...] = ()
        if newest and drift is DriftState.ALERT:
            signals = tuple(newest[0].payload["signal"].get("signals", ()))
        return Facts(
            champion_since=champion.state_at or datetime.now(UTC),
            cycles=tuple(row.opened_at for row in self._ledger.cycles(self.model, limit=200)),
            unlearnt_labels=labels,
            drift=drift,
            drift_since=self.watcher.drift_since() if drift is DriftState.ALERT else None,
            drift_signals=signals,
        )

    @property
    def _reports_folder(self) -> Any:
        return self._workspace.reports(self.model) / "evidently"

    def _want_report(self, request: ReportRequest) -> None:
        try:
            self._reports.put_nowait(request)
        except queue.Full:
            logger.warning("drift.report_skipped", extra={"model": self.model, "report": request.report_id})

    def _make_reports(self) -> None:
        while (request := self._reports.get()) is not None:
            html = self._reports_folder / f"drift-{request.report_id:06d}.html"
            try:
                build_report(
                    request.reference,
                    request.window,
                    request.comparison,
                    html,
                    self._workspace.evidently,
                    {"model": self.model, "version": str(request.comparison.version), "report": str(request.report_id)},
                    self._settings.drift.report_timeout_s,
                    keep_runs=self._settings.drift.reports_kept,
                )
            except (PerennialError, OSError):
                logger.exception("drift.report_failed", extra={"model": self.model, "report": request.report_id})
                continue
            prune_reports(self._reports_folder, self._settings.drift.reports_kept)
            self._happenings.tell(self.model, "drift.report", report=request.report_id, path=str(html))
