"""Learns the champion's labels beside it, to tell what a retraining would buy before one is made."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perennial.continual.apprentice import LoggedAnswers
from perennial.continual.drift.worth import Worth, WorthTest
from perennial.continual.errors import NotFound
from perennial.continual.task import AnyTask, score_kept
from perennial.continual.tasks import task_named
from perennial.ops.ledger import AttemptRow, StoredExample
from perennial.ops.ledger.ports import Cycles, ErasedRows, ExampleRows, State, Versions
from perennial.ops.store.state import WORTH, WorthState
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.accuracy import AccuracyWatch

__all__ = ["WorthWatch"]

logger = logging.getLogger(__name__)
_SPARE = 10  # as of labelled errors: a tenth of the operator's budget of false retrainings
_PAGE = 1_000
_MOST_PAGES = 10  # a pass; the next one goes on
_PASS_S = 5.0
_LOOKED_FOR_ERASED_S = 30.0
_MOST_NAMES = 200_000  # of followed answers, to know a correction by


class WorthLedger(Cycles, ErasedRows, ExampleRows, State, Versions, Protocol):
    """Where labels come from, and where the finding is kept."""


@dataclass(slots=True, kw_only=True)
class _Followed:
    """One champion's labels as far as they were followed. What its newest attempt had learnt is no evidence."""

    version: int
    first: int
    cursor: int
    worth: Worth
    attempt: AttemptRow | None
    encoders: dict[int, bool] = field(default_factory=dict)  # by version: whether its embeddings are the champion's
    names: dict[int, None] = field(default_factory=dict)  # hashes of prediction ids, oldest first
    learnt: int = 0
    rows: int = 0  # in the ledger from first to cursor
    looked_at: float = 0.0

    @property
    def restart(self) -> int:
        """The id behind which evidence begins anew."""
        return 0 if self.attempt is None else self.attempt.last_example_id

    @property
    def found(self) -> bool:
        """Whether it is found that learning is worth it, in labels that no attempt had learnt."""
        return self.cursor >= self.restart and self.worth.found_at is not None

    def notes(self, prediction_id: str) -> bool:
        """Note an answer, and return whether it is followed for the first time."""
        name = hash(prediction_id)
        if name in self.names:
            return False
        self.names[name] = None
        if len(self.names) > _MOST_NAMES:
            del self.names[next(iter(self.names))]
        return True


class WorthWatch:
    """Follows the labels that the champion has not learnt, in the order in which they came, each answer once.

    All but the finding is kept in memory. After a restart, an erasure or an attempt that was turned away the labels are
    followed anew from the champion's last one. The same rows, labels and choices of the queue give the same result.
    """

    def __init__(
        self, ledger: WorthLedger, workspace: Workspace, model: str, traffic: TrafficLog, accuracy: AccuracyWatch
    ) -> None:
        self._ledger, self._model, self._traffic, self._accuracy = ledger, model, traffic, accuracy
        settings = workspace.model(model)
        self._task: AnyTask = task_named(settings.task)
        drift = settings.drift
        self._random = drift.random_label_share > 0.0
        self._test = WorthTest(
            least=drift.worth_points / 100.0, run_length=float(_SPARE * drift.requests_per_false_retraining)
        )
        self._followed: _Followed | None = None

    def look(self, champion: int) -> WorthState | None:
        """Follow the labels that came since the last pass; None of a task whose log does not hold enough for it."""
        followed = self._goes_on(champion)
        self._followed = None  # what a failing pass leaves half done is done anew
        if followed is None:
            return None
        began = time.monotonic()
        for _ in range(_MOST_PAGES):
            page = self._ledger.examples(self._model, since_id=followed.cursor, limit=_PAGE)
            if not page:
                self._move(followed, followed.restart)  # its last rows may have been relabelled or erased
                break
            if not self._take(followed, page):
                followed = self._begin(champion, followed.attempt) or followed
            if time.monotonic() - began > _PASS_S:
                break
        self._followed, state = followed, self._state(followed)
        before = WORTH.read(self._ledger, self._model)
        if state != before:
            WORTH.keep(self._ledger, self._model, state)
            if state.found and not (before is not None and before.version == champion and before.found):
                logger.info("worth.found", extra={"model": self._model, "version": champion, "gain": state.gain})
        return state

    def _goes_on(self, champion: int) -> _Followed | None:
        """What was followed so far, or a new beginning."""
        followed, attempt = self._followed, self._ledger.newest_attempt(self._model, champion)
        if followed is None or (followed.version, followed.attempt) != (champion, attempt) or self._erased(followed):
            return self._begin(champion, attempt)
        return followed

    def _begin(self, champion: int, attempt: AttemptRow | None) -> _Followed | None:
        apprentice = self._task.apprentice()
        if apprentice is None:
            return None
        first = int(self._ledger.version(self._model, champion).lineage.get("last_example_id", 0))
        return _Followed(
            version=champion,
            first=first,
            cursor=first,
            worth=Worth(test=self._test, apprentice=apprentice),
            attempt=attempt,
            looked_at=time.monotonic(),
        )

    def _erased(self, followed: _Followed) -> bool:
        if time.monotonic() - followed.looked_at < _LOOKED_FOR_ERASED_S:
            return False
        followed.looked_at = time.monotonic()
        return self._ledger.example_rows_between(self._model, followed.first, followed.cursor) != followed.rows

    def _take(self, followed: _Followed, page: Sequence[StoredExample]) -> bool:
        """Follow a page; False where a row of it was erased meanwhile, so that what was followed holds what is gone."""
        rows = [row for row, gone in zip(page, self._gone(page), strict=True) if not gone]
        self._follow(followed, [row for row in rows if row.id <= followed.restart])
        if page[-1].id >= followed.restart:
            self._move(followed, followed.restart)
        self._follow(followed, [row for row in rows if row.id > followed.restart])
        self._move(followed, page[-1].id)
        return not any(self._gone(rows))

    def _move(self, followed: _Followed, to: int) -> None:
        """Count the rows up to an id as followed; at the newest attempt's last one, evidence begins anew."""
        if to <= followed.cursor:
            return
        followed.rows += self._ledger.example_rows_between(self._model, followed.cursor, to)
        if followed.cursor < followed.restart <= to:
            followed.worth.begin_anew()
        followed.cursor = to

    def _gone(self, rows: Sequence[StoredExample]) -> tuple[bool, ...]:
        """Of each row whether it belongs to what was erased, though it may still be there."""
        marks = [(row.example.key, row.example.prediction_id, row.example.at) for row in rows]
        return self._ledger.erased_among(self._model, marks) if marks else ()

    def _follow(self, followed: _Followed, rows: Sequence[StoredExample]) -> None:
        targets = {
            row.example.prediction_id: self._task.keep(row.example).target
            for row in rows
            if row.example.prediction_id is not None and followed.notes(row.example.prediction_id)
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
            mine, other = self._encoder(followed.version), self._encoder(version)
            followed.encoders[version] = version == followed.version or (mine is not None and mine == other)
        return followed.encoders[version]

    def _encoder(self, version: int) -> str | None:
        """Its fingerprint; None of a version that tells of none or that the ledger has lost."""
        try:
            return self._ledger.version(self._model, version).encoder_fingerprint
        except NotFound:
            return None

    def _state(self, followed: _Followed) -> WorthState:
        worth, gain = followed.worth, followed.worth.gain
        told = gain if self._random else None
        return WorthState(
            version=followed.version,
            learnt=followed.learnt,
            compared=worth.compared,
            gain=None if told is None else told.value,
            low=None if told is None else told.low,
            high=None if told is None else told.high,
            rows=0 if gain is None else gain.rows,
            evidence=worth.evidence if followed.cursor >= followed.restart else 0.0,
            needed=self._test.run_length,
            found=followed.found,
            assumption=self._accuracy.assumption,
            answered=0 if followed.attempt is None else followed.attempt.version,
        )


def _reals(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)
