"""The verdict on simulated rollouts: its stated error rates, and that looking often costs nothing."""

import numpy as np
import pytest

from continual.errors import DataError
from continual.rollout import LiveEvidence, RolloutRules, Verdict, judge_live, mean_above, share_above

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
def test_error_rates_over_simulated_rollouts(disagreement, record_property):
    equal, equal_labels = _rollouts(disagreement / 2, disagreement / 2, seed=1)
    worse, worse_labels = _rollouts((disagreement - 0.03) / 2, (disagreement + 0.03) / 2, seed=2)
    record_property("equal", (equal, equal_labels))
    record_property("worse", (worse, worse_labels))
    assert equal >= 0.95, f"{equal:.3f} of equal challengers pass after {equal_labels:g} labels"
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
    assert worse / 2_000 <= 0.05


def test_at_the_limit_a_verdict_falls():
    assert judge_live(LiveEvidence(), RolloutRules(), at_limit=True).verdict is Verdict.HOLDS
    told_apart = LiveEvidence(gains=1, losses=7, ties=92)
    assert judge_live(told_apart, RolloutRules()).verdict is Verdict.UNDECIDED
    decision = judge_live(told_apart, RolloutRules(), at_limit=True)
    assert decision.verdict is Verdict.WORSE
    assert "at the time limit: -6.00 points on 100 labelled rows (1 gained, 7 lost)" in decision.reasons[0]
    assert "by chance in 3.5%" in decision.reasons[0]


@pytest.mark.parametrize(
    "by_chance",
    [LiveEvidence(losses=1, ties=29), LiveEvidence(gains=1, losses=4, ties=95), LiveEvidence(losses=4, ties=26)],
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
