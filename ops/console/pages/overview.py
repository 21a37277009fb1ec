"""The overview: every model, and what needs a person."""

from collections.abc import Mapping

from perennial.ops.console.desk import Desk, Shown
from perennial.ops.console.visit import Page, Visit
from perennial.ops.views.health import part_rows
from perennial.ops.views.overview import known_models, model_cards

__all__ = ["add_overview"]


def add_overview(desk: Desk) -> None:
    """Add the page."""

    def facts() -> Mapping[str, object]:
        health, models = desk.control.health(), known_models(desk.ledger)
        tasks = {model: desk.task_of(model) for model in models}
        cards = model_cards(desk.ledger, desk.traffic, health, tasks, models)
        needs = sorted((need for card in cards for need in card.needs), key=lambda need: not need.urgent)
        parts = [part for part in part_rows(health) if not part.healthy and not part.part.startswith("model:")]
        return {"cards": cards, "needs": needs, "parts": parts}

    @desk.page("/console")
    def overview(_: Visit) -> Shown:
        return Page("overview.html", desk.shared("overview", facts))
