"""Drift: what changed between a version's first traffic and now, and whether that is worth a retraining."""

from perennial.continual.drift.compare import DriftComparison, SignalResult, compare
from perennial.continual.drift.monitor import DriftMonitor, DriftSignal, Level, MonitorState
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.settings import DriftSettings, Signal, Votes, alpha_for
from perennial.continual.drift.window import Window

__all__ = [
    "DriftComparison",
    "DriftMonitor",
    "DriftSettings",
    "DriftSignal",
    "Level",
    "MonitorState",
    "ReferenceProfile",
    "Signal",
    "SignalResult",
    "Votes",
    "Window",
    "alpha_for",
    "compare",
]
