"""Commands to a rollout, and what each would do to it."""

from dataclasses import asdict
from typing import Any

from perennial.continual import cycle as cy
from perennial.continual.cycle import decode
from perennial.continual.errors import IllegalTransition, InputError, Refused
from perennial.ops.cycle.inbox import PAUSED
from perennial.ops.ledger import Ledger

__all__ = ["KINDS", "expected_effect", "request_command"]

KINDS = ("abort", "approve", "pause", "promote", "resume")


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
