"""The promotion gate: each rule alone, and none of them by luck."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from perennial.continual.bounds import BoundedFigure
from perennial.continual.errors import DataError
from perennial.continual.gate import GateEvidence, GateRules, PairedRows, judge
from perennial.continual.intervals import Interval
from perennial.continual.off_policy import LoggedChoices


def rows(n: int, champion: float, challenger: float, label: str = "a", seed: int = 0) -> PairedRows:
    rng = np.random.default_rng(seed)
    draw = rng.random(n)
    return PairedRows(
        strata=np.array([label] * n),
        champion_scores=(draw < champion).astype(float),
        challenger_scores=(draw < challenger).astype(float),
        stratum_noun="label",
    )


def evidence(fresh: PairedRows, old: PairedRows, **facts: Any) -> GateEvidence:
    figures = {"challenger_calibration_error": 0.02, "champion_latency_ms": 5.0, "challenger_latency_ms": 5.0} | facts
    return GateEvidence(champion=1, challenger=2, fresh=fresh, old=old, **figures)


def decide(given: GateEvidence, **rules: float) -> tuple[bool, str]:
    decision = judge(given, GateRules(**rules), np.random.default_rng(0))  # type: ignore[arg-type]
    assert decision.accepted == (not decision.reasons)
    return decision.accepted, "; ".join(decision.reasons)


def test_gate_accepts_a_better_challenger_that_forgets_nothing() -> None:
    accepted, _ = decide(evidence(rows(200, 0.5, 0.9), rows(300, 0.95, 0.95)))
    assert accepted


def test_gate_refuses_without_evidence() -> None:
    accepted, why = decide(evidence(rows(10, 0.1, 0.9), rows(300, 0.9, 0.9)))
    assert not accepted
    assert "too little evidence: 10 fresh held-out rows (at least 20)" in why


def test_gate_refuses_a_challenger_that_is_worse_on_fresh_rows() -> None:
    accepted, why = decide(evidence(rows(300, 0.9, 0.8), rows(300, 0.9, 0.9)))
    assert not accepted
    assert "not better" in why


def test_gate_refuses_forgetting_beyond_the_limit() -> None:
    accepted, why = decide(evidence(rows(200, 0.5, 0.9), rows(400, 0.95, 0.90)))
    assert not accepted
    assert "forgets" in why


def test_gate_does_not_refuse_one_unlucky_row() -> None:
    old = rows(60, 0.95, 0.95)
    flipped = old.challenger_scores.copy()
    flipped[np.flatnonzero(flipped)[0]] = 0.0  # 1.7 points on 60 rows, but a single row
    unlucky = PairedRows(strata=old.strata, champion_scores=old.champion_scores, challenger_scores=flipped)
    accepted, _ = decide(evidence(rows(200, 0.5, 0.9), unlucky))
    assert accepted


def test_gate_refuses_a_label_that_broke_although_the_mean_holds() -> None:
    broken, sound = rows(40, 0.95, 0.5, label="lost_card"), rows(2000, 0.9, 0.9, label="top_up")
    old = PairedRows(
        strata=np.concatenate([broken.strata, sound.strata]),
        stratum_noun="label",
        champion_scores=np.concatenate([broken.champion_scores, sound.champion_scores]),
        challenger_scores=np.concatenate([broken.challenger_scores, sound.challenger_scores]),
    )
    accepted, why = decide(evidence(rows(200, 0.5, 0.9), old))
    assert not accepted
    assert "worse on label lost_card" in why


def test_gate_refuses_bad_calibration_and_slowness() -> None:
    given = evidence(
        rows(200, 0.5, 0.9), rows(300, 0.9, 0.9), challenger_calibration_error=0.4, challenger_latency_ms=50.0
    )
    accepted, why = decide(given)
    assert not accepted
    assert "badly calibrated" in why
    assert "slower" in why


def test_gate_promotes_equal_challengers_and_stops_worse_ones_at_stated_rates() -> None:
    equal = sum(
        decide(evidence(_noisy(300, 0.9, 0.9, seed), _noisy(400, 0.9, 0.9, seed + 1)))[0] for seed in range(0, 200, 2)
    )
    worse = sum(
        decide(evidence(_noisy(300, 0.9, 0.8, seed), _noisy(400, 0.9, 0.9, seed + 1)))[0] for seed in range(0, 200, 2)
    )
    assert equal >= 85  # of 100
    assert worse <= 10


def _noisy(n: int, champion: float, challenger: float, seed: int) -> PairedRows:
    rng = np.random.default_rng(seed)
    return PairedRows(
        strata=np.array(["a"] * n),
        champion_scores=(rng.random(n) < champion).astype(float),
        challenger_scores=(rng.random(n) < challenger).astype(float),
    )


def test_paired_rows_must_have_one_length() -> None:
    with pytest.raises(DataError, match="differ in length"):
        PairedRows(strata=np.array(["a"]), champion_scores=np.ones(2), challenger_scores=np.ones(1))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_score_outside_its_bounds_is_refused(wrong: float) -> None:
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        PairedRows(strata=np.array(["a", "a"]), champion_scores=np.ones(2), challenger_scores=np.array([wrong, 1.0]))
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        PairedRows(strata=np.array(["a", "a"]), champion_scores=np.array([wrong, 1.0]), challenger_scores=np.ones(2))


def counted(rows: int, lost: int, gained: int = 0, label: str = "a") -> PairedRows:
    """Rows that both have right, but for `lost` that the champion alone has and `gained` that the challenger has."""
    place = np.arange(rows)
    return PairedRows(
        strata=np.array([label] * rows),
        champion_scores=(~((place >= lost) & (place < lost + gained))).astype(float),
        challenger_scores=(place >= lost).astype(float),
        stratum_noun="label",
    )


def joined(*parts: PairedRows) -> PairedRows:
    return PairedRows(
        strata=np.concatenate([part.strata for part in parts]),
        stratum_noun="label",
        champion_scores=np.concatenate([part.champion_scores for part in parts]),
        challenger_scores=np.concatenate([part.challenger_scores for part in parts]),
    )


BETTER = counted(200, 0, gained=50)
FIFTH = (np.arange(1_000) % 5 == 0).astype(float)
SAME = counted(400, 0)


def test_the_rules_of_a_workspace_that_sets_none_are_those_that_the_pages_state() -> None:
    rules = GateRules()
    assert (rules.min_fresh_rows, rules.min_gain_points, rules.max_forgetting_points) == (20, 0.0, 1.0)
    assert (rules.max_slice_drop_points, rules.min_slice_rows, rules.max_calibration_error) == (15.0, 20, 0.2)
    assert (rules.max_latency_ratio, rules.confidence) == (3.0, 0.95)


@pytest.mark.parametrize(
    ("fresh", "old", "facts", "refusal"),
    [
        pytest.param(counted(20, 0, 5), SAME, {}, "", id="just enough fresh rows"),
        pytest.param(counted(19, 0, 5), SAME, {}, "too little evidence", id="one fresh row too few"),
        pytest.param(BETTER, counted(400, 4), {}, "", id="forgets as much as is allowed"),
        pytest.param(BETTER, counted(400, 5), {}, "forgets: 1.25 points", id="forgets more"),
        pytest.param(BETTER, SAME, {"challenger_calibration_error": 0.2}, "", id="calibrated as well as it must be"),
        pytest.param(BETTER, SAME, {"challenger_calibration_error": 0.201}, "badly calibrated", id="worse calibrated"),
        pytest.param(BETTER, SAME, {"challenger_latency_ms": 15.0}, "", id="as slow as it may be"),
        pytest.param(BETTER, SAME, {"challenger_latency_ms": 15.1}, "slower: 3.02 times", id="slower"),
        pytest.param(
            BETTER, SAME, {"champion_latency_ms": 0.5, "challenger_latency_ms": 1.6}, "slower: 3.20", id="both fast"
        ),
    ],
)
def test_a_limit_is_allowed_and_what_passes_it_is_refused(
    fresh: PairedRows, old: PairedRows, facts: dict[str, float], refusal: str
) -> None:
    accepted, why = decide(evidence(fresh, old, **facts))
    assert (accepted, why[: len(refusal)]) == (not refusal, refusal)


@pytest.mark.parametrize(
    ("rows_of_label", "lost", "refused"),
    [(40, 6, False), (40, 7, True), (20, 8, True), (19, 8, False)],
)
def test_a_label_is_looked_at_from_enough_rows_on_and_may_drop_to_its_limit(
    rows_of_label: int, lost: int, refused: bool
) -> None:
    old = joined(counted(rows_of_label, lost, label="lost_card"), counted(2_000, 0, label="top_up"))
    _, why = decide(evidence(BETTER, old))
    assert ("worse on label lost_card" in why) == refused


def test_a_drop_that_may_be_chance_refuses_neither_a_label_nor_the_old_rows() -> None:
    old = joined(counted(20, 6, gained=2, label="lost_card"), counted(2_000, 0, label="top_up"))
    assert decide(evidence(BETTER, old), confidence=0.93)[0]
    assert not decide(evidence(BETTER, old), confidence=0.8)[0]
    swaps = counted(400, 25, gained=19)  # 1.5 points, among many changes both ways
    assert decide(evidence(BETTER, swaps))[0]
    assert not decide(evidence(BETTER, swaps), confidence=0.6)[0]


def test_the_figures_tell_both_accuracies_and_are_zero_without_rows() -> None:
    figures = judge(evidence(counted(40, 4, gained=10), counted(50, 5)), GateRules(), np.random.default_rng(0)).figures
    assert figures == {
        "fresh_rows": 40.0,
        "fresh_gain_points": 15.0,
        "fresh_champion_accuracy": 0.75,
        "fresh_challenger_accuracy": 0.9,
        "old_rows": 50.0,
        "forgetting_points": 10.0,
        "old_champion_accuracy": 1.0,
        "old_challenger_accuracy": 0.9,
        "challenger_calibration_error": 0.02,
        "latency_ratio": 1.0,
        "fresh_gain_low_points": pytest.approx(2.5, abs=5.0),
        "fresh_gain_high_points": pytest.approx(27.5, abs=5.0),
    }
    empty = judge(evidence(counted(0, 0), counted(0, 0)), GateRules(), np.random.default_rng(0)).figures
    assert {name: value for name, value in empty.items() if value} == {
        "challenger_calibration_error": 0.02,
        "latency_ratio": 1.0,
    }


@pytest.mark.parametrize("confidence", [0.49, 1.0])
def test_a_confidence_that_decides_nothing_is_refused(confidence: float) -> None:
    with pytest.raises(DataError, match="must lie in"):
        GateRules(confidence=confidence)
    assert GateRules(confidence=0.5).confidence == 0.5


def test_without_a_fresh_row_there_is_no_gain_to_be_sure_of() -> None:
    """Rules may ask for no fresh rows; then the old ones decide."""
    nothing = rows(0, 0.5, 0.5)
    assert decide(evidence(nothing, rows(300, 0.9, 0.9)), min_fresh_rows=0, min_gain_points=1.0)[0]
    assert not decide(evidence(nothing, rows(300, 0.9, 0.2)), min_fresh_rows=0, min_gain_points=1.0)[0]


def test_where_nothing_stays_right_old_rows_are_told_and_fresh_strata_bind() -> None:
    old, fresh = rows(300, 0.9, 0.3), rows(400, 0.4, 0.8)
    assert not decide(evidence(fresh, old))[0]
    decision = judge(evidence(fresh, old), GateRules(old_rows_bind=False), np.random.default_rng(0))
    assert decision.accepted
    assert decision.figures["forgetting_points"] > 50
    hurt = PairedRows(
        strata=np.array(["students"] * 100 + ["others"] * 300),
        champion_scores=np.array([1.0] * 100 + [0.0] * 300),
        challenger_scores=np.array([0.0] * 100 + [1.0] * 300),
        stratum_noun="segment",
    )
    accepted, why = decide(evidence(hurt, old), old_rows_bind=False)
    assert not accepted
    assert "worse on segment students: 100.0 points lost on 100 rows" in why


@pytest.mark.parametrize(("shown", "accepted"), [(70, True), (69, False), (200, True)])
def test_a_challenger_that_shows_much_less_is_refused(shown: int, accepted: bool) -> None:
    given = evidence(rows(200, 0.5, 0.9), rows(300, 0.95, 0.95), champion_variety=100, challenger_variety=shown)
    taken, why = decide(given)
    assert taken is accepted
    assert ("shows less: 69 different items in its answers, the champion's show 100 (at least 70%" in why) is not taken


def in_parts(rows_of: int, lost_by_new: float) -> PairedRows:
    """Everybody gains a little, and new users, every fifth row, lose so much of 0.4."""
    new = np.arange(rows_of) % 5 == 0
    noise = np.random.default_rng(1).normal(0.0, 0.02, rows_of)
    champion = np.full(rows_of, 0.4)
    return PairedRows(
        strata=np.array(["all"] * rows_of),
        champion_scores=champion,
        challenger_scores=np.clip(np.where(new, champion - lost_by_new, champion + 0.1) + noise, 0.0, 1.0),
        parts={"new users": new, "heavy users": ~new},
    )


@pytest.mark.parametrize(("lost", "rows_of", "accepted"), [(0.05, 400, True), (0.2, 400, False), (0.2, 80, True)])
def test_no_part_may_lose_much_of_what_the_champion_has_there(lost: float, rows_of: int, accepted: bool) -> None:
    """A stratum may lose fifteen points; of a part that earns 40 a quarter is ten. Sixteen rows prove nothing."""
    given = evidence(in_parts(rows_of, lost), rows(300, 0.9, 0.9))
    decision = judge(given, GateRules(old_rows_bind=False), np.random.default_rng(0))
    assert decision.accepted is accepted
    assert accepted or "worse on new users: 20" in decision.reasons[0]
    assert decision.figures["new_users_rows"] == rows_of / 5
    assert decision.figures["new_users_gain_points"] == pytest.approx(-100 * lost, abs=1.0)
    assert decision.figures["heavy_users_gain_points"] == pytest.approx(10.0, abs=1.0)


def test_a_part_of_other_rows_is_refused() -> None:
    with pytest.raises(DataError, match="new users"):
        replace(in_parts(10, 0.0), parts={"new users": np.ones(9, dtype=bool)})


def logged_world(rows_of: int, *, challenger_is: str) -> LoggedChoices:
    """The champion's choice earns 0.5 and was drawn with 0.7, two others by 0.15 each: one earns 0.9, one nothing."""
    rng = np.random.default_rng(5)
    chosen = rng.choice(3, rows_of, p=[0.7, 0.15, 0.15])
    reward = (rng.random(rows_of) < np.array([0.5, 0.9, 0.0])[chosen]).astype(float)
    return LoggedChoices(
        reward=reward,
        propensity=np.array([0.7, 0.15, 0.15])[chosen],
        champion=(chosen == 0).astype(float),
        challenger=(chosen == ["same", "better", "worse"].index(challenger_is)).astype(float),
    )


@pytest.mark.parametrize(("kind", "worth"), [("same", 0.5), ("better", 0.9), ("worse", 0.0)])
def test_the_log_of_live_choices_is_told_and_refuses_who_surely_earns_less(kind: str, worth: float) -> None:
    given = evidence(BETTER, rows(300, 0.95, 0.95), logged=logged_world(1_000, challenger_is=kind))
    decision = judge(given, GateRules(), np.random.default_rng(0))
    assert decision.accepted is (kind != "worse")
    figures = decision.figures
    assert figures["logged_challenger_ips_low"] <= worth <= figures["logged_challenger_ips_high"]
    assert figures["logged_challenger_dr_low"] <= worth <= figures["logged_challenger_dr_high"]
    assert figures["logged_gain_low_points"] <= 100 * (worth - 0.5) <= figures["logged_gain_high_points"]
    assert figures["logged_support"] > 0.8
    assert decision.accepted or decision.reasons[0].startswith("earns less by the log: -5")


def test_a_log_of_few_choices_is_told_and_refuses_nobody() -> None:
    given = evidence(BETTER, rows(300, 0.95, 0.95), logged=logged_world(100, challenger_is="worse"))
    decision = judge(given, GateRules(), np.random.default_rng(0))
    assert decision.accepted
    assert decision.figures["logged_rows"] == 100
    assert decision.figures["logged_gain_points"] < 0


def test_a_log_of_few_users_refuses_nobody_however_many_its_choices() -> None:
    log = logged_world(1_000, challenger_is="worse")
    for users, accepted in ((20, True), (200, False)):
        given = evidence(BETTER, rows(300, 0.95, 0.95), logged=replace(log, whose=np.arange(1_000) % users))
        decision = judge(given, GateRules(), np.random.default_rng(0))
        assert decision.accepted is accepted
        assert decision.figures["logged_users"] == users


def _beside(given: GateEvidence, **shares: float) -> GateEvidence:
    """The same evidence with simple answers, right in so many of the fresh rows."""
    draw = np.random.default_rng(0).random(len(given.fresh.strata))
    return replace(given, simple={name: (draw < share).astype(float) for name, share in shares.items()})


def test_gate_refuses_a_challenger_that_is_level_with_the_champion_where_something_simple_is_better() -> None:
    given = evidence(rows(300, 0.736, 0.738), rows(300, 0.9, 0.9))
    assert decide(_beside(given, majority=0.734, lexical=0.7))[0]
    accepted, why = decide(_beside(given, majority=0.734, lexical=0.85))
    assert not accepted
    assert "no better than a simple answer: lexical scores 0.8" in why


def test_gate_looks_at_several_simple_answers_no_less_strictly_than_at_one() -> None:
    challenger = np.repeat([1.0, 0.0], [200, 100])
    simple = challenger.copy()
    simple[:40], simple[200:259] = 0.0, 1.0  # a difference that chance makes about once in 40 times
    level = PairedRows(strata=np.repeat("a", 300), champion_scores=challenger, challenger_scores=challenger)
    alone = replace(evidence(level, rows(300, 0.9, 0.9)), simple={"majority": simple})
    assert not decide(alone)[0]
    assert decide(replace(alone, simple={"majority": simple, "lexical": 0 * simple, "rebalanced": 0 * simple}))[0]


def test_gate_promotes_what_surely_beats_the_champion_although_something_simple_were_better_still() -> None:
    given = _beside(evidence(rows(300, 0.5, 0.8), rows(300, 0.9, 0.9)), lexical=0.95)
    assert decide(given)[0]
    figures = judge(given, GateRules(), np.random.default_rng(0)).figures
    assert figures["fresh_lexical_accuracy"] > 0.9


def test_gate_wants_a_simple_answer_to_every_fresh_row() -> None:
    given = evidence(rows(30, 0.5, 0.8), rows(30, 0.9, 0.9))
    with pytest.raises(DataError, match="lexical has 2 scores for 30 fresh rows"):
        replace(given, simple={"lexical": np.ones(2)})


@pytest.mark.parametrize(
    ("champion", "challenger", "n", "refused"),
    [(0.9, 0.7, 200, True), (0.7, 0.9, 200, False), (0.9, 0.9, 200, False), (1.0, 0.5, 2, False), (0.0, 0.0, 0, False)],
)
def test_further_work_of_a_version_must_be_done_as_well(
    champion: float, challenger: float, n: int, refused: bool
) -> None:
    good = rows(200, 0.9, 0.95)
    figures = {"challenger_calibration_error": 0.02, "champion_latency_ms": 5.0, "challenger_latency_ms": 5.0}
    further = {"replies": rows(n, champion, challenger, seed=3)}
    given = GateEvidence(champion=1, challenger=2, fresh=good, old=good, further=further, **figures)
    decision = judge(given, GateRules(), np.random.default_rng(0))
    assert decision.accepted is not refused
    assert ("worse replies" in "; ".join(decision.reasons)) is refused
    assert decision.figures["replies_rows"] == n


def test_a_log_that_could_not_hold_what_the_challenger_chooses_refuses_nobody() -> None:
    """Four in five of its choices are never drawn: nothing is known of them."""
    log = logged_world(1_000, challenger_is="worse")
    given = evidence(BETTER, rows(300, 0.95, 0.95), logged=replace(log, challenger=log.challenger * FIFTH))
    decision = judge(given, GateRules(), np.random.default_rng(0))
    assert decision.figures["logged_support"] < 0.3
    assert decision.figures["logged_gain_high_points"] < 0
    assert decision.accepted


def test_a_bounded_figure_surely_beyond_its_limit_refuses_alone() -> None:
    value = Interval(mean=0.3, low=0.2, high=0.4)
    gap = BoundedFigure(name="gap", told="the gap", value=value, champion=0.1, limit=0.1, rows=400)
    given = evidence(rows(200, 0.5, 0.9), rows(300, 0.95, 0.95), bounded=(gap,))
    accepted, why = decide(given)
    assert not accepted
    assert why == gap.reason
    assert judge(given, GateRules(), np.random.default_rng(0)).figures["gap"] == 0.3
    assert decide(replace(given, bounded=(replace(gap, limit=0.25),)))[0], "not surely"
