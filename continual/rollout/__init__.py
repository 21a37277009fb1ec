"""Challenger against champion on live traffic: evidence that may be looked at after every request, and the verdict."""

from perennial.continual.rollout.canary_choice import CanaryChoice
from perennial.continual.rollout.e_values import (
    ScoreSums,
    log_mean_above,
    log_share_above,
    mean_above,
    mean_score_above,
    share_above,
)
from perennial.continual.rollout.limit_test import critical_loss, critical_losses
from perennial.continual.rollout.power import Power, visible_points
from perennial.continual.rollout.unlabelled import Unlabelled
from perennial.continual.rollout.verdict import LiveDecision, LiveEvidence, RolloutRules, Verdict, judge_live

__all__ = [
    "CanaryChoice",
    "LiveDecision",
    "LiveEvidence",
    "Power",
    "RolloutRules",
    "ScoreSums",
    "Unlabelled",
    "Verdict",
    "critical_loss",
    "critical_losses",
    "judge_live",
    "log_mean_above",
    "log_share_above",
    "mean_above",
    "mean_score_above",
    "share_above",
    "visible_points",
]
