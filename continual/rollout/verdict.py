"""The verdict on a challenger that takes live requests, or on a new champion in probation."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from scipy import special

from perennial.continual.errors import DataError
from perennial.continual.rollout.e_values import mean_above, share_above

__all__ = ["LiveDecision", "LiveEvidence", "RolloutRules", "Verdict", "judge_live"]

_TESTS = 3  # quality, failures, latency: each spends a third of the error rate


class Verdict(StrEnum):
    """What the evidence says so far."""

    UNDECIDED = "undecided"
    HOLDS = "holds"
    WORSE = "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRules:
    """What counts as worse. Points are percentage points of accuracy.

    `error_rate` bounds both the chance that an equal challenger is turned away on evidence, however long it is
    watched, and the chance that one worse by `margin_points` is passed before the time limit. At the limit an equal
    one runs that risk once more, and one that is worse is passed where the labels are too few to tell.
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

    `gains` are labelled rows that only the challenger has right, `losses` those that only the champion has right,
    `ties` all others; `failed` of `asked` requests on the challenger's side were answered in its stead; `slow` of
    `timed` answers of the challenger came too late. `waiting` labels are still to be compared.
    """

    gains: int = 0
    losses: int = 0
    ties: int = 0
    asked: int = 0
    failed: int = 0
    timed: int = 0
    slow: int = 0
    waiting: int = 0

    @property
    def rows(self) -> int:
        """Labelled rows."""
        return self.gains + self.losses + self.ties

    @property
    def difference_points(self) -> float:
        """Accuracy, challenger minus champion, in points; 0 without rows."""
        return 100.0 * (self.gains - self.losses) / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDecision:
    """The verdict, why, and every figure behind it."""

    verdict: Verdict
    reasons: tuple[str, ...]
    figures: dict[str, Any]


def judge_live(evidence: LiveEvidence, rules: RolloutRules, *, at_limit: bool = False) -> LiveDecision:
    """Judge after any number of requests; `at_limit` says that there is no more time, so that a verdict must fall.

    At the limit the challenger is worse where it lost so many more rows than it gained that chance alone does so in at
    most `error_rate` of all cases (exact, one-sided, on the rows that only one version has right), and the difference
    is nearer to the margin than to 0. Else nothing speaks against it, which with few labels says little. That test
    holds for one look: set `at_limit` once.

    >>> judge_live(LiveEvidence(gains=5, losses=60, ties=900), RolloutRules()).verdict.value
    'worse'
    >>> judge_live(LiveEvidence(gains=20, losses=20, ties=960), RolloutRules()).verdict.value
    'holds'
    >>> judge_live(LiveEvidence(ties=10), RolloutRules()).verdict.value
    'undecided'
    """
    margin, needed = rules.margin_points / 100, _TESTS / rules.error_rate
    e_values = {
        "worse": mean_above(evidence.losses, evidence.gains, evidence.ties, 0.0),
        "not_worse_by_margin": mean_above(evidence.gains, evidence.losses, evidence.ties, -margin),
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
        **asdict(evidence),
        "difference_points": round(evidence.difference_points, 3),
        "e_values": e_values,
        "e_value_needed": needed,
    }
    return LiveDecision(verdict=verdict, reasons=reasons, figures=figures)


def _against(evidence: LiveEvidence, rules: RolloutRules, e_values: dict[str, float], needed: float) -> tuple[str, ...]:
    told = {
        "worse": _quality(evidence),
        "failures": f"{evidence.failed} of {evidence.asked} requests failed (limit {rules.max_failure_share:.1%})",
        "slow": f"{evidence.slow} of {evidence.timed} answers were slow (limit {rules.max_slow_share:.0%})",
    }
    return tuple(f"{what}: {told[what]} (e-value {e_values[what]:.3g})" for what in told if e_values[what] >= needed)


def _against_at_limit(evidence: LiveEvidence, rules: RolloutRules) -> tuple[str, ...]:
    chance = _sign_test(evidence.gains, evidence.losses)
    if chance > rules.error_rate or evidence.difference_points >= -rules.margin_points / 2:
        return ()
    return (f"worse at the time limit: {_quality(evidence)}; equal versions differ so by chance in {chance:.1%}",)


def _sign_test(gains: int, losses: int) -> float:
    """How often fair coins, one for each row that only one version has right, give so many losses or more."""
    return float(special.bdtrc(losses - 1, gains + losses, 0.5)) if losses else 1.0


def _quality(evidence: LiveEvidence) -> str:
    return (
        f"{evidence.difference_points:+.2f} points on {evidence.rows} labelled rows "
        f"({evidence.gains} gained, {evidence.losses} lost)"
    )
