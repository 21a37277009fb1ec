"""The verdict on simulated rollouts: its stated error rates, and that looking often costs nothing."""

import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.rollout import (
    LiveEvidence,
    RolloutRules,
    ScoreSums,
    Unlabelled,
    Verdict,
    judge_live,
    mean_above,
    share_above,
)

ROLLOUTS = 120
LABELS = 1_500
EVERY = 25


def _rollouts(gain: float, loss: float, seed: int) -> tuple[float, float]:
    """The share of rollouts that pass, and the median number of labels until the verdict."""
    rng = np.random.default_rng(seed)
    passed, labels = 0, []
    for _ in range(ROLLOUTS):
        rows = rng.choice([1, -1, 0], p=[gain, loss, 1 - gain - loss], size=LABELS)
        gains, losses = np.cumsum(rows == 1), np.cumsum(rows == -1)
        for seen in range(EVERY, LABELS + 1, EVERY):
            won, lost = int(gains[seen - 1]), int(losses[seen - 1])
            evidence = LiveEvidence(gains=won, losses=lost, ties=seen - won - lost)
            verdict = judge_live(evidence, RolloutRules(), at_limit=seen == LABELS).verdict
            if verdict is not Verdict.UNDECIDED:
                break
        passed += verdict is Verdict.HOLDS
        labels.append(seen)
    return passed / ROLLOUTS, float(np.median(labels))


@pytest.mark.parametrize("disagreement", [0.04, 0.08])
@pytest.mark.slow
def test_error_rates_over_simulated_rollouts(disagreement, record_property):
    equal, equal_labels = _rollouts(disagreement / 2, disagreement / 2, seed=1)
    worse, worse_labels = _rollouts((disagreement - 0.03) / 2, (disagreement + 0.03) / 2, seed=2)
    record_property("equal", (equal, equal_labels))
    record_property("worse", (worse, worse_labels))
    assert equal >= 0.9, f"{equal:.3f} of equal challengers pass after {equal_labels:g} labels"
    assert worse <= 0.05, f"{worse:.3f} of challengers worse by 3 points pass after {worse_labels:g} labels"


def test_an_e_value_is_never_large_when_its_hypothesis_holds_however_often_it_is_looked_at():
    rng = np.random.default_rng(3)
    crossed = 0
    for _ in range(300):
        hits = np.cumsum(rng.random(1_000) < 0.05)
        crossed += any(share_above(int(hits[n]), n + 1, 0.05) >= 20 for n in range(0, 1_000, 7))
    assert crossed / 300 <= 0.05


def test_failing_requests_and_slow_answers_speak_against_a_challenger():
    failing = judge_live(LiveEvidence(asked=200, failed=12), RolloutRules())
    assert failing.verdict is Verdict.WORSE
    assert "12 of 200 requests failed" in failing.reasons[0]
    slow = judge_live(LiveEvidence(timed=200, slow=60), RolloutRules())
    assert slow.verdict is Verdict.WORSE
    assert "60 of 200 answers were slow" in slow.reasons[0]
    assert judge_live(LiveEvidence(asked=200, failed=1, timed=200, slow=12), RolloutRules()).verdict is (
        Verdict.UNDECIDED
    )


@pytest.mark.parametrize("disagreement", [0.04, 0.1])
@pytest.mark.parametrize("labels", [30, 50, 100, 200, 300])
def test_few_labels_turn_no_equal_challenger_away_at_the_limit(disagreement, labels, record_property):
    rows = np.random.default_rng(labels).multinomial(labels, [disagreement / 2] * 2 + [1 - disagreement], size=2_000)
    kinds, times = np.unique(rows, axis=0, return_counts=True)
    worse = sum(
        count
        for (gains, losses, ties), count in zip(kinds.tolist(), times.tolist(), strict=True)
        if judge_live(LiveEvidence(gains=gains, losses=losses, ties=ties), RolloutRules(), at_limit=True).verdict
        is Verdict.WORSE
    )
    record_property("turned_away", worse / 2_000)
    assert worse / 2_000 <= 0.095 + 0.015  # three standard errors


def test_at_the_limit_a_verdict_falls():
    assert judge_live(LiveEvidence(), RolloutRules(), at_limit=True).verdict is Verdict.HOLDS
    distinguishable = LiveEvidence(gains=1, losses=7, ties=92)
    assert judge_live(distinguishable, RolloutRules()).verdict is Verdict.UNDECIDED
    decision = judge_live(distinguishable, RolloutRules(), at_limit=True)
    assert decision.verdict is Verdict.WORSE
    assert "at the time limit: -6.00 points on 100 scored rows (1 gained, 7 lost)" in decision.reasons[0]
    assert "of equal versions at most 9.5% differ so by chance" in decision.reasons[0]


@pytest.mark.parametrize(
    "by_chance",
    [LiveEvidence(losses=1, ties=29), LiveEvidence(gains=2, losses=5, ties=93), LiveEvidence(losses=2, ties=28)],
)
def test_at_the_limit_what_may_well_be_chance_speaks_against_nobody(by_chance):
    decision = judge_live(by_chance, RolloutRules(), at_limit=True)
    assert decision.verdict is Verdict.HOLDS
    assert decision.reasons[0].startswith("nothing speaks against it at the time limit")


def test_at_the_limit_a_difference_inside_the_margin_is_a_draw():
    slight = LiveEvidence(gains=100, losses=125, ties=2_775)
    assert judge_live(slight, RolloutRules(), at_limit=True).verdict is Verdict.HOLDS
    slight = LiveEvidence(losses=8, ties=592)
    assert judge_live(slight, RolloutRules(margin_points=2.6), at_limit=True).verdict is Verdict.WORSE
    assert judge_live(slight, RolloutRules(margin_points=2.7), at_limit=True).verdict is Verdict.HOLDS


@pytest.mark.parametrize("counts", [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(DataError):
        mean_above(*counts, 0.0)
    with pytest.raises(DataError):
        share_above(2, 1, 0.5)
    with pytest.raises(DataError):
        RolloutRules(margin_points=0)


@pytest.mark.parametrize(
    ("kind", "just", "needed"),
    [
        ("worse", lambda n: LiveEvidence(losses=n, ties=400), 200),
        ("failures", lambda n: LiveEvidence(asked=300, failed=n), 60),
        ("slow", lambda n: LiveEvidence(timed=300, slow=n), 60),
        ("unknown", lambda n: LiveEvidence(unlabelled=Unlabelled(compared=300, newly_unknown=n)), 60),
        (
            "disagreement",
            lambda n: LiveEvidence(unlabelled=Unlabelled(compared=300, disagreed=n, disagreement_limit=0.4)),
            60,
        ),
        (
            "confidence",
            lambda n: LiveEvidence(
                unlabelled=Unlabelled(compared=300, confidence=ScoreSums.of({-1.0: n, 0.0: 300 - n}))
            ),
            60,
        ),
    ],
)
def test_each_test_that_may_be_looked_at_for_ever_spends_its_part_of_the_error_rate(kind, just, needed):
    """Of the rate of quality a twentieth, so that the limit's test keeps the rest; of the others' each a sixth."""
    for hits in range(300):
        decision = judge_live(just(hits), RolloutRules())
        value = decision.figures["e_values"][kind]
        assert (decision.verdict is Verdict.WORSE) == (value >= needed)
        if value >= needed:
            break
    assert (decision.figures["e_value_needed"], decision.figures["worse_e_value_needed"]) == (60, 200)
    before = judge_live(just(hits - 1), RolloutRules())
    assert needed / 3 <= before.figures["e_values"][kind] < needed or before.figures["e_values"][kind] < 20 <= value
    assert before.verdict is Verdict.UNDECIDED


def test_a_challenger_passes_as_soon_as_the_evidence_reaches_the_error_rate():
    """Half of the rate: an e-value of 2 / error_rate."""
    for ties in range(2_000):
        decision = judge_live(LiveEvidence(ties=ties), RolloutRules())
        assert (decision.verdict is Verdict.HOLDS) == (decision.figures["e_values"]["not_worse_by_margin"] >= 20)
        if decision.verdict is Verdict.HOLDS:
            break
    assert 50 < ties < 200
    assert decision.reasons == (f"not worse by 3 points: +0.00 points on {ties} scored rows (0 gained, 0 lost)",)


def test_the_rules_of_a_workspace_that_sets_none_are_those_that_the_pages_state():
    assert RolloutRules() == RolloutRules(
        margin_points=3.0, error_rate=0.10, max_failure_share=0.01, max_slow_share=0.10
    )
    assert LiveEvidence() == LiveEvidence(gains=0, losses=0, ties=0, asked=0, failed=0, timed=0, slow=0, waiting=0)


def test_the_difference_is_of_all_labelled_rows_and_zero_without_any():
    assert LiveEvidence(gains=3, losses=5, ties=92).rows == 100
    assert LiveEvidence(gains=3, losses=5, ties=92).difference_points == -2.0
    assert LiveEvidence().difference_points == 0.0
    assert judge_live(LiveEvidence(gains=1, losses=2), RolloutRules()).figures["difference_points"] == -33.333


@pytest.mark.parametrize(("margin", "rate"), [(0.0, 0.05), (100.0, 0.05), (3.0, 0.0), (3.0, 0.5)])
def test_rules_that_decide_nothing_are_refused(margin, rate):
    with pytest.raises(DataError, match="must lie in"):
        RolloutRules(margin_points=margin, error_rate=rate)
    assert RolloutRules(margin_points=99.0, error_rate=0.49).margin_points == 99.0


def test_at_the_limit_losses_that_equal_versions_have_too_often_speak_against_nobody():
    """Three losses and no gain come about by chance in 1 of 8 cases, given that three rows differ, but not overall."""
    for losses, verdict in ((2, Verdict.HOLDS), (3, Verdict.WORSE)):
        lost = LiveEvidence(losses=losses, ties=100 - losses)
        assert judge_live(lost, RolloutRules(), at_limit=True).verdict is verdict
    assert judge_live(LiveEvidence(losses=3, ties=97), RolloutRules(error_rate=0.04), at_limit=True).verdict is (
        Verdict.HOLDS
    )


def test_at_the_limit_a_difference_of_half_the_margin_is_not_yet_nearer_to_it():
    half = LiveEvidence(losses=8, ties=632)  # 1.25 points, which chance gives in 1 of 256 cases
    assert judge_live(half, RolloutRules(margin_points=2.5), at_limit=True).verdict is Verdict.HOLDS
    assert judge_live(half, RolloutRules(margin_points=2.4), at_limit=True).verdict is Verdict.WORSE


def test_an_e_value_is_the_mean_growth_of_its_bets():
    """A share: all greater shares are bet on evenly. A mean: stakes from 0.01 to 0.95 of what can be staked."""
    shares = np.linspace(0.2, 1.0, 200_001)
    growth = (shares / 0.2) ** 3 * ((1 - shares) / 0.8) ** 7
    assert share_above(3, 10, 0.2) == pytest.approx(growth.mean(), rel=1e-4)
    stakes = np.geomspace(0.01, 0.95, 24) / 0.97
    growth = (1 + stakes * 1.03) ** 4 * (1 + stakes * -0.97) ** 2 * (1 + stakes * 0.03) ** 9
    assert mean_above(4, 2, 9, -0.03) == pytest.approx(growth.mean(), rel=1e-12)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_no_trial_can_pass_is_refused(share):
    with pytest.raises(DataError, match="must lie in"):
        share_above(1, 2, share)


@pytest.mark.parametrize("mean", [-1.0, 1.0])
def test_a_mean_that_no_row_can_pass_is_refused(mean):
    with pytest.raises(DataError, match="must lie in"):
        mean_above(1, 1, 1, mean)


def test_overwhelming_evidence_stays_a_number():
    assert 1e300 < share_above(100_000, 100_000, 0.01) < float("inf")


@pytest.mark.parametrize(
    ("hits", "trials", "share"),
    [(0, 5_000, 0.1), (0, 7_000, 0.1), (0, 10_000, 0.1), (400, 10_000, 0.1), (0, 1_000_000, 0.01), (0, 10**8, 0.99)],
)
def test_what_lies_far_below_a_share_never_speaks_against_it_however_long_it_goes_on(hits, trials, share):
    assert 0.0 <= share_above(hits, trials, share) < 0.01


def test_a_faultless_and_fast_challenger_is_not_turned_away_by_a_long_canary():
    faultless = LiveEvidence(asked=1_000_000, timed=1_000_000, slow=1_000)
    assert judge_live(faultless, RolloutRules()).verdict is Verdict.UNDECIDED


def test_the_e_values_are_of_the_counts_and_limits_that_the_rules_name():
    evidence = LiveEvidence(gains=2, losses=9, ties=400, asked=300, failed=4, timed=200, slow=30)
    rules = RolloutRules(margin_points=4.0, max_failure_share=0.02, max_slow_share=0.12)
    assert judge_live(evidence, rules).figures["e_values"] == {
        "worse": mean_above(9, 2, 400, 0.0),
        "not_worse_by_margin": mean_above(2, 9, 400, -0.04),
        "failures": share_above(4, 300, 0.02),
        "slow": share_above(30, 200, 0.12),
    }


def test_a_margin_below_a_point_can_be_asked_for():
    assert RolloutRules(margin_points=0.5).margin_points == 0.5


def test_fewer_than_no_hits_are_refused():
    with pytest.raises(DataError, match="-1 hits in 5 trials"):
        share_above(-1, 5, 0.1)
