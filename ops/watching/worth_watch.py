"""Learns the champion's labels beside it, to tell what a retraining would buy before one is made."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perennial.continual.apprentice import LoggedAnswers
from perennial.continual.drift.worth import Worth, WorthTest
from perennial.continual.task import AnyTask, score_kept
from perennial.continual.tasks import task_named
from perennial.ops.ledger import StoredExample, VersionState
from perennial.ops.ledger.ports import Cycles, ExampleRows, State, Versions
from perennial.ops.store.state import WORTH, WorthState
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.accuracy import AccuracyWatch

__all__ = ["WorthWatch", "refused_attempts"]

logger = logging.getLogger(__name__)
_SPARE = 10  # as of labelled errors: a tenth of the operator's budget of false retrainings
_PAGE = 1_000
_MOST_PAGES = 10  # a pass; the next one goes on
_LOOKED_FOR_ERASED_S = 30.0


class WorthLedger(Cycles, ExampleRows, State, Versions, Protocol):
    """Where labels come from, and where the finding is kept."""


@dataclass(slots=True, kw_only=True)
class _Followed:
    """One champion's labels as far as they were followed. `restarts` are the ids behind which evidence begins anew."""

    version: int
    first: int
    cursor: int
    worth: Worth
    restarts: tuple[int, ...]
    encoders: dict[int, bool] = field(default_factory=dict)  # by version: whether its embeddings are the champion's
    learnt: int = 0
    rows: int = 0  # in the ledger from first to cursor
    looked_at: float = 0.0


class WorthWatch:
    """Follows the labels that the champion has not learnt, in the order in which they came, each once.

    All but the finding is kept in memory. After a restart, an erasure or a refused attempt the labels are followed anew
    from the champion's last one, to the same result.
    """

    def __init__(
        self, ledger: WorthLedger, workspace: Workspace, model: str, traffic: TrafficLog, accuracy: AccuracyWatch
    ) -> None:
        self._ledger, self._model, self._traffic, self._accuracy = ledger, model, traffic, accuracy
        settings = workspace.model(model)
        self._task: AnyTask = task_named(settings.task)
        drift = settings.drift
        self._test = WorthTest(
            least=drift.worth_points / 100.0, run_length=float(_SPARE * drift.requests_per_false_retraining)
        )
        self._followed: _Followed | None = None
        self._cycle: tuple[int, str | None] | None = None  # the newest one, and how it ended

    def look(self, champion: int) -> WorthState | None:
        """Follow the labels that came since the last pass; None of a task whose log does not hold enough for it."""
        followed = self._goes_on(champion)
        if followed is None:
            return None
        for _ in range(_MOST_PAGES):
            page = self._ledger.examples(self._model, since_id=followed.cursor, limit=_PAGE)
            if not page:
                break
            self._take(followed, page)
        state = self._state(followed)
        before = WORTH.read(self._ledger, self._model)
        if state != before:
            WORTH.keep(self._ledger, self._model, state)
            if state.found and not (before is not None and before.version == champion and before.found):
                logger.info("worth.found", extra={"model": self._model, "version": champion, "gain": state.gain})
        return state

    def _goes_on(self, champion: int) -> _Followed | None:
        """What was followed so far, or a new beginning."""
        newest = self._ledger.cycles(self._model, limit=1)
        cycle = (newest[0].id, newest[0].outcome) if newest else None
        followed = self._followed
        if followed is not None and followed.version == champion and not self._erased(followed):
            if cycle == self._cycle:
                return followed
            if self._restarts(champion) == followed.restarts:
                self._cycle = cycle
                return followed
        apprentice = self._task.apprentice()
        if apprentice is None:
            return None
        first = int(self._ledger.version(self._model, champion).lineage.get("last_example_id", 0))
        self._cycle = cycle
        self._followed = _Followed(
            version=champion,
            first=first,
            cursor=first,
            worth=Worth(test=self._test, apprentice=apprentice),
            restarts=self._restarts(champion),
            looked_at=time.monotonic(),
        )
        return self._followed

    def _restarts(self, champion: int) -> tuple[int, ...]:
        return tuple(
            sorted(int(row.lineage["last_example_id"]) for row in refused_attempts(self._ledger, self._model, champion))
        )

    def _erased(self, followed: _Followed) -> bool:
        if time.monotonic() - followed.looked_at < _LOOKED_FOR_ERASED_S:
            return False
        followed.looked_at = time.monotonic()
        return self._ledger.example_rows_between(self._model, followed.first, followed.cursor) != followed.rows

    def _take(self, followed: _Followed, page: Sequence[StoredExample]) -> None:
        for begin, end in self._stretches(followed, page):
            rows = [row for row in page if begin < row.id <= end]
            self._follow(followed, rows)
            if end in followed.restarts:
                followed.worth.begin_anew()
        followed.cursor = page[-1].id
        followed.rows = self._ledger.example_rows_between(self._model, followed.first, followed.cursor)

    def _stretches(self, followed: _Followed, page: Sequence[StoredExample]) -> list[tuple[int, int]]:
        """The ids of a page cut where evidence begins anew."""
        last = page[-1].id
        cuts = [cut for cut in followed.restarts if followed.cursor < cut < last]
        edges = [followed.cursor, *cuts, last]
        return list(pairwise(edges))

    def _follow(self, followed: _Followed, rows: Sequence[StoredExample]) -> None:
        targets = {
            row.example.prediction_id: self._task.keep(row.example).target
            for row in rows
            if row.example.prediction_id is not None
        }
        if not targets:
            return
        columns = ["prediction_id", "prediction", "version", "embedding"]
        sure = "confidence" in self._task.log_columns
        table = self._traffic.lookup(list(targets), columns=[*columns, *(["confidence"] if sure else [])])
        logged = {row["prediction_id"]: row for row in table.to_pylist()}
        answered = [
            logged[name]
            for name in targets
            if name in logged and self._same_encoder(followed, logged[name]["version"]) and logged[name]["embedding"]
        ]
        if not answered:
            return
        names = [row["prediction_id"] for row in answered]
        wanted = [targets[name] for name in names]
        followed.worth.follow(
            LoggedAnswers(
                embeddings=np.asarray([row["embedding"] for row in answered], dtype=np.float32),
                answers=[row["prediction"] for row in answered],
                confidences=_reals([row["confidence"] for row in answered]) if sure else None,
            ),
            wanted,
            champion=[
                self._score(row["prediction"], target) if self._speaks(followed, row) else None
                for row, target in zip(answered, wanted, strict=True)
            ],
            score=self._score,
        )
        followed.learnt += len(answered)

    def _speaks(self, followed: _Followed, row: dict[str, Any]) -> bool:
        """Whether the champion gave the answer, and its label was not asked for because of it."""
        return row["version"] == followed.version and self._accuracy.counts(row["prediction_id"])

    def _score(self, answer: str, target: str) -> float:
        return score_kept(self._task, answer, target)

    def _same_encoder(self, followed: _Followed, version: int) -> bool:
        if version not in followed.encoders:
            mine, other = (
                self._ledger.version(self._model, number).encoder_fingerprint for number in (followed.version, version)
            )
            followed.encoders[version] = version == followed.version or (mine is not None and mine == other)
        return followed.encoders[version]

    def _state(self, followed: _Followed) -> WorthState:
        worth, gain = followed.worth, followed.worth.gain
        return WorthState(
            version=followed.version,
            learnt=followed.learnt,
            compared=worth.compared,
            gain=None if gain is None else gain.value,
            low=None if gain is None else gain.low,
            high=None if gain is None else gain.high,
            rows=0 if gain is None else gain.rows,
            evidence=worth.evidence,
            needed=self._test.run_length,
            found=worth.found_at is not None,
        )


def refused_attempts(ledger: Versions, model: str, champion: int) -> list[Any]:
    """The versions that were refused in this champion's place after they had learnt, oldest first."""
    return [
        row
        for row in ledger.versions(model)
        if row.parent == champion and row.state is VersionState.REFUSED and "last_example_id" in row.lineage
    ]


def _reals(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)
