"""Champion against challenger on held-out rows: a promotion decision with its reasons."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.intervals import surely_below
from perennial.continual.records import PromotionDecision

__all__ = ["GateEvidence", "GateRules", "PairedRows", "judge"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRules:
    """What a challenger must show. Points are hundredths of the task's score, which for right or wrong is accuracy.

    A rule on a difference refuses only when the point estimate passes the limit *and* the paired bootstrap is
    `confidence` sure that the difference is real, so that a handful of rows can neither promote nor refuse by luck.
    """

    min_fresh_rows: int = 20
    min_gain_points: float = 0.0  # on fresh rows, challenger minus champion
    max_forgetting_points: float = 1.0  # on old rows, the answer restricted to what the champion can answer
    max_slice_drop_points: float = 15.0  # on any stratum's old rows
    min_slice_rows: int = 20
    max_calibration_error: float = 0.2
    max_latency_ratio: float = 3.0
    confidence: float = 0.95
    old_rows_bind: bool = True  # False: old rows are told of alone, and no stratum's fresh rows may get much worse
    min_variety_ratio: float = 0.7  # of how many different things the answers show, beside the champion's

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise DataError(f"gate confidence is {self.confidence}; it must lie in [0.5, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRows:
    """The same held-out rows answered by both versions: stratum and scores in [0, 1]; each array has shape (n,)."""

    strata: NDArray[Any]
    champion_scores: Floats
    challenger_scores: Floats
    stratum_noun: str = "stratum"

    def __post_init__(self) -> None:
        if not len(self.strata) == len(self.champion_scores) == len(self.challenger_scores):
            raise DataError(
                f"paired rows differ in length: {len(self.strata)} strata, {len(self.champion_scores)} champion "
                f"scores, {len(self.challenger_scores)} challenger scores"
            )
        for scores in (self.champion_scores, self.challenger_scores):
            if not bool(((scores >= 0.0) & (scores <= 1.0)).all()):  # which no NaN passes
                raise DataError(
                    f"paired rows have scores from {scores.min()} to {scores.max()}; a task's score must lie in [0, 1]"
                )

    def difference_points(self) -> Floats:
        """Challenger minus champion for each row, in [-100, 100]."""
        return 100.0 * (self.challenger_scores.astype(np.float64) - self.champion_scores.astype(np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class GateEvidence:
    """Everything the gate looks at.

    `fresh` are held-out rows that came since the champion was trained. `old` are held-out rows from before, with both
    answers restricted to what the champion can answer: confusion with something new is not forgetting.
    """

    champion: int
    challenger: int
    fresh: PairedRows
    old: PairedRows
    challenger_calibration_error: float
    champion_latency_ms: float
    challenger_latency_ms: float
    champion_variety: int = 0  # different things that the answers to all rows show; 0 in tasks that show none
    challenger_variety: int = 0


def judge(evidence: GateEvidence, rules: GateRules, rng: np.random.Generator) -> PromotionDecision:
    """The decision, with one reason for each rule that the challenger fails.

    >>> good, bad = np.full(50, 1.0), np.full(50, 0.0)
    >>> rows = PairedRows(strata=np.array(["a"] * 50), champion_scores=bad, challenger_scores=good)
    >>> old = PairedRows(strata=np.array(["b"] * 50), champion_scores=good, challenger_scores=bad)
    >>> evidence = GateEvidence(champion=1, challenger=2, fresh=rows, old=old, challenger_calibration_error=0.01,
    ...                         champion_latency_ms=5.0, challenger_latency_ms=5.0)
    >>> decision = judge(evidence, GateRules(), np.random.default_rng(0))
    >>> decision.accepted, decision.reasons[0]
    (False, 'forgets: 100.00 points lost on 50 old rows (limit 1.00)')
    """
    reasons: list[str] = []
    fresh, old = evidence.fresh.difference_points(), evidence.old.difference_points()
    gain = float(fresh.mean()) if len(fresh) else 0.0
    lost = -float(old.mean()) if len(old) else 0.0
    if len(fresh) < rules.min_fresh_rows:
        reasons.append(f"too little evidence: {len(fresh)} fresh held-out rows (at least {rules.min_fresh_rows})")
    elif (
        len(fresh)
        and gain < rules.min_gain_points
        and surely_below(fresh, rules.min_gain_points, rules.confidence, rng)
    ):
        reasons.append(
            f"not better: {gain:+.2f} points on {len(fresh)} fresh rows (at least {rules.min_gain_points:+.2f})"
        )
    if rules.old_rows_bind and lost > rules.max_forgetting_points and surely_below(old, 0.0, rules.confidence, rng):
        reasons.append(
            f"forgets: {lost:.2f} points lost on {len(old)} old rows (limit {rules.max_forgetting_points:.2f})"
        )
    reasons += _slice_reasons(evidence.old if rules.old_rows_bind else evidence.fresh, rules, rng)
    if evidence.challenger_variety < rules.min_variety_ratio * evidence.champion_variety:
        reasons.append(
            f"shows less: {evidence.challenger_variety} different items in its answers, the champion's show "
            f"{evidence.champion_variety} (at least {rules.min_variety_ratio:.0%} of them)"
        )
    if evidence.challenger_calibration_error > rules.max_calibration_error:
        reasons.append(
            f"badly calibrated: expected calibration error {evidence.challenger_calibration_error:.3f} "
            f"(limit {rules.max_calibration_error:.3f})"
        )
    ratio = evidence.challenger_latency_ms / max(evidence.champion_latency_ms, 1e-9)
    if ratio > rules.max_latency_ratio:
        reasons.append(f"slower: {ratio:.2f} times the champion's latency (limit {rules.max_latency_ratio:.2f})")
    figures = {
        "fresh_rows": float(len(fresh)),
        "fresh_gain_points": gain,
        "fresh_champion_accuracy": _mean(evidence.fresh.champion_scores),
        "fresh_challenger_accuracy": _mean(evidence.fresh.challenger_scores),
        "old_rows": float(len(old)),
        "forgetting_points": lost,
        "old_champion_accuracy": _mean(evidence.old.champion_scores),
        "old_challenger_accuracy": _mean(evidence.old.challenger_scores),
        "challenger_calibration_error": evidence.challenger_calibration_error,
        "latency_ratio": ratio,
    }
    if evidence.champion_variety:
        figures |= {
            "champion_variety": float(evidence.champion_variety),
            "challenger_variety": float(evidence.challenger_variety),
        }
    return PromotionDecision(
        champion=evidence.champion,
        challenger=evidence.challenger,
        accepted=not reasons,
        reasons=tuple(reasons),
        figures=figures,
    )


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0


def _slice_reasons(old: PairedRows, rules: GateRules, rng: np.random.Generator) -> list[str]:
    reasons = []
    differences = old.difference_points()
    for stratum in np.unique(old.strata):
        rows = differences[old.strata == stratum]
        drop = -float(rows.mean())
        if (
            len(rows) >= rules.min_slice_rows
            and drop > rules.max_slice_drop_points
            and surely_below(rows, 0.0, rules.confidence, rng)
        ):
            reasons.append(
                f"worse on {old.stratum_noun} {stratum!s}: {drop:.1f} points lost on {len(rows)} rows "
                f"(limit {rules.max_slice_drop_points:.1f})"
            )
    return reasons
