"""Erasure over HTTP."""

from typing import Annotated, Protocol

from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from perennial.ops.api.auth import NeedsSomewhere, check
from perennial.ops.commands.erasing.person import PersonErasure, PersonPlan
from perennial.ops.safety.roles import EVERY, Caller, Role

__all__ = ["Eraser", "ErasureBody", "add_erasures"]


class Eraser(Protocol):
    """What the route needs of the running service."""

    def erase(self, key: str, *, model: str | None, dry_run: bool, actor: str) -> PersonPlan | PersonErasure:
        """Erase a person from every model or one, or say what would go; repeating it is harmless."""
        ...


class ErasureBody(BaseModel):
    """Whose rows leave, and from where: every model unless one is named."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=500)
    model: str | None = Field(None, max_length=100)
    dry_run: StrictBool = False


def add_erasures(api: FastAPI, eraser: Eraser) -> None:
    """Add the route: an operator may erase.

    The answer comes when all is done, which takes minutes where a head must be corrected. Sent again after a lost
    connection, the request finishes what was begun. `complete` is false while something is left.
    """

    @api.post("/v1/erasures")
    def erasures(
        body: ErasureBody, caller: Annotated[Caller, Depends(NeedsSomewhere(Role.OPERATOR))]
    ) -> PersonPlan | PersonErasure:
        """Remove all rows of a person from traffic, labels and models; with `dry_run` tell what would go."""
        check(caller, Role.OPERATOR, EVERY if body.model is None else body.model)
        return eraser.erase(body.key, model=body.model, dry_run=body.dry_run, actor=caller.name)
