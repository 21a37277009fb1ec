"""One model's loop: what the scheduler's jobs do for it."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from perennial.continual.cycle.events import CycleState
from perennial.continual.drift.evidently_report import build_report, prune_reports
from perennial.continual.errors import PerennialError
from perennial.continual.jobs.priority import lower_this_thread
from perennial.continual.jobs.warm import WarmJobs
from perennial.continual.policy import FeedbackCount, TriggerDecision
from perennial.exporters.engine import Inputs, Outputs
from perennial.ops.app.engine_upkeep import EngineUpkeep
from perennial.ops.app.event_upkeep import EventUpkeep
from perennial.ops.app.feed_jobs import FeedJobs
from perennial.ops.app.housekeeping import Housekeeping
from perennial.ops.comparing.comparison import ArmComparison
from perennial.ops.comparing.live_evidence import LiveEvidenceReader
from perennial.ops.cycle.lane import TrainingLane
from perennial.ops.cycle.runner import POLICY, STOP_S, CycleRunner
from perennial.ops.cycle.steps import LoopSteps
from perennial.ops.cycle.waiting import utc_now
from perennial.ops.ledger import DriftReportRow, Fence
from perennial.ops.making.challenger import ChallengerMaker
from perennial.ops.making.retention import VersionRemoval, remove_superfluous
from perennial.ops.parts import Parts
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.feedback import joiner_of
from perennial.ops.store.state import ErrorState
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.views.answer_times import AnswerTimes, ArmTimes
from perennial.ops.watching.accuracy import AccuracyWatch
from perennial.ops.watching.budget import NICENESS, SpareTime, WatchBudget
from perennial.ops.watching.collector import collect
from perennial.ops.watching.error_watch import ErrorWatch
from perennial.ops.watching.new_labels import NewLabels
from perennial.ops.watching.trigger import Trigger
from perennial.ops.watching.watcher import Watcher
from perennial.ops.watching.windows import reported_window
from perennial.ops.watching.worth_watch import WorthWatch

__all__ = ["AskEngine", "ModelLoop"]

logger = logging.getLogger(__name__)
_ACCURACY_S = 5.0
_COUNT_S = 0.02  # between two looks at the labels of any models, where there are many
_AHEAD = timedelta(seconds=5)  # clocks are corrected by small steps
_BUSY = frozenset({CycleState.TRAINING, CycleState.EXPORTING, CycleState.JUDGING, CycleState.PUBLISHING})
_OF_ALERT, _ROUTINE = 10, 19  # niceness of reports: a routine one is a picture of what is decided already
_REPORTS_LOOKED_AT = 50  # newest windows among which one may want a report
AskEngine = Callable[[str, int, Inputs], Outputs]  # of an engine model's version


class ModelLoop:
    """Watching, deciding and learning for one model. `deletes_by` is the time by which something is too old to keep."""

    def __init__(
        self,
        parts: Parts,
        model: str,
        feed: EventFeed,
        ask: AskEngine,
        lead: Callable[[], Fence],
        lane: TrainingLane | None = None,
        deletes_by: Callable[[], datetime] = utc_now,
        warm: WarmJobs | None = None,
    ) -> None:
        ledger, workspace = parts.ledger, parts.workspace
        self._ledger, self._workspace, self.model, self._feed = ledger, workspace, model, feed
        self._repository, self._reconciler = parts.repository, parts.reconciler
        self._settings = workspace.model(model)
        self._trigger = Trigger(ledger, workspace, model)
        watches = self._settings.task == "opinion"
        self.news = EventUpkeep(parts, model) if watches else None
        self.feeds = FeedJobs(parts, model).passes if watches else {}
        self.traffic = traffic_of(workspace, model)
        self._answer_times = AnswerTimes(self.traffic)
        self.kept = Housekeeping(parts, model, self.traffic, deletes_by)
        settings = workspace.settings
        self.watch_share = settings.schedule.watch_share / max(1, len(settings.models))  # it is that of all together
        self.watcher = Watcher(ledger, workspace, model, self.traffic, feed, budget=WatchBudget(self.watch_share))
        self._for_reports, self._for_work_ahead = SpareTime(self.watch_share), SpareTime(self.watch_share)
        self._leaving = threading.Event()
        self.engines = EngineUpkeep(parts, model, self._leaving)
        self._accuracy = AccuracyWatch(ledger, workspace, model, self.traffic)
        self._noted_for: tuple[int, float] | None = None  # for which champion, and in which stretch of time
        self._errors = ErrorWatch(
            ledger, model, self.traffic, self._accuracy, self._settings.drift.requests_per_false_retraining
        )
        self._worth = WorthWatch(ledger, workspace, model, self.traffic, self._accuracy)
        self._labels = NewLabels(ledger, model, every_s=_COUNT_S * max(10, len(settings.models)))
        self._maker = maker = ChallengerMaker(ledger, workspace, model, warm=warm)
        engine = workspace.engine_model(model)
        evidence = LiveEvidenceReader(
            ledger, workspace, model, self.traffic, lambda version, inputs: ask(engine, version, inputs)
        )
        comparison = ArmComparison(
            model=model,
            ledger=ledger,
            workspace=workspace,
            traffic=self.traffic,
            feed=feed,
            evidence=evidence,
            cancel=maker.cancel,
        )
        steps = LoopSteps(
            model=model,
            ledger=ledger,
            workspace=workspace,
            repository=parts.repository,
            reconciler=parts.reconciler,
            maker=maker,
            comparison=comparison,
            feed=feed,
        )
        self.runner = CycleRunner(ledger, workspace, model, steps, feed, lead, lane)

    def start(self) -> None:
        """Begin to carry cycles, and to watch for events."""
        if self.news is not None:
            self.news.configure()
        self.runner.start()

    def leave(self) -> None:
        """Begin nothing more; a step and a report under way are given up, and made again after the next start."""
        self._leaving.set()
        self._maker.work_ahead(None)
        self.runner.leave()

    def stop(self, *, within_s: float = STOP_S) -> bool:
        """End the present step early and stop; returns whether it ended in time."""
        self._leaving.set()
        return self.runner.stop(within_s=within_s)

    def watch(self) -> str:
        """Compare what came since the last pass, in a thread that gives way to whoever answers requests."""
        lower_this_thread(NICENESS)
        signals = self.watcher.watch()
        return f"{len(signals)} windows" if signals else ""

    def labels_came(self) -> bool:
        """Whether labels have come since the last check."""
        return self._labels.came()

    def labels_delivered(self) -> bool:
        """See `NewLabels.delivered`."""
        return self._labels.delivered()

    def check(self) -> str:
        """Join labels, tell the accuracy, ask the policy, and open a cycle when it says so."""
        with self._labels.looked_at():
            return self._check()

    def _check(self) -> str:
        now = datetime.now(UTC)
        self._date_anew()
        collect(
            self._ledger,
            self.traffic,
            self.model,
            holdout_share=self._settings.learning.holdout_share,
            now=now,
            joiner=joiner_of(self._ledger, self._workspace, self.model),
        )
        route = self._ledger.route(self.model)
        if route is not None:
            self._work_ahead(route.champion)
        decision = self._decided(None if route is None else route.champion, now)
        if decision is None or not decision.fire:
            return "" if decision is None or not decision.held_by else f"held back: {'; '.join(decision.held_by)}"
        reason = "; ".join(decision.reasons)
        begins_with = self._trigger.opening()
        evidence = None if begins_with is None else begins_with.to_json()
        cycle = self.runner.fire(reason, actor=POLICY, evidence=evidence)
        if cycle is None and route is not None and self._labels_alone:  # the watches are not to wait for it
            self._look(route.champion)
        return "" if cycle is None else f"cycle {cycle}: {reason}"

    @property
    def _labels_alone(self) -> bool:
        """Whether the policy counts labels and asks for nothing else."""
        return isinstance(self._trigger.policy.when, FeedbackCount)

    def _decided(self, champion: int | None, now: datetime) -> TriggerDecision | None:
        """What the policy says when all is told that it asks for; where labels alone have it fire, the rest waits."""
        if self._labels_alone:
            decision = self.decide(now)
            if decision is not None and decision.fire:
                return decision
        if champion is not None:
            self._look(champion)
        return self.decide(now)

    def _work_ahead(self, champion: int) -> None:
        """Between cycles, in spare time; what an erasure takes out of everything else is kept in no memory either."""
        cycle = self._ledger.active_cycle(self.model)
        if self._ledger.erasure_under_way(self.model) is not None:
            self._maker.work_ahead(None)
        elif (cycle is None or cycle.on_probation) and self._for_work_ahead.is_due():
            self._maker.work_ahead(champion)

    def _date_anew(self) -> None:
        """What a wrong clock stamped ahead of now would hold a retraining back until then."""
        versions = self._ledger.date_versions_anew(self.model, ahead=_AHEAD)
        cycles = self._ledger.date_cycles_anew(self.model, ahead=_AHEAD)
        if versions or cycles:
            facts = {"model": self.model, "versions": list(versions), "cycles": list(cycles)}
            logger.warning("ledger.times_healed", extra=facts)

    def _look(self, champion: int) -> None:
        """Tell the accuracy, errors and what learning would buy; a watch that fails keeps no policy from deciding."""
        watches: tuple[tuple[str, Callable[[int], object]], ...] = (
            ("accuracy", self._note_accuracy),
            ("errors", self._follow_errors),
            ("worth", self._worth.look),
        )
        for name, look in watches:
            try:
                look(champion)
            except Exception:
                logger.exception("watch.failed", extra={"model": self.model, "watch": name})

    def _note_accuracy(self, champion: int) -> None:
        if (champion, time.monotonic() // _ACCURACY_S) != self._noted_for:  # the policy may be asked every second
            self._accuracy.look(champion)
            self._noted_for = (champion, time.monotonic() // _ACCURACY_S)

    def _follow_errors(self, champion: int) -> None:
        before = ErrorState.of(self._ledger, self.model, champion)
        after = self._errors.look(champion)
        if after.since is not None and (before is None or before.since is None):
            self._feed.record(self.model, "drift.errors", version=champion, alert=True, since=after.since.isoformat())

    def decide(self, now: datetime) -> TriggerDecision | None:
        """What the policy says now; see `Trigger.decide`."""
        return self._trigger.decide(now)

    def report(self) -> str:
        """Make the Evidently report of the newest window that wants one; a killed process's wishes are not lost.

        While a cycle trains, exports or is judged the report waits: it would take the processor from the version
        that the drift calls for.
        """
        cycle = self._ledger.active_cycle(self.model)
        if cycle is not None and cycle.state in _BUSY:
            return ""
        wanted = [
            row
            for row in self._ledger.drift_reports(self.model, limit=_REPORTS_LOOKED_AT)
            if row.path is None and row.payload.get("report_wanted")
        ]
        urgent = [row for row in wanted if row.payload.get("signal", {}).get("alert")]
        if urgent or not wanted:
            return self._make_report(urgent[0], niceness=_OF_ALERT) if urgent else ""
        if not self._for_reports.is_due():
            return ""
        with self._for_reports.taken():
            return self._make_report(wanted[0], niceness=_ROUTINE)

    def answer_times(self) -> tuple[ArmTimes, ...]:
        """How long answers took, by version and arm; nothing while the log cannot be read."""
        try:
            return self._answer_times.look()
        except PerennialError as exc:
            logger.warning("metrics.without_traffic", extra={"model": self.model, "error": str(exc)})
            return ()

    def compact(self) -> str:
        """Turn sealed traffic segments into Parquet."""
        return self.kept.compact()

    def retain(self) -> str:
        """Forget traffic, reports, bundles, work folders and the ledger's history beyond what the settings keep."""
        retained = self.kept.retain()
        reports = prune_reports(self._reports_folder, self._settings.drift.reports_kept)
        removed = list(remove_superfluous(self._ledger, self._workspace, self._repository, self.model))
        removed += self._removal().drop_tainted(actor="loop")
        seq, head = self._ledger.audit_head()  # in the log collector it outlives whoever cuts the database's tail
        logger.info("audit.head", extra={"model": self.model, "anchor": f"{seq}:{head}"})
        return f"{retained}, {len(reports)} reports, bundles {removed}"

    def _removal(self) -> VersionRemoval:
        return VersionRemoval(
            model=self.model,
            ledger=self._ledger,
            workspace=self._workspace,
            repository=self._repository,
            reconciler=self._reconciler,
            live=lambda: True,
        )

    @property
    def _reports_folder(self) -> Any:
        return self._workspace.reports(self.model) / "evidently"

    def _make_report(self, row: DriftReportRow, *, niceness: int) -> str:
        number = row.id or 0
        html = self._reports_folder / f"drift-{number:06d}.html"
        kept = self._settings.drift.reports_kept
        try:
            seen = reported_window(self._ledger, self._workspace, self.traffic, row)
            build_report(
                seen.reference,
                seen.window,
                seen.comparison,
                html,
                self._workspace.evidently,
                {"model": self.model, "version": str(row.version), "report": str(number)},
                self._settings.drift.report_timeout_s,
                keep_runs=kept,
                niceness=niceness,
                cancel=self._leaving,
            )
        except (PerennialError, OSError) as exc:
            if self._leaving.is_set():
                return f"report {number} was given up: {exc}"
            self._ledger.place_report(number, "")  # the next wish comes; this one would fail again
            raise
        self._ledger.place_report(number, str(html))
        prune_reports(self._reports_folder, kept)
        self._feed.record(self.model, "drift.report", report=number, path=str(html))
        return f"report {number}: {html.name}"
