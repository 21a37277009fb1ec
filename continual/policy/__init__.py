"""Trigger policies: when to retrain, decided from facts alone."""

from perennial.continual.policy.conditions import (
    AllOf,
    AnyOf,
    AtLeastN,
    Condition,
    Drift,
    EstimatedQuality,
    FeedbackCount,
    Gain,
    MeasuredQuality,
    Schedule,
)
from perennial.continual.policy.cron import next_time
from perennial.continual.policy.decide import Limits, QuietHours, TriggerDecision, TriggerPolicy, decide
from perennial.continual.policy.facts import DriftState, Facts, LearningGain, MeasuredShare, PastAttempt
from perennial.continual.policy.parse import parse_policy, policy_values
from perennial.continual.policy.replay import ChangeFound, History, HistoryPoint, ReplayResult, Retraining, replay

__all__ = [
    "AllOf",
    "AnyOf",
    "AtLeastN",
    "ChangeFound",
    "Condition",
    "Drift",
    "DriftState",
    "EstimatedQuality",
    "Facts",
    "FeedbackCount",
    "Gain",
    "History",
    "HistoryPoint",
    "LearningGain",
    "Limits",
    "MeasuredQuality",
    "MeasuredShare",
    "PastAttempt",
    "QuietHours",
    "ReplayResult",
    "Retraining",
    "Schedule",
    "TriggerDecision",
    "TriggerPolicy",
    "decide",
    "next_time",
    "parse_policy",
    "policy_values",
    "replay",
]
