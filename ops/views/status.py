"""What an operator sees: plain facts about a model, out of the ledger alone."""

from dataclasses import asdict
from typing import Any

from perennial.continual.records import Split
from perennial.ops.cycle.lane import LANE
from perennial.ops.ledger import CycleRow, Ledger, VersionRow
from perennial.ops.watching.accuracy import ModelAccuracy
from perennial.ops.watching.error_watch import ErrorState

__all__ = ["cycle_facts", "model_status", "version_facts"]


def model_status(ledger: Ledger, model: str) -> dict[str, Any]:
    """The route, the cycle under way, the newest drift verdict and the labels of one model."""
    route = ledger.route(model)
    cycle = ledger.active_cycle(model)
    reports = ledger.drift_reports(model, limit=1)
    buffer = ledger.load_buffer(model)
    return {
        "model": model,
        "champion": None if route is None else route.champion,
        "previous": None if route is None else route.previous,
        "challenger": None if route is None else route.challenger,
        "share": 0.0 if route is None else route.share,
        "resident": [] if route is None else list(route.resident),
        "epoch": 0 if route is None else route.epoch,
        "cycle": None if cycle is None else cycle_facts(cycle),
        "training": None if cycle is None else ledger.get_state(model, LANE),
        "drift": None if not reports else {"state": reports[0].state, "at": reports[0].at, "rows": reports[0].rows},
        "accuracy": None if route is None else _accuracy(ledger, model, route.champion),
        "labels": {
            "training": sum(ledger.label_counts(model, Split.TRAIN).values()),
            "holdout": sum(ledger.label_counts(model, Split.HOLDOUT).values()),
            "unlearnt": ledger.unlearnt_count(model, by=None if route is None else route.champion),
            "feedback": ledger.feedback_count(model),
        },
        "replay_rows": 0 if buffer is None else len(buffer.rows),
    }


def _accuracy(ledger: Ledger, model: str, champion: int) -> dict[str, Any] | None:
    """The champion's accuracy as it was told last, each figure with its assumption; None before the first look."""
    told = ModelAccuracy.read(ledger, model, champion)
    errors = ErrorState.read(ledger, model, champion)
    return None if told is None else told.to_json() | {"errors": None if errors is None else errors.facts()}


def cycle_facts(row: CycleRow) -> dict[str, Any]:
    """One cycle without its inner state."""
    return {
        "id": row.id,
        "state": row.state,
        "reason": row.reason,
        "challenger": row.payload.get("challenger"),
        "opened_at": row.opened_at,
        "closed_at": row.closed_at,
        "outcome": row.outcome,
        "note": row.note,
        "story": list(row.payload.get("story", ())),
    }


def version_facts(row: VersionRow) -> dict[str, Any]:
    """One version, its labels counted rather than listed."""
    facts = asdict(row)
    facts["state"] = row.state.value
    facts["classes"] = len(facts.pop("labels"))
    return facts
