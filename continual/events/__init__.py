"""Events in a stream of headlines: which are alike beyond chance, and what is known of them together."""

from perennial.continual.events.burst import BurstSettings, BurstWatch, Surprise
from perennial.continual.events.calibration import Calibrated, calibrate
from perennial.continual.events.event import Event, Phase
from perennial.continual.events.item import Item
from perennial.continual.events.masking import tokens_of, words_of
from perennial.continual.events.plan import WatchPlan
from perennial.continual.events.risk import RiskFacts, RiskModel, facts_of
from perennial.continual.events.rules import AlertRule, Opinionated, RuleHit
from perennial.continual.events.watch import EventSettings, EventWatch, Sighting

__all__ = [
    "AlertRule",
    "BurstSettings",
    "BurstWatch",
    "Calibrated",
    "Event",
    "EventSettings",
    "EventWatch",
    "Item",
    "Opinionated",
    "Phase",
    "RiskFacts",
    "RiskModel",
    "RuleHit",
    "Sighting",
    "Surprise",
    "WatchPlan",
    "calibrate",
    "facts_of",
    "tokens_of",
    "words_of",
]
