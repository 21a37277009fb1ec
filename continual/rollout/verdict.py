"""The verdict on a challenger that takes live requests, or on a new champion in probation."""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from scipy import special

from perennial.continual.errors import DataError
from perennial.continual.rollout.e_values import ScoreSums, mean_score_above, share_above

__all__ = ["LiveDecision", "LiveEvidence", "RolloutRules", "Verdict", "judge_live"]

_TESTS = 3  # quality, failures, latency: each spends a third of the error rate


class Verdict(StrEnum):
    """What the evidence says so far."""

    UNDECIDED = "undecided"
    HOLDS = "holds"
    WORSE = "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRules:
    """What counts as worse. Points are hundredths of the task's score, which for right or wrong is accuracy.

    `error_rate` bounds both the chance that an equal challenger is turned away on evidence, however long it is
    watched, and the chance that one worse by `margin_points` is passed before the time limit. At the limit an equal
    one runs that risk once more, and one that is worse is passed where the rows are too few to tell.
    """

    margin_points: float = 3.0
    error_rate: float = 0.05
    max_failure_share: float = 0.01  # of the requests on its side
    max_slow_share: float = 0.10  # slower than the champion's 95th percentile times `latency_ratio`

    def __post_init__(self) -> None:
        if not 0 < self.margin_points < 100 or not 0 < self.error_rate < 0.5:
            raise DataError(
                f"rollout margin {self.margin_points} points must lie in (0, 100), error rate {self.error_rate} in "
                f"(0, 0.5)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEvidence:
    """Counts since the comparison began.

    `gains` are rows that the challenger answered better, `losses` those that the champion answered better, `ties` all
    others; `scores` holds by how much, and is None where each difference is a whole one: right or wrong. `failed` of
    `asked` requests on the challenger's side were answered in its stead; `slow` of `timed` answers of the challenger
    came too late. `waiting` rows are still to be compared.
    """

    gains: int = 0
    losses: int = 0
    ties: int = 0
    asked: int = 0
    failed: int = 0
    timed: int = 0
    slow: int = 0
    waiting: int = 0
    scores: ScoreSums | None = None

    def __post_init__(self) -> None:
        if self.scores is not None and self.scores.rows != self.rows:
            raise DataError(f"scores of {self.scores.rows} rows were given with {self.rows} rows; give those of all")

    @property
    def rows(self) -> int:
        """Rows whose target is known."""
        return self.gains + self.losses + self.ties

    @property
    def sums(self) -> ScoreSums:
        """By how much the rows differ."""
        return self.scores or ScoreSums.of({1.0: self.gains, -1.0: self.losses, 0.0: self.ties})

    @property
    def difference_points(self) -> float:
        """Mean score, challenger minus champion, in points; 0 without rows."""
        sums = self.sums
        return 100.0 * (sums.gained - sums.lost) / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDecision:
    """The verdict, why, and every figure behind it."""

    verdict: Verdict
    reasons: tuple[str, ...]
    figures: dict[str, Any]


def judge_live(evidence: LiveEvidence, rules: RolloutRules, *, at_limit: bool = False) -> LiveDecision:
    """Judge after any number of requests; `at_limit` says that there is no more time, so that a verdict must fall.

    At the limit the challenger is worse where it lost so many more rows than it gained that chance alone does so in at
    most `error_rate` of all cases (one-sided, on the rows that one version answered better), and the difference is
    nearer to the margin than to 0. Else nothing speaks against it, which with few rows says little. That test holds
    for one look: set `at_limit` once.

    >>> judge_live(LiveEvidence(gains=5, losses=60, ties=900), RolloutRules()).verdict.value
    'worse'
    >>> judge_live(LiveEvidence(gains=20, losses=20, ties=960), RolloutRules()).verdict.value
    'holds'
    >>> judge_live(LiveEvidence(ties=10), RolloutRules()).verdict.value
    'undecided'
    """
    margin, needed = rules.margin_points / 100, _TESTS / rules.error_rate
    e_values = {
        "worse": mean_score_above(evidence.sums.mirrored, 0.0),
        "not_worse_by_margin": mean_score_above(evidence.sums, -margin),
        "failures": share_above(evidence.failed, evidence.asked, rules.max_failure_share),
        "slow": share_above(evidence.slow, evidence.timed, rules.max_slow_share),
    }
    against = _against(evidence, rules, e_values, needed)
    proven = e_values["not_worse_by_margin"] >= 1 / rules.error_rate
    if at_limit and not against and not proven:
        against = _against_at_limit(evidence, rules)
    if against:
        verdict, reasons = Verdict.WORSE, against
    elif proven:
        verdict, reasons = Verdict.HOLDS, (f"not worse by {rules.margin_points:g} points: {_quality(evidence)}",)
    elif at_limit:
        verdict, reasons = Verdict.HOLDS, (f"nothing speaks against it at the time limit: {_quality(evidence)}",)
    else:
        verdict, reasons = Verdict.UNDECIDED, ()
    figures = {
        **_counts(evidence),
        "difference_points": round(evidence.difference_points, 3),
        "e_values": e_values,
        "e_value_needed": needed,
    }
    return LiveDecision(verdict=verdict, reasons=reasons, figures=figures)


def _counts(evidence: LiveEvidence) -> dict[str, Any]:
    counts = asdict(evidence)
    scores = counts.pop("scores")
    return counts if scores is None else counts | {"gained": scores["gained"], "lost": scores["lost"]}


def _against(evidence: LiveEvidence, rules: RolloutRules, e_values: dict[str, float], needed: float) -> tuple[str, ...]:
    sentences = {
        "worse": _quality(evidence),
        "failures": f"{evidence.failed} of {evidence.asked} requests failed (limit {rules.max_failure_share:.1%})",
        "slow": f"{evidence.slow} of {evidence.timed} answers were slow (limit {rules.max_slow_share:.0%})",
    }
    return tuple(
        f"{what}: {sentences[what]} (e-value {e_values[what]:.3g})" for what in sentences if e_values[what] >= needed
    )


def _against_at_limit(evidence: LiveEvidence, rules: RolloutRules) -> tuple[str, ...]:
    chance = _sign_test(evidence.sums)
    if chance > rules.error_rate or evidence.difference_points >= -rules.margin_points / 2:
        return ()
    return (f"worse at the time limit: {_quality(evidence)}; equal versions differ so by chance in {chance:.1%}",)


def _sign_test(sums: ScoreSums) -> float:
    """How often the sum is as low or lower where a fair coin says, for each row, which version was better by so much.

    Exact for right and wrong. For graded scores it is a bound from above, whatever the sizes of the differences.
    Source: Hoeffding's inequality for independent signs, JASA 58, 1963, theorem 2.
    """
    if not sums.lost:
        return 1.0
    if sums.whole:
        return float(special.bdtrc(int(sums.lost) - 1, int(sums.gained + sums.lost), 0.5))
    behind = max(0.0, sums.lost - sums.gained)
    return math.exp(-(behind**2) / (2 * (sums.gained_squares + sums.lost_squares)))


def _quality(evidence: LiveEvidence) -> str:
    return (
        f"{evidence.difference_points:+.2f} points on {evidence.rows} scored rows "
        f"({evidence.gains} gained, {evidence.losses} lost)"
    )
