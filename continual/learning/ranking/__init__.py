"""Recommendation: sums over users' histories, the state of a user, and the list that both give.

Standard library, numpy and scipy only. Nothing here knows files of a service, servers or the loop.
"""

from perennial.continual.learning.ranking.events import Event, Item, Signal, event_of, liking
from perennial.continual.learning.ranking.exposure import Exposure, measure_exposure
from perennial.continual.learning.ranking.gram import GramSettings, ItemGram, Structure, histories, user_key
from perennial.continual.learning.ranking.impressions import events_of, impressions_of
from perennial.continual.learning.ranking.item_texts import ItemTexts
from perennial.continual.learning.ranking.neighbours import Neighbours
from perennial.continual.learning.ranking.profile import Profile, profile_words
from perennial.continual.learning.ranking.recommender import Ask, Blend, Following, Placed, Ranked, Recommender
from perennial.continual.learning.ranking.rules import ItemRule, RuleText
from perennial.continual.learning.ranking.slots import Bounds, Exploration
from perennial.continual.learning.ranking.trained import TrainedRanking, read_items, write_items

__all__ = [
    "Ask",
    "Blend",
    "Bounds",
    "Event",
    "Exploration",
    "Exposure",
    "Following",
    "GramSettings",
    "Item",
    "ItemGram",
    "ItemRule",
    "ItemTexts",
    "Neighbours",
    "Placed",
    "Profile",
    "Ranked",
    "Recommender",
    "RuleText",
    "Signal",
    "Structure",
    "TrainedRanking",
    "event_of",
    "events_of",
    "histories",
    "impressions_of",
    "liking",
    "measure_exposure",
    "profile_words",
    "read_items",
    "user_key",
    "write_items",
]
