"""Two versions on the same traffic: shadow by replay, canary and probation on live requests."""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from perennial.continual import cycle as cy
from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import BundleRejected, NotFound, PublishFailed
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import KILLED_RETRIES, run_job
from perennial.continual.rollout import LiveDecision, LiveEvidence, RolloutRules, Unlabelled, Verdict, judge_live
from perennial.ops.comparing.live_evidence import LiveEvidenceReader
from perennial.ops.comparing.shadow import ShadowSpec
from perennial.ops.ledger.ports import Labels, State, Versions
from perennial.ops.serving.tasks import serving_side
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.state import (
    CANARY_BEGAN,
    DISPUTED,
    LIMIT_TESTED,
    PROBATION_FIGURES,
    ROLLOUT,
    CanaryBegan,
    Disputed,
    LiveFigures,
    StateKey,
)
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog

__all__ = ["ArmComparison", "replay_shadow"]

_DISPUTED = 300  # requests that are kept to be labelled


class ComparisonLedger(Labels, State, Versions, Protocol):
    """Where labels come from, and where the figures of a comparison are kept."""


def replay_shadow(
    ledger: Labels,
    workspace: Workspace,
    model: str,
    traffic: TrafficLog,
    *,
    champion: int,
    challenger: int,
    rows: int,
    cancel: threading.Event,
) -> dict[str, Any]:
    """Replay logged traffic through both bundles in a process of its own, at the lowest priority; its report.

    Where the settings name a Ray cluster, a worker of it does that.

    Raises:
        BundleRejected: a bundle is not what its manifest says.
        PublishFailed: the process was cancelled, took too long, or ended without a report.
    """
    settings = workspace.model(model)
    folder = workspace.run(model, challenger)
    side = serving_side(settings.task)
    logged = traffic.read(last=rows, columns=["prediction_id", *side.input_columns]).to_pylist()
    labels = ledger.feedback_labels(model, [row["prediction_id"] for row in logged])
    spec = ShadowSpec(
        champion_bundle=str(workspace.bundle(model, champion)),
        challenger_bundle=str(workspace.bundle(model, challenger)),
        rows=[
            ({name: row[name] for name in side.input_columns}, labels.get(row["prediction_id"]))
            for row in logged
            if side.logged_input(row) is not None
        ],
        threads=1,
        seed=workspace.settings.seed,
        rows_per_s=settings.cycle.shadow_rows_per_s,
        task=settings.task,
        memory=str(workspace.memory(model)),
    )
    path = folder / "shadow.report.json"
    path.unlink(missing_ok=True)
    write_atomically(folder / "shadow.json", json.dumps(asdict(spec)))
    result = run_job(
        "perennial.ops.comparing.shadow",
        [str(folder / "shadow.json")],
        log=folder / "shadow.log",
        timeout_s=settings.learning.timeout_s,
        niceness=19,
        cancel=cancel,
        killed_retries=KILLED_RETRIES,
        cluster=workspace.settings.ray.cluster,
    )
    if result.exit_code != 0 or not path.is_file():
        raise JobErrors(
            what=f"the shadow replay of version {challenger}",
            failed=PublishFailed,
            refused=BundleRejected,
            log=folder / "shadow.log",
        ).of(result)
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {"champion": champion, "challenger": challenger, **report}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmComparison:
    """Judges a challenger on traffic."""

    model: str
    ledger: ComparisonLedger
    workspace: Workspace
    traffic: TrafficLog
    feed: EventFeed
    evidence: LiveEvidenceReader
    cancel: threading.Event
    min_rows: int = 30

    def shadow(self, *, champion: int, challenger: int) -> cy.Event:
        """Replay logged traffic through both versions and compare their answers.

        Raises:
            PublishFailed: it was told to end early, which says nothing about the challenger.
        """
        report = replay_shadow(
            self.ledger,
            self.workspace,
            self.model,
            self.traffic,
            champion=champion,
            challenger=challenger,
            rows=self.workspace.model(self.model).cycle.shadow_rows,
            cancel=self.cancel,
        )
        self.feed.record(self.model, "shadow.finished", version=challenger, **_figures(report))
        quality = report["accuracy_difference_points"]
        if report["labelled_rows"] >= self.min_rows and quality["high"] < 0:
            loss = f"{quality['mean']:+.2f} points (95%: {quality['low']:+.2f} to {quality['high']:+.2f})"
            return cy.ShadowRefused(reasons=(f"worse by {loss} on {report['labelled_rows']} labelled rows",))
        return cy.ShadowAccepted()

    def canary(self, *, cycle: int, champion: int, challenger: int, entered: datetime, over: bool) -> cy.Event | None:
        """Judge the challenger on everything since its canary began; `over`: it had its time at this share.

        The test at the time limit is made once a cycle, with every label that came by then, because it may not be
        looked at again and again; after it a paused canary, and one at its next share, is refused only on proof. Where
        fewer than 30 labels came, it is left to the end of the probation.
        """
        began = self._began(cycle, entered)
        evidence = self._read(champion, challenger, began, promoted=False)
        age_s = (datetime.now(UTC) - began).total_seconds()
        settings = self.workspace.model(self.model).cycle
        limit = over and age_s >= settings.canary_limit_s and not evidence.waiting
        enough = evidence.rows >= self.min_rows or settings.probation_s == 0
        tested = LIMIT_TESTED.read(self.ledger, self.model) == cycle
        decision = self._judge(evidence, at_limit=limit and enough and not tested)
        note = "nothing spoke against it at the time limit, and nothing was proven since" if tested else ""
        if limit and not enough:
            note = f"{evidence.rows} labels are too few for a test; its probation goes on with them"
        self._keep_figures("canary", cycle, (champion, challenger), began, decision, undecided=note)
        if decision.verdict is Verdict.WORSE:
            return cy.CanaryStepFailed(reasons=decision.reasons)
        if limit and enough and not tested:
            LIMIT_TESTED.keep(self.ledger, self.model, cycle)
        passed = decision.verdict is Verdict.HOLDS or tested or (limit and not enough)
        return cy.CanaryStepPassed() if over and passed else None

    def probation(
        self,
        *,
        cycle: int,
        champion: int,
        previous: int,
        since: datetime,
        settled: bool,
        over: bool,
        beside: bool = False,
    ) -> cy.Event | None:
        """Judge the new champion against the one before it, which is asked the labelled requests too.

        Labels of its canary count, and late ones for as long as it lasts. It ends when something is proven, in its
        favour not before it is `settled`. Its age makes it `over`: then the test at the limit falls, unless the canary
        had it. `beside` another cycle its figures are kept apart from that cycle's.
        """
        evidence = self._read(previous, champion, since, promoted=True, labels_since=self._canary_of(cycle))
        over = over and not evidence.waiting
        tested = LIMIT_TESTED.read(self.ledger, self.model) == cycle
        decision = self._judge(evidence, at_limit=over and not tested and evidence.rows >= self.min_rows)
        note = "nothing was proven against it in its probation" if over else ""
        key = PROBATION_FIGURES if beside else ROLLOUT
        self._keep_figures("probation", cycle, (previous, champion), since, decision, undecided=note, key=key)
        if decision.verdict is Verdict.WORSE:
            return cy.ProbationFailed(reasons=decision.reasons)
        return cy.ProbationPassed() if over or (settled and decision.verdict is Verdict.HOLDS) else None

    def _read(
        self, old: int, new: int, since: datetime, *, promoted: bool, labels_since: datetime | None = None
    ) -> LiveEvidence:
        ratio = self.workspace.model(self.model).cycle.latency_ratio
        evidence = self.evidence.read(
            champion=old,
            challenger=new,
            since=since,
            latency_ratio=ratio,
            promoted=promoted,
            labels_since=labels_since or since,
        )
        self._keep_disputed(old, new)
        return replace(evidence, unlabelled=self._with_limits(evidence.unlabelled, new))

    def _keep_disputed(self, old: int, new: int) -> None:
        """Let the labelling queue know on which requests the versions disagree; a restart forgets none of them."""
        kept = DISPUTED.read(self.ledger, self.model)
        before = kept.ids if kept is not None and (kept.champion, kept.challenger) == (old, new) else ()
        found = self.evidence.disputed(champion=old, challenger=new)
        ids = tuple(dict.fromkeys((*before, *found)))[-_DISPUTED:]
        if ids != before:
            DISPUTED.keep(self.ledger, self.model, Disputed(champion=old, challenger=new, ids=ids))

    def _with_limits(self, unlabelled: Unlabelled, new: int) -> Unlabelled:
        """What the judgement on held-out rows says of how sure and how different the versions may be."""
        try:
            gate = self.ledger.version(self.model, new).metrics.get("gate", {})
        except NotFound:
            gate = {}
        accuracies = [
            (float(gate[f"{part}_champion_accuracy"]), float(gate[f"{part}_challenger_accuracy"]))
            for part in ("fresh", "old")
            if gate.get(f"{part}_rows")
        ]
        return replace(
            unlabelled,
            calibration_error=float(gate.get("challenger_calibration_error") or 0.0),
            disagreement_limit=Unlabelled.limit_of(accuracies),
        )

    def _canary_of(self, cycle: int) -> datetime | None:
        """When this cycle's canary began, if it had one."""
        kept = CANARY_BEGAN.read(self.ledger, self.model)
        return datetime.fromisoformat(kept.at) if kept is not None and kept.cycle == cycle else None

    def _judge(self, evidence: LiveEvidence, *, at_limit: bool) -> LiveDecision:
        settings = self.workspace.model(self.model).cycle
        rules = RolloutRules(margin_points=settings.margin_points, error_rate=settings.rollout_error_rate)
        return judge_live(evidence, rules, at_limit=at_limit)

    def _keep_figures(
        self,
        phase: str,
        cycle: int,
        versions: tuple[int, int],
        since: datetime,
        decision: LiveDecision,
        *,
        undecided: str,
        key: StateKey[LiveFigures] = ROLLOUT,
    ) -> None:
        """Keep the figures for whoever asks; `undecided` is the reason to tell where no verdict has one."""
        champion, challenger = versions
        figures = LiveFigures(
            phase=phase,
            cycle=cycle,
            champion=champion,
            challenger=challenger,
            since=since.isoformat(),
            verdict=decision.verdict.value,
            reasons=decision.reasons or (undecided,) * bool(undecided),
            **decision.figures,
        )
        if key.read(self.ledger, self.model) != figures:
            key.keep(self.ledger, self.model, figures)

    def _began(self, cycle: int, now: datetime) -> datetime:
        """When this cycle's canary began; kept in the ledger, because it has several steps and may be resumed."""
        kept = CANARY_BEGAN.read(self.ledger, self.model)
        if kept is None or kept.cycle != cycle or datetime.fromisoformat(kept.at) > now:  # a wrong clock's
            CANARY_BEGAN.keep(self.ledger, self.model, CanaryBegan(cycle=cycle, at=now.isoformat()))
            return now
        return datetime.fromisoformat(kept.at)


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if not isinstance(value, Sequence) or isinstance(value, str)}
