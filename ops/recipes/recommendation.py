"""Items in an order for one user: what users did with items, and the catalogue, in one folder."""

from perennial.ops.recipes.recipe import DATA, ITEMS, FileRole, Recipe, RecipeModel

__all__ = ["RECIPE"]

_SETTINGS = """
[models.{model}]
task = "ranking"

[models.{model}.learning.params]
exploration = { share = 0.05, most = 1 }   # places lent to items that few users know; 0 lends none
# bounds = { most_popular = 5, most_alike = 3 }   # at most so many of a list

[models.{model}.policy]
kind = "any"
policies = [{ kind = "drift" }, { kind = "feedback_count", at_least = 1000 }]
limits = { cooldown_s = 600.0, min_feedback = 100, budget_per_day = 24 }
"""
RECIPE = Recipe(
    name="recommendation",
    summary="items in an order for one user: clicks, ratings, skips and dwells come back, new items get places",
    page="docs/recommendation.md",
    models=(
        RecipeModel(
            name="recommendation",
            task="ranking",
            settings=_SETTINGS,
            files=(
                FileRole(
                    name=DATA,
                    stems=("events", "ratings", "interactions", "signals"),
                    holds="user, item and at (signal and value, or rating, or dwell, where known)",
                ),
                FileRole(
                    name=ITEMS,
                    stems=("items", "movies", "catalogue", "catalog", "products"),
                    holds="item, and where known text, tags, language, offered_from, offered_until",
                    required=False,
                ),
            ),
        ),
    ),
)
