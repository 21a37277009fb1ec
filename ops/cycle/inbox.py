"""The operator's commands to one model's loop, taken in order, each answered by itself."""

import logging
from typing import Protocol

from perennial.continual import cycle as cy
from perennial.continual.errors import DependencyUnreachable, LeaseLost, PerennialError, Refused
from perennial.ops.ledger import CommandRow, CycleRow
from perennial.ops.ledger.ports import Inbox, State
from perennial.ops.store.state import PAUSED

__all__ = ["CommandInbox", "Commanded"]

logger = logging.getLogger(__name__)


class Commanded(Protocol):
    """What commands act on. Each call may be part of a transaction that is taken back."""

    def fire(self, reason: str, *, actor: str) -> int | None:
        """Open a cycle and return its id, or None when it cannot be opened now."""
        ...

    def apply(self, row: CycleRow, cycle: cy.Cycle, event: cy.Event) -> cy.Cycle:
        """Let an event act on the cycle under way, and return the cycle as it becomes.

        Raises:
            IllegalTransition: the event does not fit the cycle's state.
        """
        ...

    def replaced(self, cycle: cy.Cycle) -> cy.ChampionReplaced | cy.ChampionCorrected | None:
        """What a promotion, a rollback or an erasure beside the cycle is to it."""
        ...


class InboxLedger(Inbox, State, Protocol):
    """Where commands come from, and where a pause is noted."""


class CommandInbox:
    """What operators ask of one model's loop."""

    def __init__(self, ledger: InboxLedger, model: str, commanded: Commanded) -> None:
        self._ledger, self._model, self._commanded = ledger, model, commanded

    def take(self, row: CycleRow | None, cycle: cy.Cycle | None) -> bool:
        """Carry out what was asked, with the cycle under way, if any; whether the loop is to look again.

        Raises:
            DependencyUnreachable, LeaseLost: some were taken and not answered; reclaim them.
        """
        commands, before = self._ledger.take_commands(self._model), cycle
        for command in commands:
            try:
                with self._ledger.transaction():  # a killed process leaves no command to be carried out twice
                    cycle = self._obey(command, row, cycle)
                    self._ledger.finish_command(command.id, "done")
            except (DependencyUnreachable, LeaseLost):
                raise
            except PerennialError as exc:
                self._ledger.finish_command(command.id, f"refused: {exc}")
        return bool(commands) if row is None else cycle is not before

    def abort_waits(self, cycle_id: int) -> bool:
        """Whether somebody asked for the end of this cycle, and nobody took it up yet."""
        aborts = [command for command in self._ledger.waiting_commands(self._model) if command.kind == "abort"]
        return any(command.args.get("cycle", cycle_id) == cycle_id for command in aborts)

    def _obey(self, command: CommandRow, row: CycleRow | None, cycle: cy.Cycle | None) -> cy.Cycle | None:
        """Carry out one command, and return the cycle as it becomes.

        Raises:
            Refused, IllegalTransition: it does not fit; Conflict: another writer was first.
        """
        meant, now = command.args.get("cycle"), None if row is None else row.id
        elsewhere = meant not in {None, now}  # commands of older releases name no cycle
        if command.kind == "rolled_back" and (cycle is None or elsewhere or self._unchanged(cycle)):
            logger.debug("cycle.rolled_back_already", extra={"model": self._model})  # the route tells it all
            return cycle
        if elsewhere:
            other = "" if now is None else f"cycle {now} is under way; "
            raise Refused(f"it was meant for cycle {meant}, which is closed; {other}see `perennial rollout show`")
        if command.kind in {"pause", "resume"}:
            PAUSED.keep(self._ledger, self._model, command.kind == "pause")
            return cycle
        if command.kind == "retrain" and (row is None or row.on_probation):
            self._retrain(command)
            return cycle
        event = _event_of(command)
        if row is None or cycle is None or event is None:
            state = "no cycle under way" if row is None else "a cycle under way"
            raise Refused(f"{command.kind} does not fit {state}")
        return self._commanded.apply(row, cycle, event)

    def _retrain(self, command: CommandRow) -> None:
        why, request = command.args.get("reason"), f"asked by {command.actor}"
        if self._commanded.fire(f"{why}, {request}" if why else request, actor=command.actor) is None:
            raise Refused(
                "retrain opens no cycle: one is under way, or no version serves; see `perennial rollout show`"
            )

    def _unchanged(self, cycle: cy.Cycle) -> bool:
        """Whether a rollback led to the version that was champion already."""
        return cycle.state is not cy.CycleState.PROMOTING and self._commanded.replaced(cycle) is None


def _event_of(command: CommandRow) -> cy.Event | None:
    """The event that an operator's command is to a cycle under way; None when it is something else."""
    match command.kind:
        case "abort":
            return cy.OperatorAborted(actor=command.actor)
        case "approve":
            return cy.Approved(actor=command.actor)
        case "promote":
            return cy.OperatorPromoted(actor=command.actor)
        case "rolled_back":
            return cy.OperatorRolledBack(actor=command.actor)
        case _:
            return None
