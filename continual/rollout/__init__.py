"""Challenger against champion on live traffic: evidence that may be looked at after every request, and the verdict."""

from perennial.continual.rollout.e_values import ScoreSums, mean_above, mean_score_above, share_above
from perennial.continual.rollout.verdict import LiveDecision, LiveEvidence, RolloutRules, Verdict, judge_live

__all__ = [
    "LiveDecision",
    "LiveEvidence",
    "RolloutRules",
    "ScoreSums",
    "Verdict",
    "judge_live",
    "mean_above",
    "mean_score_above",
    "share_above",
]
