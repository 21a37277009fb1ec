"""What live traffic says of two versions: labelled rows answered by both, failures, and latency."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from perennial.continual.records import Arm
from perennial.continual.rollout import LiveEvidence
from perennial.continual.tasks import task_named
from perennial.ops.comparing.asking import AskingAgain, AskVersion
from perennial.ops.comparing.labelled_pairs import LabelledPairs, PairsLedger
from perennial.ops.comparing.request_counts import Episodes, LastingFailures, NewRows, SlowAnswers
from perennial.ops.comparing.side_by_side import SideBySide
from perennial.ops.comparing.unlabelled_pairs import UnlabelledPairs
from perennial.ops.serving.router.router import CHALLENGER_PAUSE_S
from perennial.ops.serving.router.versions import VersionSides
from perennial.ops.serving.tasks import serving_side
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog

__all__ = ["AskVersion", "LiveEvidenceReader"]

_LOOK_S = 1.0
_NEWEST_TRIED = 500  # requests of which texts are drawn in a probation
_TRIED_A_LOOK = 2


class LiveEvidenceReader:
    """Pairs the versions' answers to each labelled request: one answered it live, the other is asked afterwards.

    Paired rows tell a difference with a fraction of the labels that two separate groups would need, and the labels of
    both sides of a canary count. Texts that de-identification changed are left out: what was answered is not known any
    more. At most 32 texts a second are asked, so that the comparison takes nothing from live requests.

    Counts go on from look to look, however long the period. A new process counts labels from the period's beginning,
    failures and times from the last hour on.
    """

    def __init__(
        self,
        ledger: PairsLedger,
        workspace: Workspace,
        model: str,
        traffic: TrafficLog,
        ask: AskVersion,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ledger, self._model, self._traffic = ledger, model, traffic
        self._task = task_named(workspace.model(model).task)
        side = serving_side(self._task.name)
        self._asking = AskingAgain(
            side=side,
            sides=VersionSides(side, workspace.repository / workspace.engine_model(model)),
            memory=side.memory(workspace.memory(model)),
            ask=ask,
        )
        self._challenger_limit_s, self._clock = workspace.settings.triton.challenger_limit_s, clock
        self._now = now
        self._rng = np.random.default_rng(workspace.settings.seed)
        self._counted: dict[_Of, _Counted] = {}

    def read(
        self,
        *,
        champion: int,
        challenger: int,
        since: datetime,
        latency_ratio: float,
        promoted: bool = False,
        labels_since: datetime | None = None,
    ) -> LiveEvidence:
        """Counts over the requests since then; once a second at most, in between the last counts are given again.

        `labels_since`: labels of earlier requests count too, as those of the canary do in a probation. Two comparisons
        may go on side by side: a canary, and the probation of its champion.

        `promoted`: the challenger answers all requests already. Where it fails the version before it answers; and
        because nothing is served side by side, both are asked two of the newest texts at every look, in turns.
        """
        of = (champion, challenger, since, promoted)
        counted = self._counted.get(of)
        if counted is None:
            counted = self._begin(of, labels_since or since, latency_ratio)
            newest = dict(list(self._counted.items())[-1:])
            self._counted = {**newest, of: counted}
        elif self._clock() - counted.looked < _LOOK_S:
            return counted.last
        counted.last = self._look(counted)
        counted.looked = self._clock()
        return counted.last

    def _begin(self, of: "_Of", labels_since: datetime, latency_ratio: float) -> "_Counted":
        champion, challenger, since, promoted = of
        versions = (champion, challenger)
        # calls that began while the first one hung are given up by so much later
        pause_s = 2 * self._challenger_limit_s + CHALLENGER_PAUSE_S
        seed = int(self._rng.integers(2**32))
        return _Counted(
            of=of,
            pairs=LabelledPairs(
                self._ledger,
                self._model,
                self._traffic,
                self._asking,
                task=self._task,
                versions=versions,
                since=labels_since,
                now=self._now,
            ),
            unlabelled=UnlabelledPairs(
                self._traffic,
                self._asking,
                task=self._task,
                versions=versions,
                rng=np.random.default_rng(seed),
            ),
            rows=NewRows(self._traffic, versions=versions, since=since, now=self._now),
            failures=LastingFailures() if promoted else Episodes(pause_s=pause_s),
            slow=SlowAnswers(latency_ratio),
            trial=SideBySide(self._ask_one, old=champion, new=challenger, seed=seed) if promoted else None,
        )

    def _look(self, counted: "_Counted") -> LiveEvidence:
        for rows in counted.rows.read():
            counted.take(rows)
        if counted.trial is not None:
            for at in counted.trial.look(self._newest()):
                counted.failures.add(at.timestamp())
        counted.pairs.look()
        counted.unlabelled.look()
        return counted.evidence()

    def disputed(self, *, champion: int, challenger: int) -> tuple[str, ...]:
        """The newest requests on which two versions under comparison disagree, whose label would tell most."""
        versions = (champion, challenger)
        found = [counted.unlabelled.disputed for of, counted in self._counted.items() if of[:2] == versions]
        return found[-1] if found else ()

    def _newest(self) -> Sequence[Any]:
        """Some of the newest inputs, those from before the promotion included."""
        side = self._asking.side
        logged = self._traffic.read(last=_NEWEST_TRIED, columns=list(side.input_columns))
        inputs = list[Any]()
        for place in self._rng.permutation(logged.num_rows):
            (row,) = logged.slice(int(place), 1).to_pylist()  # the others are not made rows of
            inputs += [] if (task_input := side.logged_input(row)) is None else [task_input]
            if len(inputs) == _TRIED_A_LOOK:
                break
        inputs = inputs or [side.probe]
        return self._asking.memory.recalled([inputs[place % len(inputs)] for place in range(_TRIED_A_LOOK)])

    def _ask_one(self, version: int, task_input: Any) -> Any:
        return self._asking.ask(version, self._asking.sides.get(version).encode([task_input]))


_Of = tuple[int, int, datetime, bool]  # champion, challenger, since, promoted


@dataclass(slots=True, kw_only=True)
class _Counted:
    """What was counted of one period so far."""

    of: _Of
    pairs: LabelledPairs
    unlabelled: UnlabelledPairs
    rows: NewRows
    failures: Episodes | LastingFailures
    slow: SlowAnswers
    trial: SideBySide | None
    answered: int = 0
    looked: float = float("-inf")
    last: LiveEvidence = field(default_factory=LiveEvidence)

    def take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows that no earlier look had."""
        _, challenger, _, promoted = self.of
        arm = Arm.CHAMPION if promoted else Arm.CHALLENGER
        for row in rows:
            if row["arm"] == Arm.FALLBACK:
                self.failures.add(row["at"].timestamp())
            elif row["arm"] == arm and row["version"] == challenger:
                self.answered += 1
        self.slow.add(rows)
        self.unlabelled.offer(rows)

    def evidence(self) -> LiveEvidence:
        """The counts as they stand."""
        slow, timed, answered = self.slow.slow, self.slow.timed, self.answered
        if self.trial is not None:
            slow, timed = self.trial.slow(self.slow.ratio)
            answered += self.trial.answered
        gains, losses, ties = self.pairs.counts
        failed = self.failures.count
        return LiveEvidence(
            gains=gains,
            losses=losses,
            ties=ties,
            asked=answered + failed,
            failed=failed,
            timed=timed,
            slow=slow,
            waiting=self.pairs.waiting,
            scores=self.pairs.scores,
            **self.pairs.disputed,
            unlabelled=self.unlabelled.counts,
        )
