"""What an operator sees of a rollout."""

from dataclasses import asdict
from typing import Any

from perennial.ops.comparing.comparison import ROLLOUT
from perennial.ops.cycle.inbox import PAUSED
from perennial.ops.cycle.retries import RETRIES
from perennial.ops.ledger import Ledger
from perennial.ops.views.status import cycle_facts

__all__ = ["rollout_facts"]


def rollout_facts(ledger: Ledger, model: str) -> dict[str, Any]:
    """The route, the cycle under way or the last one, what it waits for, and its canary's or probation's figures."""
    route = ledger.route(model)
    cycle = ledger.active_cycle(model) or next(iter(ledger.cycles(model, limit=1)), None)
    live, waits = ledger.get_state(model, ROLLOUT), ledger.get_state(model, RETRIES)
    waiting = cycle is not None and cycle.closed_at is None and waits is not None and waits["cycle"] == cycle.id
    return {
        "model": model,
        "route": None if route is None else asdict(route),
        "paused": bool(ledger.get_state(model, PAUSED)),
        "cycle": None if cycle is None else cycle_facts(cycle),
        "waits": waits if waiting else None,
        "live": live if cycle is not None and live is not None and live["cycle"] == cycle.id else None,
    }
