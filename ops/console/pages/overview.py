"""The overview: every model, and what needs a person."""

from collections.abc import Mapping
from typing import Any

from perennial.ops.console.desk import Desk, Shown
from perennial.ops.console.visit import Page, Visit
from perennial.ops.views.health import part_rows
from perennial.ops.views.overview import known_models, model_cards

__all__ = ["add_overview"]


def add_overview(desk: Desk) -> None:
    """Add the page."""

    def facts() -> Mapping[str, Any]:
        health, models = desk.control.health(), known_models(desk.ledger)
        tasks = {model: desk.task_of(model) for model in models}
        cards = model_cards(desk.ledger, desk.traffic, health, tasks, models)
        needs = sorted((need for card in cards for need in card.needs), key=lambda need: not need.urgent)
        parts = [part for part in part_rows(health) if not part.healthy and not part.part.startswith("model:")]
        return {"cards": cards, "needs": needs, "parts": parts}

    @desk.page("/console", somewhere=True)
    def overview(visit: Visit) -> Shown:
        seen = dict(desk.shared("overview", facts))
        seen["cards"] = [card for card in seen["cards"] if visit.sees(card.status.model)]
        seen["needs"] = [need for need in seen["needs"] if visit.sees(need.model)]
        if not visit.may_everywhere("viewer"):
            seen["parts"] = []
        return Page("overview.html", seen)
