"""What an operator sees of a rollout, and what a command would do to it."""

from dataclasses import asdict
from typing import Any

from continual import cycle as cy
from continual.errors import IllegalTransition, InputError, Refused
from ops.ledger import Ledger
from ops.loop.comparison import ROLLOUT
from ops.loop.inbox import PAUSED
from ops.loop.retries import RETRIES
from ops.loop.runner import decode
from ops.status import cycle_facts

__all__ = ["KINDS", "expected_effect", "request_command", "rollout_facts"]

KINDS = ("abort", "approve", "pause", "promote", "resume")


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


def expected_effect(ledger: Ledger, model: str, kind: str) -> dict[str, Any]:
    """The state now, and the one that a command would lead to.

    Raises:
        InputError: there is no such command; Refused: it does not fit the present state.
    """
    if kind not in KINDS:
        raise InputError(f"command {kind!r} is unknown; allowed are {', '.join(KINDS)}")
    row = ledger.active_cycle(model)
    if kind in {"pause", "resume"}:
        now = "paused" if ledger.get_state(model, PAUSED) else "running"
        return {"now": now, "then": "paused" if kind == "pause" else "running"}
    if row is None:
        raise Refused(f"{kind}: {model} has no cycle under way; start one with `perennial retrain`")
    cycle = decode(row.payload)
    event: cy.Event
    match kind:
        case "approve":
            event = cy.Approved(actor="operator")
        case "promote":
            event = cy.OperatorPromoted(actor="operator")
        case _:
            event = cy.OperatorAborted(actor="operator")
    try:
        after, commands = cy.handle(cycle, event)
    except IllegalTransition as exc:
        raise Refused(f"{kind}: {exc}") from exc
    steps = [f"{type(command).__name__}({_arguments(command)})" for command in commands]
    return {"cycle": row.id, "now": cycle.state.value, "then": after.state.value, "commands": steps}


def request_command(ledger: Ledger, model: str, kind: str, actor: str) -> dict[str, Any]:
    """Put a command into the inbox, for the cycle that is under way now and no later one; its number and its effect.

    Raises:
        InputError: there is no such command; Refused: it does not fit the present state.
    """
    effect = expected_effect(ledger, model, kind)
    args = {"cycle": effect["cycle"]} if "cycle" in effect else {}
    return {"command": ledger.request_command(model, kind, args, actor), **effect}


def _arguments(command: cy.Command) -> str:
    return ", ".join(f"{name}={value}" for name, value in asdict(command).items())
