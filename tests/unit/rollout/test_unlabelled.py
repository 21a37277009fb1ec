"""What answers say without labels: it stops a rollout, is outweighed by labels, and promotes nobody."""

from dataclasses import replace

import pytest

from perennial.continual.errors import DataError
from perennial.continual.rollout import LiveEvidence, RolloutRules, ScoreSums, Unlabelled, Verdict, judge_live

LOST_CONFIDENCE = Unlabelled(compared=400, disagreed=60, confidence=ScoreSums.of({-0.6: 200, 0.0: 200}))
ABSTAINS = Unlabelled(compared=200, newly_unknown=60)
MIXED_UP = Unlabelled(compared=100, disagreed=99, disagreement_limit=0.4)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (LOST_CONFIDENCE, "confidence: the confidences promise -30.0 points on 400 rows"),
        (ABSTAINS, "unknown: 60 of 200 answers are newly of none of the classes, 0 no longer"),
        (MIXED_UP, "disagreement: 99 of 100 answers differ (limit 40%)"),
    ],
)
def test_answers_alone_turn_a_challenger_away(seen, reason):
    decision = judge_live(LiveEvidence(unlabelled=seen), RolloutRules())
    assert decision.verdict is Verdict.WORSE
    assert decision.reasons[0].startswith(reason)
    assert decision.figures["compared"] == seen.compared


@pytest.mark.parametrize("seen", [LOST_CONFIDENCE, ABSTAINS, MIXED_UP])
def test_labels_that_speak_for_a_challenger_outweigh_answers_without_labels(seen):
    better = LiveEvidence(gains=20, losses=2, ties=78, unlabelled=seen)
    assert judge_live(better, RolloutRules()).verdict is not Verdict.WORSE
    equal = LiveEvidence(gains=11, losses=11, ties=78, unlabelled=seen)
    assert judge_live(equal, RolloutRules()).verdict is Verdict.WORSE


def test_answers_alone_promote_nobody():
    """However sure the challenger is, and however seldom the versions disagree."""
    sure = Unlabelled(compared=100_000, disagreed=1, confidence=ScoreSums.of({0.5: 100_000}), newly_known=20_000)
    for evidence in (LiveEvidence(unlabelled=sure), LiveEvidence(losses=1, ties=4, unlabelled=sure)):
        assert judge_live(evidence, RolloutRules()).verdict is Verdict.UNDECIDED


def test_confidences_may_be_off_by_what_the_calibration_is():
    seen = Unlabelled(compared=2_000, confidence=ScoreSums.of({-0.12: 2_000}))
    assert judge_live(LiveEvidence(unlabelled=seen), RolloutRules()).verdict is Verdict.WORSE
    off = replace(seen, calibration_error=0.1)
    assert judge_live(LiveEvidence(unlabelled=off), RolloutRules()).verdict is Verdict.UNDECIDED


def test_versions_may_disagree_as_often_as_their_accuracies_allow():
    assert Unlabelled.limit_of([]) is None
    assert Unlabelled.limit_of([(0.95, 0.95), (0.8, 0.9)]) == pytest.approx(0.3 + 0.25)
    assert Unlabelled.limit_of([(0.3, 0.8)]) is None
    nobody = replace(MIXED_UP, disagreement_limit=None)
    assert judge_live(LiveEvidence(unlabelled=nobody), RolloutRules()).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("wrong", [{"disagreed": 11}, {"disagreed": -1}, {"newly_unknown": 6, "newly_known": 5}])
def test_counts_beyond_what_was_compared_are_refused(wrong):
    with pytest.raises(DataError, match="more rows than it compared"):
        Unlabelled(compared=10, **wrong)
