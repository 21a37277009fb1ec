"""Requests with a known target, answered by two versions: one answered live, the other is asked afterwards."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any, Protocol

from perennial.continual.errors import PerennialError, PublishFailed
from perennial.continual.labelling import Reason
from perennial.continual.rollout import ScoreSums
from perennial.continual.task import AnyTask, score_kept
from perennial.ops.comparing.asking import AskingAgain
from perennial.ops.ledger.ports import Labels, State
from perennial.ops.prediction_ids import id_time_us
from perennial.ops.store.state import LABEL_QUEUE
from perennial.ops.traffic import TrafficLog

__all__ = ["LabelledPairs", "PairsLedger"]

logger = logging.getLogger(__name__)
_ASKED_A_LOOK = 32
_SOUGHT_A_LOOK = 64  # in the log; some of them were answered by neither version, or their text was changed
_CHECKED_A_LOOK = 500  # pairs whose label may have been corrected
_PAGE = 1_000
_FOR_DOUBT = frozenset({Reason.UNCERTAIN.value, Reason.DRIFTED.value, Reason.UNKNOWN.value})
_WHOLE = (1.0, -1.0, 0.0)
_ID_US = 1_000  # an id tells the millisecond of its request
_SLACK = timedelta(seconds=60)  # between the clocks of those who answer and those who take labels, and for a full disk


class PairsLedger(Labels, State, Protocol):
    """Where labels come from, and which of them were asked for."""


@dataclass(slots=True)
class _Pair:
    disputed: bool
    target: str
    answers: tuple[str, str]  # the older version's, the newer one's; empty where one refused

    def difference(self, task: AnyTask) -> float:
        """The newer version's score minus the older one's; a refusal scores 0."""
        old, new = (score_kept(task, answer, self.target) if answer else 0.0 for answer in self.answers)
        return new - old


class LabelledPairs:
    """Counts over the labelled requests since a moment; each `look` takes on what came meanwhile.

    A label is taken whenever it comes, however many requests after its own; those that are too many for one look wait
    for the next. The newest label of a request counts: a correction moves its row from one count to another, at the
    latest when all pairs have been checked in turns, 500 a look. A row that is erased before it was paired is left out,
    a pair stays. Kept are ids, labels and answers; texts are read when they are asked.

    Labels that the queue asked for because the versions disagree are counted apart too: they are drawn by chance from
    all on which they do. Those that it asked for out of doubt speak for themselves alone, one of thousands, and are
    left out.
    """

    def __init__(
        self,
        ledger: PairsLedger,
        model: str,
        traffic: TrafficLog,
        asking: AskingAgain,
        *,
        task: AnyTask,
        versions: tuple[int, int],
        since: datetime,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ledger, self._model, self._traffic = ledger, model, traffic
        self._asking, self._task = asking, task
        self._versions, self._since, self._now = versions, since, now
        self._cursor = 0
        self._waiting: dict[str, str] = {}  # labels whose request is to be found and asked, in order
        self._again: dict[str, str] = {}  # those that found no answer at first
        self._pairs: dict[str, _Pair] = {}
        self._names: list[str] = []  # of the pairs
        self._checked = 0
        self._came: Counter[float] = Counter()  # how many pairs have each difference
        self._asked: Counter[float] = Counter()  # the same of those asked for because the versions disagree
        self._reasons: dict[str, str] = {}  # for which a label was asked

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many pairs the newer version answered better, how many the older one, and how many neither."""
        return _counts(self._differences)

    @property
    def disputed(self) -> dict[str, int]:
        """The same of those pairs that were labelled because the versions disagree on them."""
        names = ("disputed_gains", "disputed_losses", "disputed_ties")
        return dict(zip(names, _counts(self._asked), strict=True))

    @property
    def _differences(self) -> Counter[float]:
        return self._came + self._asked

    @property
    def scores(self) -> ScoreSums | None:
        """By how much they were better; None while each difference is a whole one, so that the counts say it all."""
        graded = any(count and difference not in _WHOLE for difference, count in self._differences.items())
        return ScoreSums.of(self._differences) if graded else None

    @property
    def waiting(self) -> int:
        """How many labels came whose request was not looked for yet."""
        return len(self._waiting)

    def look(self) -> None:
        """Take labels that came, corrections among those that are known, and ask for at most 32 answers."""
        self._take_labels()
        self._check_labels()
        rows = self._seek()
        for version, other in (self._versions, self._versions[::-1]):
            live = [row for row in rows if row["version"] == other]
            for row, answer in zip(live, self._replay(version, live), strict=True):
                self._settle(row, version, answer)

    def _take_labels(self) -> None:
        begin_us = self._since.timestamp() * 1e6 - _ID_US
        newest = self._ledger.last_feedback_id(self._model, after_id=self._cursor)
        while self._cursor < newest:
            page = self._ledger.first_feedback(self._model, _PAGE, after_id=self._cursor, since=self._since - _SLACK)
            if page:
                chosen = LABEL_QUEUE.read(self._ledger, self._model) or ()
                self._reasons = {row.prediction_id: row.reason for row in chosen}
            for row in page:
                self._cursor = row.id
                if self._reasons.get(row.prediction_id) in _FOR_DOUBT:
                    continue
                if (id_time_us(row.prediction_id) or 0) > begin_us:
                    self._waiting[row.prediction_id] = row.label
            if len(page) < _PAGE:  # what is older is of requests before this period, also when it is corrected
                self._cursor = max(self._cursor, newest)

    def _check_labels(self) -> None:
        names = self._names[self._checked : self._checked + _CHECKED_A_LOOK]
        self._checked = self._checked + len(names) if len(names) == _CHECKED_A_LOOK else 0
        for name, label in self._ledger.feedback_labels(self._model, names).items():
            pair = self._pairs[name]
            if pair.target != label:
                self._count(pair, -1)
                pair.target = label
                self._count(pair, 1)

    def _count(self, pair: _Pair, rows: int) -> None:
        (self._asked if pair.disputed else self._came)[pair.difference(self._task)] += rows

    def _seek(self) -> Sequence[Mapping[str, Any]]:
        """The next rows to ask; what can never be paired is dropped, what is not in the log yet is sought again."""
        names = list(islice(chain(self._waiting, self._again), _SOUGHT_A_LOOK))
        columns = ["prediction_id", "at", *self._asking.side.input_columns, "prediction", "version", "redacted"]
        logged = {row["prediction_id"]: row for row in self._traffic.lookup(names, columns).to_pylist()}
        settled_us = (self._now() - _SLACK).timestamp() * 1e6
        for name in names:
            row = logged.get(name)
            if row is None:
                label = self._take(name)
                if (id_time_us(name) or 0) > settled_us:
                    self._again[name] = label
            elif not self._usable(row):
                self._take(name)
                del logged[name]
        return [logged[name] for name in names if name in logged][:_ASKED_A_LOOK]

    def _take(self, name: str) -> str:
        return self._waiting.pop(name) if name in self._waiting else self._again.pop(name)

    def _usable(self, row: Mapping[str, Any]) -> bool:
        mine = row["at"] >= self._since and row["version"] in self._versions
        return bool(mine and self._asking.is_whole(row))

    def _settle(self, row: Mapping[str, Any], version: int, answer: str | None) -> None:
        """Count a row; one that got no answer comes after the others, so that it keeps none from being asked."""
        name = row["prediction_id"]
        target = self._take(name)
        if answer is None:
            self._again[name] = target
            return
        new = version == self._versions[1]
        pair = _Pair(
            self._reasons.get(name) == Reason.DISPUTED,
            target,
            (row["prediction"], answer) if new else (answer, row["prediction"]),
        )
        self._pairs[name] = pair
        self._names.append(name)
        self._count(pair, 1)

    def _replay(self, version: int, rows: Sequence[Mapping[str, Any]]) -> list[str | None]:
        """A version's answers to these texts; what it alone of them refuses scores 0.

        None where nothing is answered: a later look asks again.
        """
        if not rows:
            return []
        try:
            return [*self._answers(version, rows)]
        except PublishFailed as exc:  # it answers and refuses: one text may have spoilt the others
            answers = [self._answer(version, row) for row in rows]
            refused = answers.count(None)
            logger.warning("rollout.refused", extra={"version": version, "rows": refused, "reason": str(exc)})
            return [answer or "" for answer in answers] if refused < len(rows) else answers
        except PerennialError as exc:
            logger.warning("rollout.replay_failed", extra={"version": version, "reason": str(exc)})
            return [None] * len(rows)

    def _answer(self, version: int, row: Mapping[str, Any]) -> str | None:
        try:
            return self._answers(version, [row])[0]
        except PerennialError:
            return None

    def _answers(self, version: int, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        return [answer.kept for answer in self._asking.answers(version, rows)]


def _counts(differences: Counter[float]) -> tuple[int, int, int]:
    """Of gains, losses and ties."""
    gains = sum(count for difference, count in differences.items() if difference > 0)
    losses = sum(count for difference, count in differences.items() if difference < 0)
    return gains, losses, differences[0.0]
