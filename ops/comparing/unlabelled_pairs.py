"""Requests without a label, drawn by chance and answered by two versions: where they disagree, how sure they are."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perennial.continual.errors import PerennialError
from perennial.continual.records import Arm
from perennial.continual.rollout import ScoreSums, Unlabelled
from perennial.continual.task import PREDICTION, AnyTask
from perennial.ops.comparing.asking import AskingAgain
from perennial.ops.traffic import TrafficLog

__all__ = ["UnlabelledPairs"]

logger = logging.getLogger(__name__)
_ASKED_A_LOOK = 8
_DISPUTED = 300  # the newest ones, of which labels may be asked for


class UnlabelledPairs:
    """Each look draws up to eight of the requests that came since the last one, and asks the other version.

    What nobody answers is not counted. Texts that de-identification changed are left out. `disputed` are the newest
    requests on which the versions disagree.
    """

    def __init__(
        self,
        traffic: TrafficLog,
        asking: AskingAgain,
        *,
        task: AnyTask,
        versions: tuple[int, int],
        rng: np.random.Generator,
    ) -> None:
        self._traffic, self._asking, self._task = traffic, asking, task
        self._versions, self._rng = versions, rng
        self._told = [name for name in ("confidence", "known") if name in task.log_columns]
        self._fresh: list[str] = []
        self._compared = self._disagreed = self._newly_unknown = self._newly_known = 0
        self._confidence: Counter[float] = Counter()
        self.disputed: tuple[str, ...] = ()

    @property
    def counts(self) -> Unlabelled:
        """What was found so far."""
        return Unlabelled(
            compared=self._compared,
            disagreed=self._disagreed,
            newly_unknown=self._newly_unknown,
            newly_known=self._newly_known,
            confidence=ScoreSums.of(self._confidence) if self._confidence else None,
        )

    def offer(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Requests that came since the last look."""
        self._fresh += [row["prediction_id"] for row in rows if row["arm"] != Arm.FALLBACK]

    def look(self) -> None:
        """Draw, ask and count."""
        fresh, self._fresh = self._fresh, []
        if not fresh:
            return
        drawn = self._rng.permutation(len(fresh))[:_ASKED_A_LOOK]
        columns = ["prediction_id", *self._asking.side.input_columns, PREDICTION, "version", "redacted", *self._told]
        logged = self._traffic.lookup([fresh[place] for place in drawn], list(dict.fromkeys(columns))).to_pylist()
        whole = [row for row in logged if self._asking.is_whole(row)]
        for version, other in (self._versions, self._versions[::-1]):
            rows = [row for row in whole if row["version"] == other]
            for row, answer in zip(rows, self._answers(version, rows), strict=False):
                self._count(row, answer, newer=version == self._versions[1])

    def _answers(self, version: int, rows: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        if not rows:
            return ()
        try:
            return self._asking.answers(version, rows)
        except PerennialError as exc:  # the failures of live requests are counted elsewhere
            logger.info("rollout.not_compared", extra={"version": version, "rows": len(rows), "reason": str(exc)})
            return ()

    def _count(self, row: Mapping[str, Any], answer: Any, *, newer: bool) -> None:
        """Count one pair; `newer`: the answer is the newer version's, and the row the older one's."""
        self._compared += 1
        sign = 1.0 if newer else -1.0
        if not self._task.same(self._task.read_answer(row[PREDICTION]), self._task.read_answer(answer.kept)):
            self._disagreed += 1
            self.disputed = (*self.disputed, row["prediction_id"])[-_DISPUTED:]
        before, now = row.get("confidence"), answer.confidence
        if before is not None and now is not None:
            self._confidence[round(max(-1.0, min(1.0, sign * (float(now) - float(before)))), 3)] += 1
        known_before, known_now = row.get("known"), getattr(answer, "known", None)
        if known_before is not None and known_now is not None and known_before != known_now:
            newly_unknown = known_before if newer else known_now
            self._newly_unknown += bool(newly_unknown)
            self._newly_known += not newly_unknown
