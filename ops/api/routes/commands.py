"""An operator's commands over HTTP."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from fastapi import Depends, FastAPI, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from perennial.continual.preparation.entrance import NOTE_CHARACTERS, admit_note
from perennial.continual.records import Route
from perennial.continual.route import ExpectedRoute
from perennial.ops.api.auth import operator
from perennial.ops.api.conditions import IfMatch, etag_of, expected_route
from perennial.ops.api.models import check_known
from perennial.ops.commands.rollout import CommandEffect, request_command
from perennial.ops.ledger import Conflict, Ledger

__all__ = ["CommandControl", "Retraining", "RollbackBody", "VersionBody", "add_commands"]

_LAST_VERSION = 2**31 - 1  # of the ledger's column
_Version = Annotated[int, Field(strict=True, ge=1, le=_LAST_VERSION)]
_Reason = Annotated[str, Field(min_length=1, max_length=NOTE_CHARACTERS)]
_Cycle = Annotated[
    int | None,
    Query(ge=1, lt=2**31, description="the cycle that you have seen; where another is under way, nothing is asked"),
]
_Kind = Literal["approve", "promote", "abort", "pause", "resume"]


class CommandControl(Protocol):
    """What the commands need of the running loop."""

    def promote(self, model: str, version: int, *, actor: str, reason: str, expected: ExpectedRoute) -> Route:
        """Make a version champion; it is loaded first where needed."""
        ...

    def roll_back(self, model: str, *, to: int | None, actor: str, reason: str, expected: ExpectedRoute) -> Route:
        """Put the previous champion back."""
        ...

    def retrain(self, model: str, *, actor: str) -> int | None:
        """Open a cycle; None when one is under way."""
        ...


class _Move(BaseModel):
    model_config = ConfigDict(extra="forbid")

    expected: _Version | None = Field(None, description="the champion that you have seen")
    reason: _Reason = "operator"

    def seen(self, if_match: str | None) -> dict[str, Any]:
        """What the caller has seen, and why they ask, as the running loop takes it."""
        return {"expected": expected_route(if_match, self.expected), "reason": admit_note(self.reason)}


class VersionBody(_Move):
    """Which version, and why. Where another champion than the expected one answers by now, nothing is done (412)."""

    version: _Version


class RollbackBody(_Move):
    """Where to, and why. Where another champion than the expected one answers by now, nothing is done (412)."""

    to: _Version | None = Field(None, description="without it, the champion before this one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """The cycle that was opened."""

    cycle: int


def add_commands(api: FastAPI, ledger: Ledger, control: CommandControl) -> None:
    """Add the routes: only an operator may use them."""

    @api.post("/v1/models/{model}/promote")
    def promote(
        model: str,
        body: VersionBody,
        actor: Annotated[str, Depends(operator)],
        response: Response,
        if_match: IfMatch = None,
    ) -> Route:
        """Make a version champion; it is loaded first where needed."""
        check_known(ledger, model)
        return _told(response, control.promote(model, body.version, actor=actor, **body.seen(if_match)))

    @api.post("/v1/models/{model}/rollback")
    def rollback(
        model: str,
        body: RollbackBody,
        actor: Annotated[str, Depends(operator)],
        response: Response,
        if_match: IfMatch = None,
    ) -> Route:
        """Put the previous champion back. Name what you have seen: sent twice, it leads there and back again."""
        check_known(ledger, model)
        return _told(response, control.roll_back(model, to=body.to, actor=actor, **body.seen(if_match)))

    @api.post("/v1/models/{model}/retrain", status_code=202)
    def retrain(model: str, actor: Annotated[str, Depends(operator)]) -> Retraining:
        """Open a cycle."""
        check_known(ledger, model)
        cycle = control.retrain(model, actor=actor)
        if cycle is None:
            raise Conflict(f"{model} has a cycle under way; abort it, or wait for its end")
        return Retraining(cycle=cycle)

    @api.post("/v1/models/{model}/commands/{kind}", status_code=202, response_model_exclude_none=True)
    def command(
        model: str, kind: _Kind, actor: Annotated[str, Depends(operator)], cycle: _Cycle = None
    ) -> CommandEffect:
        """Ask the loop for something; `GET .../inbox/{number}` tells what became of it."""
        check_known(ledger, model)
        return request_command(ledger, model, kind, actor, cycle=cycle)


def _told(response: Response, route: Route) -> Route:
    """The route, with the tag that the next change may name."""
    response.headers["ETag"] = etag_of(route)
    return route
