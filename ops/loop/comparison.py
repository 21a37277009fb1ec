"""Two versions on the same traffic: shadow by replay, canary and probation by labels that came back."""

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
from scipy import stats

from continual import cycle as cy
from ops.ledger import Ledger
from ops.loop.events import Happenings
from ops.loop.process import run_job
from ops.loop.shadow import ShadowSpec
from ops.traffic import TrafficLog
from ops.workspace import Workspace, write_atomically

__all__ = ["ArmComparison", "Tally", "worse"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Labelled answers of one arm."""

    right: int
    wrong: int

    @property
    def rows(self) -> int:
        return self.right + self.wrong

    @property
    def accuracy(self) -> float:
        return self.right / self.rows if self.rows else float("nan")


def worse(candidate: Tally, baseline: Tally, *, alpha: float, min_rows: int) -> bool:
    """Whether the candidate answers worse, by Fisher's exact test, one-sided, at level `alpha`.

    >>> worse(Tally(right=60, wrong=40), Tally(right=95, wrong=5), alpha=0.01, min_rows=30)
    True
    >>> worse(Tally(right=6, wrong=4), Tally(right=9, wrong=1), alpha=0.01, min_rows=30)
    False
    """
    if min(candidate.rows, baseline.rows) < min_rows:
        return False
    table = [[candidate.right, candidate.wrong], [baseline.right, baseline.wrong]]
    return bool(stats.fisher_exact(table, alternative="less").pvalue < alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmComparison:
    """Judges a challenger on traffic.

    Labels are looked at repeatedly, so each look spends `alpha / looks`: at most `alpha` of the equal challengers
    are turned away over a whole step.
    """

    model: str
    ledger: Ledger
    workspace: Workspace
    traffic: TrafficLog
    happenings: Happenings
    alpha: float = 0.05
    looks: int = 20
    min_rows: int = 30

    def shadow(self, *, champion: int, challenger: int) -> cy.Event:
        """Replay logged traffic through both versions and compare their answers."""
        settings = self.workspace.model(self.model)
        folder = self.workspace.run(self.model, challenger)
        rows = self.traffic.read(last=settings.cycle.shadow_rows, columns=["prediction_id", "text"]).to_pylist()
        labels = self.ledger.feedback_labels(self.model, [row["prediction_id"] for row in rows])
        spec = ShadowSpec(
            champion_bundle=str(self.workspace.bundle(self.model, champion)),
            challenger_bundle=str(self.workspace.bundle(self.model, challenger)),
            rows=[[row["text"], labels.get(row["prediction_id"])] for row in rows if row["text"].strip()],
            threads=settings.learning.threads,
            seed=self.workspace.settings.seed,
        )
        write_atomically(folder / "shadow.json", json.dumps(asdict(spec)))
        result = run_job(
            "ops.loop.shadow",
            [str(folder / "shadow.json")],
            log=folder / "shadow.log",
            timeout_s=settings.learning.timeout_s,
            niceness=19,
            cancel=threading.Event(),
        )
        path = folder / "shadow.report.json"
        if result.exit_code != 0 or not path.is_file():
            return cy.ShadowRefused(
                reasons=(f"the shadow replay ended with exit code {result.exit_code}: {result.tail}",)
            )
        report = json.loads(path.read_text(encoding="utf-8"))
        self.happenings.tell(self.model, "shadow.finished", version=challenger, **_figures(report))
        if report["labelled_rows"] >= self.min_rows and report["accuracy_difference_points"]["high"] < 0:
            return cy.ShadowRefused(reasons=(f"worse on {report['labelled_rows']} labelled rows of the traffic",))
        return cy.ShadowAccepted()

    def canary(self, *, champion: int, challenger: int, since: datetime, over: bool) -> cy.Event | None:
        """Compare the arms on requests labelled since the step began."""
        arms = {version: self._tally(version, since) for version in (champion, challenger)}
        if worse(arms[challenger], arms[champion], alpha=self.alpha / self.looks, min_rows=self.min_rows):
            return cy.CanaryStepFailed(reasons=(_told("canary", arms[challenger], arms[champion]),))
        return cy.CanaryStepPassed() if over else None

    def probation(self, *, champion: int, previous: int, since: datetime, over: bool) -> cy.Event | None:
        """Compare the new champion's labelled answers with those of the previous one just before it."""
        new, old = self._tally(champion, since), self._tally(previous, None)
        if worse(new, old, alpha=self.alpha / self.looks, min_rows=self.min_rows):
            return cy.ProbationFailed(reasons=(_told("probation", new, old),))
        return cy.ProbationPassed() if over else None

    def _tally(self, version: int, since: datetime | None, most: int = 2_000) -> Tally:
        columns = ["prediction_id", "label", "version"]
        answers = self.traffic.read(since=since, version=version, columns=columns, last=most).to_pylist()
        labels = self.ledger.feedback_labels(self.model, [row["prediction_id"] for row in answers])
        right = [row["label"] == labels[row["prediction_id"]] for row in answers if row["prediction_id"] in labels]
        return Tally(right=int(np.sum(right)), wrong=len(right) - int(np.sum(right)))


def _told(where: str, candidate: Tally, baseline: Tally) -> str:
    return (
        f"worse in {where}: {candidate.accuracy:.3f} on {candidate.rows} labelled answers against "
        f"{baseline.accuracy:.3f} on {baseline.rows}"
    )


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if not isinstance(value, Sequence) or isinstance(value, str)}
