"""Approved replies to customers: answers and the questions that they answer, in one folder."""

from perennial.ops.recipes.recipe import DATA, FileRole, Recipe, RecipeModel

__all__ = ["RECIPE"]

_SETTINGS = """
[models.{model}]
task = "replies"

[models.{model}.policy]
kind = "any"
policies = [{ kind = "drift" }, { kind = "gain" }, { kind = "feedback_count", at_least = 200 }]
limits = { cooldown_s = 600.0, min_feedback = 50, budget_per_day = 24 }
"""
RECIPE = Recipe(
    name="service",
    summary="a message gets its intent, up to three approved replies, and whether to send, suggest or pass on",
    page="docs/service.md",
    models=(
        RecipeModel(
            name="service",
            task="replies",
            settings=_SETTINGS,
            files=(
                FileRole(
                    name=DATA,
                    stems=("replies", "answers", "faq", "bankfaq", "library"),
                    holds="reply (or answer) and intent (or class), and where known question, id, language, owner",
                ),
                FileRole(
                    name="messages",
                    stems=("messages", "requests", "tickets"),
                    holds="text and label (the intent)",
                    required=False,
                ),
            ),
        ),
    ),
)
