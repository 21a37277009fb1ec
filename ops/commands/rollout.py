"""Commands to a rollout, and what each would do to it."""

from dataclasses import asdict, dataclass, replace
from typing import Protocol

from perennial.continual import cycle as cy
from perennial.continual.cycle import decode
from perennial.continual.errors import IllegalTransition, InputError, Overtaken, Refused
from perennial.ops.ledger.ports import Commands, Cycles, State
from perennial.ops.store.state import PAUSED

__all__ = ["KINDS", "CommandEffect", "RolloutLedger", "check_under_way", "expected_effect", "request_command"]

KINDS = ("abort", "approve", "pause", "promote", "resume")


class RolloutLedger(Commands, Cycles, State, Protocol):
    """Where a rollout stands, and where commands to it go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEffect:
    """What a command does to a rollout; `command` is its number once it was asked for.

    `cycle` and `commands`, the steps that follow, are told where it acts on a cycle's own state.
    """

    command: int | None = None
    cycle: int | None = None
    now: str
    then: str
    commands: tuple[str, ...] | None = None


def expected_effect(ledger: RolloutLedger, model: str, kind: str) -> CommandEffect:
    """The state now, and the one that a command would lead to.

    Raises:
        InputError: there is no such command; Refused: it does not fit the present state.
    """
    if kind not in KINDS:
        raise InputError(f"command {kind!r} is unknown; allowed are {', '.join(KINDS)}")
    row = ledger.active_cycle(model)
    if kind in {"pause", "resume"}:
        now = "paused" if PAUSED.read(ledger, model) else "running"
        return CommandEffect(now=now, then="paused" if kind == "pause" else "running")
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
    steps = tuple(f"{type(command).__name__}({_arguments(command)})" for command in commands)
    return CommandEffect(cycle=row.id, now=cycle.state.value, then=after.state.value, commands=steps)


def check_under_way(ledger: Cycles, model: str, kind: str, cycle: int | None) -> None:
    """Return where no cycle is named, or the named one is under way.

    Raises:
        Overtaken: another one is, or none.
    """
    if cycle is not None and ((row := ledger.active_cycle(model)) is None or row.id != cycle):
        now = "none" if row is None else f"cycle {row.id}"
        raise Overtaken(f"{kind}: cycle {cycle} of {model} is not under way, {now} is; look at it first")


def request_command(
    ledger: RolloutLedger, model: str, kind: str, actor: str, *, cycle: int | None = None
) -> CommandEffect:
    """Put a command into the inbox, for the cycle that is under way now and no later one; its number and its effect.

    Raises:
        InputError: there is no such command; Refused: it does not fit the present state.
        Overtaken: `cycle` is named, and another one is under way.
    """
    check_under_way(ledger, model, kind, cycle)
    effect = expected_effect(ledger, model, kind)
    args = {} if effect.cycle is None else {"cycle": effect.cycle}
    return replace(effect, command=ledger.request_command(model, kind, args, actor))


def _arguments(command: cy.Command) -> str:
    return ", ".join(f"{name}={value}" for name, value in asdict(command).items())
