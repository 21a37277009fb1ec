"""What live traffic says of two versions: labelled rows answered by both, failures, and latency."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from continual.errors import PerennialError
from continual.records import Arm
from continual.rollout import LiveEvidence
from ops.ledger import Ledger
from ops.traffic import TrafficLog
from ops.triton.text_bundle import TextBundles
from ops.workspace import Workspace

__all__ = ["AskVersion", "LiveEvidenceReader"]

logger = logging.getLogger(__name__)
AskVersion = Callable[[int, Any, Any], Any]  # version, ids (B, S), mask (B, S) -> logits (B, C)
_NEWEST = 5_000  # requests looked at
_ASKED_A_LOOK = 32
_LOOK_S = 1.0
_FEWEST_TIMED = 20  # champion's batches that make a 95th percentile


class LiveEvidenceReader:
    """Pairs the versions' answers to each labelled request: one answered it live, the other is asked afterwards.

    Paired rows tell a difference with a fraction of the labels that two separate groups would need, and the labels of
    both sides of a canary count. Texts that de-identification changed are left out: what was answered is not known any
    more. At most 32 texts a second are asked, so that the comparison takes nothing from live requests.
    """

    def __init__(self, ledger: Ledger, workspace: Workspace, model: str, traffic: TrafficLog, ask: AskVersion) -> None:
        self._ledger, self._model, self._traffic, self._ask = ledger, model, traffic, ask
        self._bundles = TextBundles(workspace.repository / workspace.engine_model(model))
        self._answers: dict[tuple[str, int], str] = {}
        self._looked = float("-inf")
        self._last = LiveEvidence()

    def read(self, *, champion: int, challenger: int, since: datetime, latency_ratio: float | None) -> LiveEvidence:
        """Counts over the requests since then; once a second at most, in between the last counts are given again.

        `latency_ratio` None leaves latency out: nothing was served side by side.
        """
        if time.monotonic() - self._looked < _LOOK_S:
            return self._last
        columns = ["prediction_id", "at", "text", "label", "version", "arm", "latency_ms"]
        rows = self._traffic.read(since=since, last=_NEWEST, columns=columns).to_pylist()
        rows = [row for row in rows if row["version"] in (champion, challenger)]
        asked = [row for row in rows if row["arm"] in (Arm.CHALLENGER, Arm.FALLBACK)]
        slow, timed = (0, 0) if latency_ratio is None else _slow(rows, latency_ratio)
        gains, losses, ties = self._paired(rows, champion, challenger)
        self._last = LiveEvidence(
            gains=gains,
            losses=losses,
            ties=ties,
            asked=len(asked),
            failed=sum(row["arm"] == Arm.FALLBACK for row in asked),
            timed=timed,
            slow=slow,
        )
        self._looked = time.monotonic()
        return self._last

    def _paired(self, rows: Sequence[Mapping[str, Any]], champion: int, challenger: int) -> tuple[int, int, int]:
        usable = [row for row in rows if "[" not in row["text"] and row["text"].strip()]
        truths = self._ledger.feedback_labels(self._model, [row["prediction_id"] for row in usable])
        labelled = [row for row in usable if row["prediction_id"] in truths]
        for row in labelled:
            self._answers[row["prediction_id"], row["version"]] = row["label"]
        for version in (champion, challenger):
            missing = [row for row in labelled if (row["prediction_id"], version) not in self._answers]
            self._replay(version, missing[:_ASKED_A_LOOK])
        gains = losses = ties = 0
        for row in labelled:
            name = row["prediction_id"]
            old, new = self._answers.get((name, champion)), self._answers.get((name, challenger))
            if old is None or new is None:
                continue
            difference = (new == truths[name]) - (old == truths[name])
            gains, losses, ties = gains + (difference > 0), losses + (difference < 0), ties + (difference == 0)
        return gains, losses, ties

    def _replay(self, version: int, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        try:
            bundle = self._bundles.get(version)
            logits = self._ask(version, *bundle.tokenise([row["text"] for row in rows]))
        except PerennialError as exc:  # the live answers go on counting; the next look asks again
            logger.warning("rollout.replay_failed", extra={"version": version, "reason": str(exc)})
            return
        for row, best in zip(rows, np.asarray(logits).argmax(axis=1), strict=True):
            self._answers[row["prediction_id"], version] = bundle.labels[int(best)]


def _slow(rows: Sequence[Mapping[str, Any]], ratio: float) -> tuple[int, int]:
    """How many of the challenger's batches were slow, and how many there were. Rows of one batch share one time."""
    times: dict[str, dict[datetime, float]] = {Arm.CHAMPION: {}, Arm.CHALLENGER: {}}
    for row in rows:
        if row["arm"] in times:
            times[row["arm"]][row["at"]] = row["latency_ms"]
    champion, challenger = list(times[Arm.CHAMPION].values()), list(times[Arm.CHALLENGER].values())
    if len(champion) < _FEWEST_TIMED:
        return 0, 0
    limit = ratio * float(np.quantile(champion, 0.95))
    return sum(value > limit for value in challenger), len(challenger)
