"""An operator's commands over HTTP."""

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict, Field

from perennial.continual.preparation.entrance import NOTE_CHARACTERS, admit_note
from perennial.continual.records import Route
from perennial.ops.api.auth import operator
from perennial.ops.api.models import check_known
from perennial.ops.commands.rollout import CommandEffect, request_command
from perennial.ops.ledger import Conflict, Ledger

__all__ = ["CommandControl", "Retraining", "RollbackBody", "VersionBody", "add_commands"]

_LAST_VERSION = 2**31 - 1  # of the ledger's column
_Version = Annotated[int, Field(strict=True, ge=1, le=_LAST_VERSION)]
_Reason = Annotated[str, Field(min_length=1, max_length=NOTE_CHARACTERS)]
_Kind = Literal["approve", "promote", "abort", "pause", "resume"]


class CommandControl(Protocol):
    """What the commands need of the running loop."""

    def promote(self, model: str, version: int, *, actor: str, reason: str) -> Route:
        """Make a version champion; it is loaded first where needed."""
        ...

    def roll_back(self, model: str, *, to: int | None, actor: str, reason: str) -> Route:
        """Put the previous champion back."""
        ...

    def retrain(self, model: str, *, actor: str) -> int | None:
        """Open a cycle; None when one is under way."""
        ...


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VersionBody(_Body):
    """Which version, and why."""

    version: _Version
    reason: _Reason = "operator"


class RollbackBody(_Body):
    """Where to, and why."""

    to: _Version | None = None
    reason: _Reason = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """The cycle that was opened."""

    cycle: int


def add_commands(api: FastAPI, ledger: Ledger, control: CommandControl) -> None:
    """Add the routes: only an operator may use them."""

    @api.post("/v1/models/{model}/promote")
    def promote(model: str, body: VersionBody, actor: Annotated[str, Depends(operator)]) -> Route:
        check_known(ledger, model)
        return control.promote(model, body.version, actor=actor, reason=admit_note(body.reason))

    @api.post("/v1/models/{model}/rollback")
    def rollback(model: str, body: RollbackBody, actor: Annotated[str, Depends(operator)]) -> Route:
        check_known(ledger, model)
        return control.roll_back(model, to=body.to, actor=actor, reason=admit_note(body.reason))

    @api.post("/v1/models/{model}/retrain", status_code=202)
    def retrain(model: str, actor: Annotated[str, Depends(operator)]) -> Retraining:
        check_known(ledger, model)
        cycle = control.retrain(model, actor=actor)
        if cycle is None:
            raise Conflict(f"{model} has a cycle under way; abort it, or wait for its end")
        return Retraining(cycle=cycle)

    @api.post("/v1/models/{model}/commands/{kind}", status_code=202, response_model_exclude_none=True)
    def command(model: str, kind: _Kind, actor: Annotated[str, Depends(operator)]) -> CommandEffect:
        check_known(ledger, model)
        return request_command(ledger, model, kind, actor)
