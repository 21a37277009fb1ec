"""A policy over a recorded history: when it would have retrained, how often for nothing, and what that was worth."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from perennial.continual.errors import DataError
from perennial.continual.policy.decide import TriggerPolicy, decide
from perennial.continual.policy.facts import DriftState, Facts, MeasuredShare

__all__ = ["ChangeFound", "History", "HistoryPoint", "ReplayResult", "Retraining", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPoint:
    """One stretch of recorded time that ends at `at`: what was observed, as the never-retrained model saw it.

    `accuracy_kept` is what that model reached in the stretch, `accuracy_fresh` what one reaches that learnt everything
    known at its beginning; without them nothing is said about accuracy.
    """

    at: datetime
    requests: int = 0
    feedback: int = 0  # rows that arrived in the stretch
    proof: int = 0  # held-out rows that arrived in it
    drift: DriftState = DriftState.OK
    drift_since: datetime | None = None
    drift_signals: tuple[str, ...] = ()
    alerted_since: datetime | None = None  # when the newest episode began that came to an alert, also after its end
    estimated_quality: float | None = None
    measured_quality: MeasuredShare | None = None
    accuracy_kept: float | None = None
    accuracy_fresh: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A recorded history, and the times at which the world really changed, as far as they are known.

    No retraining begins before `proof_needed` held-out rows have come since the one before.
    """

    champion_since: datetime
    points: tuple[HistoryPoint, ...]
    changes: tuple[datetime, ...] = ()
    reference_quality: float | None = None
    training_s: float = 0.0  # from a decision to the new version's first answer
    proof_needed: int = 0

    def __post_init__(self) -> None:
        times = [point.at for point in self.points]
        if times != sorted(times) or (times and times[0] < self.champion_since):
            raise DataError("a history's points must be in order of time, and none before champion_since; sort them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """One retraining that the policy would have started. `false`: nothing had changed since the one before."""

    at: datetime
    request: int
    reasons: tuple[str, ...]
    false: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFound:
    """One change, and how long it took until a retraining answered it; None if none did before the next change."""

    at: datetime
    delay_s: float | None
    delay_requests: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """What a policy would have done. Accuracies are means over requests, None where the history has none."""

    requests: int
    retrainings: tuple[Retraining, ...]
    changes: tuple[ChangeFound, ...]
    held: dict[str, int]  # limit -> at how many points it held a wish back
    accuracy_never: float | None
    accuracy_policy: float | None

    @property
    def false_retrainings(self) -> int:
        """How many retrainings had no change before them."""
        return sum(each.false for each in self.retrainings)

    @property
    def accuracy_saved(self) -> float | None:
        """Share of all requests that were answered right only thanks to the retrainings."""
        if self.accuracy_never is None or self.accuracy_policy is None:
            return None
        return self.accuracy_policy - self.accuracy_never


def replay(policy: TriggerPolicy, history: History) -> ReplayResult:
    """Run a policy over a history, with the memory of its own simulated retrainings.

    A retraining learns the feedback that came before it and answers the drift episode it falls into: that episode,
    seen with the new reference, is over. While traffic drifts only feedback given since then counts, as in the loop.
    What the policy does not see is how its own versions would have changed traffic.

    >>> from datetime import timezone
    >>> from perennial.continual.policy.conditions import FeedbackCount
    >>> start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    >>> points = tuple(HistoryPoint(at=start + timedelta(hours=h), requests=10, feedback=5) for h in range(1, 7))
    >>> result = replay(TriggerPolicy(when=FeedbackCount(at_least=10)), History(champion_since=start, points=points))
    >>> [(each.at.hour, each.false) for each in result.retrainings]
    [(2, True), (4, True), (6, True)]
    """
    retrainings: list[Retraining] = []
    held: Counter[str] = Counter()
    requests = proof = 0
    unlearnt: list[tuple[datetime, int]] = []
    never, kept_by_policy = _Mean(), _Mean()
    for point in history.points:
        requests += point.requests
        unlearnt.append((point.at, point.feedback))
        never.add(point.accuracy_kept, point.requests)
        kept_by_policy.add(_answered(point, history, retrainings), point.requests)
        proof += point.proof
        decision = decide(policy, _facts(point, history, retrainings, unlearnt, proof), point.at)
        held.update(name.partition(":")[0] for name in decision.held_by)
        if decision.fire:
            false = not any(_since(retrainings, history) < change <= point.at for change in history.changes)
            retrainings.append(Retraining(at=point.at, request=requests, reasons=decision.reasons, false=false))
            unlearnt, proof = [], 0
    return ReplayResult(
        requests=requests,
        retrainings=tuple(retrainings),
        changes=tuple(_found(history, retrainings)),
        held=dict(held),
        accuracy_never=never.value,
        accuracy_policy=kept_by_policy.value,
    )


class _Mean:
    """A mean weighted by requests; None as soon as one stretch has no value."""

    def __init__(self) -> None:
        self._sum, self._weight, self._known = 0.0, 0, True

    def add(self, value: float | None, weight: int) -> None:
        if weight == 0:
            return
        self._known = self._known and value is not None
        self._sum += (value or 0.0) * weight
        self._weight += weight

    @property
    def value(self) -> float | None:
        return self._sum / self._weight if self._known and self._weight else None


def _since(retrainings: list[Retraining], history: History) -> datetime:
    return retrainings[-1].at if retrainings else history.champion_since


def _facts(
    point: HistoryPoint,
    history: History,
    retrainings: list[Retraining],
    unlearnt: list[tuple[datetime, int]],
    proof: int,
) -> Facts:
    learnt_at = _since(retrainings, history)
    answered = bool(retrainings) and (point.drift_since is None or point.drift_since <= learnt_at)
    alert = not answered and point.drift is DriftState.ALERT and point.drift_since is not None
    waits = None if alert else point.alerted_since  # for labels: it is over, and no retraining has answered it
    if waits is not None and retrainings and waits <= learnt_at:
        waits = None
    since = (point.drift_since if alert else waits) or history.champion_since
    stale = bool(retrainings) and not any(learnt_at < change <= point.at for change in history.changes)
    return Facts(
        champion_since=history.champion_since,
        cycles=tuple(each.at for each in retrainings),
        unlearnt_feedback=sum(rows for at, rows in unlearnt if at >= since),
        proof=min(proof, history.proof_needed),
        proof_needed=history.proof_needed,
        drift=DriftState.ALERT if waits else DriftState.OK if answered else point.drift,
        drift_since=waits or point.drift_since,
        drift_signals=point.drift_signals,
        estimated_quality=history.reference_quality if stale else point.estimated_quality,
        measured_quality=None if stale else point.measured_quality,
        reference_quality=history.reference_quality,
    )


def _answered(point: HistoryPoint, history: History, retrainings: list[Retraining]) -> float | None:
    """Return what the simulated champion of this stretch reached: fresh if it was learnt after the newest change."""
    wait = timedelta(seconds=history.training_s)
    serving = max((each.at for each in retrainings if each.at + wait < point.at), default=None)
    changed = max((change for change in history.changes if change <= point.at), default=None)
    fresh = serving is not None and (changed is None or serving >= changed)
    return point.accuracy_fresh if fresh else point.accuracy_kept


def _found(history: History, retrainings: list[Retraining]) -> Iterable[ChangeFound]:
    changes = sorted(history.changes)
    for place, change in enumerate(changes, start=1):
        following = changes[place] if place < len(changes) else None
        answer = next((each for each in retrainings if each.at >= change), None)
        if answer is None or (following is not None and answer.at >= following):
            yield ChangeFound(at=change, delay_s=None, delay_requests=None)
            continue
        before = sum(point.requests for point in history.points if point.at <= change)
        delay_s = (answer.at - change).total_seconds()
        yield ChangeFound(at=change, delay_s=delay_s, delay_requests=answer.request - before)
