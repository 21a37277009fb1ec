"""What an operator sees of a rollout."""

from dataclasses import dataclass
from typing import Protocol

from perennial.continual.records import Route
from perennial.ops.ledger.ports import Cycles, Routes, State
from perennial.ops.store.state import (
    PAUSED,
    PROBATION,
    PROBATION_FIGURES,
    RETRIES,
    ROLLOUT,
    ROLLOUT_POWER,
    LiveFigures,
    Probation,
    RetriedStep,
    RolloutPower,
)
from perennial.ops.views.status import CycleView

__all__ = ["RolloutSource", "RolloutView", "rollout_view"]


class RolloutSource(Routes, Cycles, State, Protocol):
    """Where a rollout is read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """The route, the cycle under way or the last one, what it waits for, and its canary's or probation's figures."""

    model: str
    route: Route | None
    paused: bool
    cycle: CycleView | None
    waits: RetriedStep | None
    power: RolloutPower | None
    live: LiveFigures | None
    probation: Probation | None  # of an earlier cycle's version, beside the cycles since
    probation_live: LiveFigures | None


def rollout_view(ledger: RolloutSource, model: str) -> RolloutView:
    """How one model's rollout is now."""
    cycle = ledger.active_cycle(model) or next(iter(ledger.cycles(model, limit=1)), None)
    live, waits = ROLLOUT.read(ledger, model), RETRIES.read(ledger, model)
    power = ROLLOUT_POWER.read(ledger, model)
    beside, seen = PROBATION.read(ledger, model), PROBATION_FIGURES.read(ledger, model)
    waiting = cycle is not None and cycle.closed_at is None and waits is not None and waits.cycle == cycle.id
    return RolloutView(
        model=model,
        route=ledger.route(model),
        paused=bool(PAUSED.read(ledger, model)),
        cycle=None if cycle is None else CycleView.of(cycle),
        waits=waits if waiting else None,
        power=power if cycle is not None and power is not None and power.cycle == cycle.id else None,
        live=live if cycle is not None and live is not None and live.cycle == cycle.id else None,
        probation=beside,
        probation_live=seen if beside is not None and seen is not None and seen.cycle == beside.cycle else None,
    )
