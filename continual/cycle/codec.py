"""A cycle as the ledger keeps it."""

from dataclasses import asdict
from typing import Any

from perennial.continual.cycle.events import CycleState
from perennial.continual.cycle.transitions import Cycle, CyclePlan

__all__ = ["decode", "encode"]


def encode(cycle: Cycle) -> dict[str, Any]:
    """Return a cycle as JSON takes it."""
    return asdict(cycle)


def decode(payload: dict[str, Any]) -> Cycle:
    """Return the cycle that `encode` wrote.

    Raises:
        KeyError, TypeError, ValueError: it did not.
    """
    plan = payload["plan"]
    return Cycle(
        **{
            **payload,
            "state": CycleState(payload["state"]),
            "plan": CyclePlan(**{**plan, "canary_shares": tuple(plan["canary_shares"])}),
            "story": tuple(payload["story"]),
        }
    )
