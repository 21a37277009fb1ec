"""The verdict on a challenger that takes live requests, or on a new champion in probation."""

import math
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from perennial.continual.errors import DataError
from perennial.continual.rollout.e_values import ScoreSums, mean_score_above, share_above
from perennial.continual.rollout.limit_test import critical_loss
from perennial.continual.rollout.unlabelled import Unlabelled

__all__ = ["LiveDecision", "LiveEvidence", "RolloutRules", "Verdict", "judge_live"]

_OTHER_TESTS = 6  # that have limits of their own: failures, latency, and at most four without labels
_FOR_EVER = 20  # one part in so many of the error rate is the test's of quality that may be looked at for ever


class Verdict(StrEnum):
    """What the evidence says so far."""

    UNDECIDED = "undecided"
    HOLDS = "holds"
    WORSE = "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRules:
    """What counts as worse. Points are hundredths of the task's score, which for right or wrong is accuracy.

    `error_rate` bounds the chance that a challenger of equal quality is turned away for its quality: a twentieth of it
    goes to the test that may be looked at for ever, the rest to the one at the limit. Half of it bounds the chance that
    one worse by `margin_points` is passed before the limit; at the limit it is passed where the rows are too few to
    tell. A sixth of it bounds the chance that one just at another limit, as of failures, is turned away for it.
    """

    margin_points: float = 3.0
    error_rate: float = 0.10
    max_failure_share: float = 0.01  # of the requests on its side
    max_slow_share: float = 0.10  # slower than the champion's 95th percentile times `latency_ratio`

    def __post_init__(self) -> None:
        if not 0 < self.margin_points < 100 or not 0 < self.error_rate < 0.5:
            raise DataError(
                f"rollout margin {self.margin_points} points must lie in (0, 100), error rate {self.error_rate} in "
                f"(0, 0.5)"
            )

    @property
    def e_value_needed(self) -> float:
        """From which e-value on a challenger is turned away, for anything but its quality."""
        return _OTHER_TESTS / self.error_rate

    @property
    def worse_e_value_needed(self) -> float:
        """From which e-value on a challenger is turned away for its quality."""
        return _FOR_EVER / self.error_rate

    @property
    def limit_level(self) -> float:
        """The share of equal challengers that the test at the limit turns away at most."""
        return (1 - 1 / _FOR_EVER) * self.error_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEvidence:
    """Counts since the comparison began.

    `gains` are rows that the challenger answered better, `losses` those that the champion answered better, `ties` all
    others; `scores` holds by how much, and is None where each difference is a whole one: right or wrong. `failed` of
    `asked` requests on the challenger's side were answered in its stead; `slow` of `timed` answers of the challenger
    came too late. `waiting` rows are still to be compared.

    Some of the rows were labelled because the two versions disagree on them: `disputed_gains`, `disputed_losses` and
    `disputed_ties`, drawn by chance from all on which they do. `unlabelled` is what both answer without
    labels.
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
    disputed_gains: int = 0
    disputed_losses: int = 0
    disputed_ties: int = 0
    unlabelled: Unlabelled = field(default_factory=Unlabelled)

    def __post_init__(self) -> None:
        if self.scores is not None and self.scores.rows != self.rows:
            raise DataError(f"scores of {self.scores.rows} rows were given with {self.rows} rows; give those of all")
        disputed = (self.disputed_gains, self.disputed_losses, self.disputed_ties)
        if any(part > whole for part, whole in zip(disputed, (self.gains, self.losses, self.ties), strict=True)):
            raise DataError(
                f"{disputed} disputed gains, losses and ties are more than all rows have; count them in both"
            )

    @property
    def rows(self) -> int:
        """Rows whose target is known."""
        return self.gains + self.losses + self.ties

    @property
    def sums(self) -> ScoreSums:
        """By how much the rows differ."""
        return self.scores or ScoreSums.of({1.0: self.gains, -1.0: self.losses, 0.0: self.ties})

    @property
    def disputed(self) -> int:
        """Rows that were labelled because the versions disagree on them."""
        return self.disputed_gains + self.disputed_losses + self.disputed_ties

    @property
    def difference_points(self) -> float:
        """Mean score over all traffic, challenger minus champion, in points; 0 without rows."""
        sums = self.sums
        stands_for = self.rows + self.unlabelled.agreeing_with(self.disputed)
        return 100.0 * (sums.gained - sums.lost) / stands_for if self.rows else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDecision:
    """The verdict, why, and every figure behind it."""

    verdict: Verdict
    reasons: tuple[str, ...]
    figures: dict[str, Any]


def judge_live(evidence: LiveEvidence, rules: RolloutRules, *, at_limit: bool = False) -> LiveDecision:
    """Judge after any number of requests; `at_limit` says that there is no more time, so that a verdict must fall.

    At the limit the challenger is worse where it lost more rows than it gained by more than equal ones do in
    `RolloutRules.limit_level` of all cases, and the difference is nearer to the margin than to 0. Else nothing speaks
    against it, which with few rows says little. That test holds for one look: set `at_limit` once.

    Rows without labels may speak against a challenger and never for it: they only tell for how many rows, on which the
    versions agree, a disputed one stands.

    >>> judge_live(LiveEvidence(gains=5, losses=60, ties=900), RolloutRules()).verdict.value
    'worse'
    >>> judge_live(LiveEvidence(gains=20, losses=20, ties=960), RolloutRules()).verdict.value
    'holds'
    >>> judge_live(LiveEvidence(ties=10), RolloutRules()).verdict.value
    'undecided'
    """
    margin = rules.margin_points / 100
    sums, agreeing = evidence.sums, evidence.unlabelled.agreeing_with(evidence.disputed, at_least=True)
    e_values = {
        "worse": mean_score_above(sums.mirrored, 0.0),
        "not_worse_by_margin": mean_score_above(replace(sums, rows=sums.rows + agreeing), -margin),
        "failures": share_above(evidence.failed, evidence.asked, rules.max_failure_share),
        "slow": share_above(evidence.slow, evidence.timed, rules.max_slow_share),
        **evidence.unlabelled.e_values(margin=margin),
    }
    better = mean_score_above(sums, 0.0) >= 1 / rules.error_rate  # labels outweigh what is guessed without them
    against = _against(evidence, rules, e_values, labels_speak_for_it=better)
    proven = e_values["not_worse_by_margin"] >= 2 / rules.error_rate
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
        "e_value_needed": rules.e_value_needed,
        "worse_e_value_needed": rules.worse_e_value_needed,
    }
    return LiveDecision(verdict=verdict, reasons=reasons, figures=figures)


def _counts(evidence: LiveEvidence) -> dict[str, Any]:
    counts = asdict(evidence)
    scores, _ = counts.pop("scores"), counts.pop("unlabelled")
    for name in ("disputed_gains", "disputed_losses", "disputed_ties"):
        if not evidence.disputed:
            del counts[name]
    counts |= evidence.unlabelled.figures()
    return counts if scores is None else counts | {"gained": scores["gained"], "lost": scores["lost"]}


def _against(
    evidence: LiveEvidence,
    rules: RolloutRules,
    e_values: dict[str, float],
    *,
    labels_speak_for_it: bool,
) -> tuple[str, ...]:
    sentences = {
        "worse": _quality(evidence),
        "failures": f"{evidence.failed} of {evidence.asked} requests failed (limit {rules.max_failure_share:.1%})",
        "slow": f"{evidence.slow} of {evidence.timed} answers were slow (limit {rules.max_slow_share:.0%})",
        **({} if labels_speak_for_it else evidence.unlabelled.sentences()),
    }
    needed = dict.fromkeys(sentences, rules.e_value_needed) | {"worse": rules.worse_e_value_needed}
    found = {what: e_values.get(what, 0.0) for what in sentences}
    return tuple(
        f"{what}: {sentences[what]} (e-value {found[what]:.3g})" for what in sentences if found[what] >= needed[what]
    )


def _against_at_limit(evidence: LiveEvidence, rules: RolloutRules) -> tuple[str, ...]:
    level = rules.limit_level
    if evidence.difference_points >= -rules.margin_points / 2:
        return ()
    if evidence.sums.whole:
        disputed = evidence.disputed_gains + evidence.disputed_losses
        differing = evidence.gains + evidence.losses - disputed
        came = evidence.rows - evidence.disputed
        told_apart = evidence.losses >= critical_loss(came, disputed, level, differing=differing)
    else:
        told_apart = _sign_test(evidence.sums) <= level
    if not told_apart:
        return ()
    return (
        f"worse at the time limit: {_quality(evidence)}; of equal versions at most {level:.1%} differ so by chance",
    )


def _sign_test(sums: ScoreSums) -> float:
    """How often the sum is as low or lower where a fair coin says, for each row, which version was better by so much.

    A bound from above, whatever the sizes of the differences.
    Source: Hoeffding's inequality for independent signs, JASA 58, 1963, theorem 2.
    """
    if not sums.lost:
        return 1.0
    behind = max(0.0, sums.lost - sums.gained)
    return math.exp(-(behind**2) / (2 * (sums.gained_squares + sums.lost_squares)))


def _quality(evidence: LiveEvidence) -> str:
    return (
        f"{evidence.difference_points:+.2f} points on {evidence.rows} scored rows "
        f"({evidence.gains} gained, {evidence.losses} lost)"
        + (f", {evidence.disputed} of them asked for where the versions disagree" if evidence.disputed else "")
    )
