"""What headlines and comments say of each symbol, the events that they make, and alerts with their evidence."""

from perennial.ops.recipes.recipe import DATA, FileRole, Recipe, RecipeModel

__all__ = ["RECIPE"]

_SETTINGS = """
[models.{model}]
task = "opinion"

[models.{model}.learning]
first_learner = "auto"   # serves in seconds
learner = "finetune"     # later versions tune the network, with words beside it: minutes each
replay_rows = 10_000     # rows that each of them learns again
params = { head = "fused", learning_rate = 1e-4 }

[models.{model}.events]
false_alerts_per_day = 1.0   # by mere chance; the limit of an event is calibrated to it each day
sources = 2                  # so many different ones make an event; copies of one headline are one
quiet_hours = 24.0           # an event that nobody tells of for so long is over
risk_limit = 0.5             # risk from which an event alarms
# rules = [{ name = "bad for ACME", sentiment = "negative", at_least = 3, within_minutes = 60, symbols = ["ACME"] }]

# [models.{model}.feeds.wire]      # headlines that are asked by themselves, by a name of your own
# url = "https://example.org/news.rss"
# every_s = 60.0

[models.{model}.policy]
kind = "any"
policies = [{ kind = "drift" }, { kind = "gain" }, { kind = "feedback_count", at_least = 500 }]
limits = { cooldown_s = 600.0, min_feedback = 100, budget_per_day = 24 }
"""
RECIPE = Recipe(
    name="opinion",
    summary="headlines and comments: sentiment per symbol, events, and alerts with their evidence",
    page="docs/opinion.md",
    models=(
        RecipeModel(
            name="opinion",
            task="opinion",
            settings=_SETTINGS,
            files=(
                FileRole(
                    name=DATA,
                    stems=("headlines", "news", "gold_news", "comments", "sent_train", "tweets"),
                    holds="text and label (positive, negative, neutral, or your own words)",
                ),
            ),
        ),
    ),
)
