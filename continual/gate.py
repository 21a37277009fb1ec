"""Champion against challenger on held-out rows: a promotion decision with its reasons."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.bounds import BoundedFigure
from perennial.continual.errors import DataError
from perennial.continual.intervals import mean_interval, surely_below
from perennial.continual.off_policy import LoggedChoices
from perennial.continual.records import PromotionDecision

__all__ = ["GateEvidence", "GateRules", "PairedRows", "judge"]

Floats = NDArray[np.float64]
_LEAST_SUPPORT = 0.8  # of what the challenger would choose, that the log could hold
_LEAST_LOGGED = 50.0  # rows that a log must weigh as much as, and users in it, before it refuses anything


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
    max_part_drop_share: float = 0.25  # of the champion's own score on a part that is no stratum, e.g. new users
    min_slice_rows: int = 20
    max_calibration_error: float = 0.2
    max_latency_ratio: float = 3.0
    confidence: float = 0.95
    old_rows_bind: bool = True  # False: old rows are told of alone, and no stratum's fresh rows may get much worse
    min_variety_ratio: float = 0.7  # of how many different things the answers show, beside the champion's
    max_further_loss_points: float = 1.0  # on held-out rows of any further work

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise DataError(f"gate confidence is {self.confidence}; it must lie in [0.5, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRows:
    """The same held-out rows answered by both versions: stratum and scores in [0, 1]; each array has shape (n,).

    `parts` are further parts of the rows that may overlap, each by its name with whether a row belongs to it (n,).
    """

    strata: NDArray[Any]
    champion_scores: Floats
    challenger_scores: Floats
    stratum_noun: str = "stratum"
    parts: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.strata) == len(self.champion_scores) == len(self.challenger_scores):
            raise DataError(
                f"paired rows differ in length: {len(self.strata)} strata, {len(self.champion_scores)} champion "
                f"scores, {len(self.challenger_scores)} challenger scores"
            )
        for name, part in self.parts.items():
            if len(part) != len(self.strata):
                raise DataError(f"the part {name!r} has {len(part)} rows of {len(self.strata)}; say it of each row")
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
    answers restricted to what the champion can answer: confusion with something new is not forgetting. `further` are
    held-out rows of what a version does beside its own answer, by what that is called.
    """

    champion: int
    challenger: int
    fresh: PairedRows
    old: PairedRows
    challenger_calibration_error: float
    champion_latency_ms: float
    challenger_latency_ms: float
    logged: LoggedChoices | None = None  # what live answers chose and earned; None where that says nothing
    further: Mapping[str, PairedRows] = field(default_factory=dict)
    champion_variety: int = 0  # different things that the answers to all rows show; 0 in tasks that show none
    challenger_variety: int = 0
    bounded: tuple[BoundedFigure, ...] = ()  # what settings bound, measured on all held-out rows
    simple: Mapping[str, Floats] = field(default_factory=dict)  # by name: scores of answers that cost nothing, on fresh

    def __post_init__(self) -> None:
        for name, scores in self.simple.items():
            if len(scores) != len(self.fresh.strata):
                raise DataError(f"{name} has {len(scores)} scores for {len(self.fresh.strata)} fresh rows")


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
    else:
        reasons += _simple_reasons(evidence, rules, rng)
    if rules.old_rows_bind and lost > rules.max_forgetting_points and surely_below(old, 0.0, rules.confidence, rng):
        reasons.append(
            f"forgets: {lost:.2f} points lost on {len(old)} old rows (limit {rules.max_forgetting_points:.2f})"
        )
    reasons += _slice_reasons(evidence.old if rules.old_rows_bind else evidence.fresh, rules, rng)
    reasons += _part_reasons(evidence.fresh, rules, rng)
    (aside,) = rng.spawn(1)  # of its own, so that what is told of besides changes no verdict
    logged_figures, logged_reasons = _logged(evidence.logged, aside)
    reasons += logged_reasons
    reasons += _further_reasons(evidence.further, rules, rng)
    reasons += [reason for figure in evidence.bounded if (reason := figure.reason) is not None]
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
        **_interval("fresh_gain", fresh, aside),
        **_part_figures(evidence.fresh),
        **logged_figures,
    }
    figures |= {f"fresh_{name}_accuracy": _mean(scores) for name, scores in evidence.simple.items()}
    figures |= {figure.name: figure.value.mean for figure in evidence.bounded}
    for name, rows in evidence.further.items():
        figures |= {
            f"{name}_rows": float(len(rows.strata)),
            f"{name}_champion_accuracy": _mean(rows.champion_scores),
            f"{name}_challenger_accuracy": _mean(rows.challenger_scores),
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


def _simple_reasons(evidence: GateEvidence, rules: GateRules, rng: np.random.Generator) -> list[str]:
    """Why a challenger that is not surely better than the champion is not the best there is.

    One that surely is better is promoted even if something simple were better still: refusing it would leave worse.
    """
    fresh = evidence.fresh
    if not evidence.simple or surely_below(-fresh.difference_points(), 0.0, rules.confidence, rng):
        return []
    alone = 1.0 - (1.0 - rules.confidence) / len(evidence.simple)  # all together err no oftener than one rule
    better = {
        name: scores
        for name, scores in evidence.simple.items()
        if surely_below(100.0 * (fresh.challenger_scores.astype(np.float64) - scores), 0.0, alone, rng)
    }
    if not better:
        return []
    name, scores = max(better.items(), key=lambda each: _mean(each[1]))
    reason = (
        f"no better than a simple answer: {name} scores {_mean(scores):.4f} on {len(scores)} fresh rows, the "
        f"challenger {_mean(fresh.challenger_scores):.4f}, the champion {_mean(fresh.champion_scores):.4f}"
    )
    return [reason]


def _further_reasons(further: Mapping[str, PairedRows], rules: GateRules, rng: np.random.Generator) -> list[str]:
    reasons = []
    for name, rows in further.items():
        differences = rows.difference_points()
        lost = -float(differences.mean()) if len(differences) else 0.0
        if lost > rules.max_further_loss_points and surely_below(differences, 0.0, rules.confidence, rng):
            reasons.append(
                f"worse {name}: {lost:.2f} points lost on {len(differences)} held-out rows "
                f"(limit {rules.max_further_loss_points:.2f})"
            )
    return reasons


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


def _part_reasons(rows: PairedRows, rules: GateRules, rng: np.random.Generator) -> list[str]:
    """One reason for each part that loses more than its share of what the champion has there."""
    reasons = []
    differences = rows.difference_points()
    for name, inside in rows.parts.items():
        lost, before = differences[inside], 100.0 * _mean(rows.champion_scores[inside])
        if len(lost) < rules.min_slice_rows:
            continue
        drop, limit = -float(lost.mean()), rules.max_part_drop_share * before
        if drop > limit and surely_below(lost, 0.0, rules.confidence, rng):
            reasons.append(
                f"worse on {name}: {drop:.1f} of {before:.1f} points lost on {len(lost)} rows (limit {limit:.1f})"
            )
    return reasons


def _part_figures(rows: PairedRows) -> dict[str, float]:
    differences = rows.difference_points()
    found: dict[str, float] = {}
    for name, inside in rows.parts.items():
        key = name.replace(" ", "_")
        found |= {f"{key}_rows": float(inside.sum()), f"{key}_gain_points": _mean(differences[inside])}
    return found


def _logged(logged: LoggedChoices | None, rng: np.random.Generator) -> tuple[dict[str, float], list[str]]:
    """What the log of live choices says of both, and a reason where it is sure that the challenger earns less."""
    if logged is None:
        return {}, []
    champion, challenger, gain = logged.of_champion(rng), logged.of_challenger(rng), logged.gain(rng)
    figures = {
        "logged_rows": float(logged.rows),
        "logged_users": float(logged.users),
        "logged_earned": logged.earned,
        "logged_effective_rows": challenger.effective_rows,
        "logged_support": logged.support,
        "logged_gain_points": 100.0 * gain.mean,
        "logged_gain_low_points": 100.0 * gain.low,
        "logged_gain_high_points": 100.0 * gain.high,
    }
    for name, found in (("champion", champion), ("challenger", challenger)):
        for kind, interval in (("ips", found.inverse_propensity), ("dr", found.doubly_robust)):
            figures |= {
                f"logged_{name}_{kind}": interval.mean,
                f"logged_{name}_{kind}_low": interval.low,
                f"logged_{name}_{kind}_high": interval.high,
            }
    tells = logged.support >= _LEAST_SUPPORT and min(challenger.effective_rows, logged.users) >= _LEAST_LOGGED
    if gain.decided >= 0 or not tells:
        return figures, []
    points = f"{100 * gain.mean:+.2f} points [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}], doubly robust"
    weigh = (
        f"{logged.rows} logged choices of {logged.users} users that weigh as much as {challenger.effective_rows:.0f}"
    )
    return figures, [f"earns less by the log: {points}, on {weigh}"]


def _interval(name: str, differences: Floats, rng: np.random.Generator) -> dict[str, float]:
    """The bounds of a mean difference; 0 where there is no row."""
    if not len(differences):
        return {f"{name}_low_points": 0.0, f"{name}_high_points": 0.0}
    found = mean_interval(differences, rng)
    return {f"{name}_low_points": found.low, f"{name}_high_points": found.high}
