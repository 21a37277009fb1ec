"""What live traffic says of two versions: labelled rows answered by both, failures, and latency."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from continual.errors import PerennialError, PublishFailed
from continual.records import Arm
from continual.rollout import LiveEvidence
from ops.ledger import Ledger
from ops.loop.side_by_side import SideBySide, slow_ones
from ops.traffic import TrafficLog
from ops.triton.text_bundle import TextBundles
from ops.workspace import Workspace

__all__ = ["AskVersion", "LiveEvidenceReader"]

logger = logging.getLogger(__name__)
AskVersion = Callable[[int, Any, Any], Any]  # version, ids (B, S), mask (B, S) -> logits (B, C)
_NEWEST = 5_000  # requests looked at
_ASKED_A_LOOK = 32
_LOOK_S = 1.0
_NEWEST_TRIED = 500  # requests of which texts are drawn in a probation
_TRIED_A_LOOK = 2
_BLIP_S = 0.5
_LASTING = 3  # so many different half seconds with failures are more than a process that was killed


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
        self._of: tuple[int, int, datetime, bool] | None = None  # whom `_last` tells of
        self._rng = np.random.default_rng(workspace.settings.seed)
        self._trial: SideBySide | None = None

    def read(
        self, *, champion: int, challenger: int, since: datetime, latency_ratio: float, promoted: bool = False
    ) -> LiveEvidence:
        """Counts over the requests since then; once a second at most, in between the last counts are given again.

        `promoted`: the challenger answers all requests already. Where it fails the version before it answers; and
        because nothing is served side by side, both are asked two of the newest texts at every look, in turns.
        """
        if (of := (champion, challenger, since, promoted)) != self._of:
            if self._of is None or self._of[:2] != of[:2]:
                self._answers.clear()
            self._of, self._trial = of, None
        elif time.monotonic() - self._looked < _LOOK_S:
            return self._last
        columns = ["prediction_id", "at", "text", "label", "version", "arm", "latency_ms"]
        rows = self._traffic.read(since=since, last=_NEWEST, columns=columns).to_pylist()
        rows = [row for row in rows if row["version"] in (champion, challenger)]
        arm = Arm.CHAMPION if promoted else Arm.CHALLENGER
        asked = [r for r in rows if r["arm"] == Arm.FALLBACK or (r["arm"] == arm and r["version"] == challenger)]
        failed, tried = [row["at"] for row in asked if row["arm"] == Arm.FALLBACK], len(asked)
        failures = len(failed)
        if promoted:
            trial = self._side_by_side(champion, challenger)
            slow, timed = trial.slow(latency_ratio)
            failures, tried = _lasting([*failed, *trial.failed_at], tried + trial.asked)
        else:
            slow, timed = _slow(rows, latency_ratio)
        gains, losses, ties = self._paired(rows, champion, challenger)
        self._last = LiveEvidence(
            gains=gains,
            losses=losses,
            ties=ties,
            asked=tried,
            failed=failures,
            timed=timed,
            slow=slow,
        )
        self._looked = time.monotonic()
        return self._last

    def _side_by_side(self, old: int, new: int) -> SideBySide:
        """Ask both versions some of the newest texts, those from before the promotion included."""
        if self._trial is None:
            self._trial = SideBySide(self._ask_text, old=old, new=new, seed=int(self._rng.integers(2**32)))
        logged = self._traffic.read(last=_NEWEST_TRIED, columns=["text"])["text"].to_pylist()
        texts = [text for text in logged if text.strip()] or ["are you there"]
        self._trial.look([str(text) for text in self._rng.choice(texts, _TRIED_A_LOOK)])
        return self._trial

    def _ask_text(self, version: int, text: str) -> Any:
        return self._ask(version, *self._bundles.get(version).tokenise([text]))

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
        """Ask a version for these texts; what it alone of them refuses counts as wrong.

        Where nothing is answered, the live answers go on counting and the next look asks again.
        """
        if not rows:
            return
        try:
            self._take(version, rows)
        except PublishFailed as exc:  # it answers and refuses: one text may have spoilt the others
            refused = [row for row in rows if not self._took(version, row)]
            logger.warning("rollout.refused", extra={"version": version, "rows": len(refused), "reason": str(exc)})
            if len(refused) < len(rows):
                self._answers |= {(row["prediction_id"], version): "" for row in refused}
        except PerennialError as exc:
            logger.warning("rollout.replay_failed", extra={"version": version, "reason": str(exc)})

    def _took(self, version: int, row: Mapping[str, Any]) -> bool:
        try:
            self._take(version, [row])
        except PerennialError:
            return False
        return True

    def _take(self, version: int, rows: Sequence[Mapping[str, Any]]) -> None:
        bundle = self._bundles.get(version)
        logits = self._ask(version, *bundle.tokenise([row["text"] for row in rows]))
        for row, best in zip(rows, np.asarray(logits).argmax(axis=1), strict=True):
            self._answers[row["prediction_id"], version] = bundle.labels[int(best)]


def _lasting(failed_at: Sequence[datetime], asked: int) -> tuple[int, int]:
    """Failures and requests; failures that came at once, as when a process is killed, count as one.

    A server that loses a process is restarted, and what it could not answer meanwhile says nothing of the version.
    """
    if len({at.timestamp() // _BLIP_S for at in failed_at}) >= _LASTING:
        return len(failed_at), asked
    counted = min(1, len(failed_at))
    return counted, asked - len(failed_at) + counted


def _slow(rows: Sequence[Mapping[str, Any]], ratio: float) -> tuple[int, int]:
    """How many of the challenger's batches were slow, and how many there were. Rows of one batch share one time."""
    times: dict[str, dict[datetime, float]] = {Arm.CHAMPION: {}, Arm.CHALLENGER: {}}
    for row in rows:
        if row["arm"] in times:
            times[row["arm"]][row["at"]] = row["latency_ms"]
    champion, challenger = list(times[Arm.CHAMPION].values()), list(times[Arm.CHALLENGER].values())
    return slow_ones(champion, challenger, ratio)
