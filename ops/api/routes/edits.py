"""Rewrites that people made or accepted, over HTTP."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, WrapValidator

from perennial.ops.api.auth import NeedsSomewhere
from perennial.ops.api.models import known_or_only
from perennial.ops.api.routes.feedback import Kept, admitted, apart, kept_or_refused, optional
from perennial.ops.ledger import Ledger
from perennial.ops.safety.roles import Caller, Role
from perennial.ops.store.feedback import GivenEdit, add_edits, admit_edit, check_takes

__all__ = ["Edits", "GivenEditBody", "add_edits_route"]

_Manner = Annotated[Any, optional(maxLength=256)]


class GivenEditBody(BaseModel):
    """One accepted text: of an answered request, or with its approved reply. The rule of the entrance checks it."""

    model_config = ConfigDict(extra="forbid")

    accepted: Annotated[Any, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 100_000})]
    prediction_id: Annotated[Any, optional(pattern="^[0-9a-f]{32}$")] = None
    approved: Annotated[Any, optional(minLength=1, maxLength=100_000)] = None
    tone: _Manner = None
    language: _Manner = None
    name: _Manner = Field(None, description="whom the text greets; a variable is kept in its place")
    key: Annotated[Any, optional(maxLength=256)] = None
    at: Annotated[Any, optional(format="date-time")] = None


class Edits(BaseModel):
    """Accepted edits for one model."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="needed where there are several models")
    edits: list[Annotated[GivenEditBody, WrapValidator(apart)]] = Field(min_length=1, max_length=10_000)


def add_edits_route(api: FastAPI, ledger: Ledger) -> None:
    """Add the route: a labeller may write."""

    @api.post("/v1/edits")
    def edits(body: Edits, caller: Annotated[Caller, Depends(NeedsSomewhere(Role.LABELLER))]) -> Kept:
        """Keep accepted edits for the next training. Good rows are kept beside refused ones (422)."""
        model = known_or_only(ledger, body.model, caller, Role.LABELLER)
        check_takes(ledger, model, "generation")
        now = datetime.now(UTC)
        rows, refused = admitted(body.edits, lambda one: admit_edit(GivenEdit(**dict(one)), now=now))
        return kept_or_refused(add_edits(ledger, model, rows), refused, of=len(body.edits), what="edits")
