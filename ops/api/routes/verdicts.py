"""What became of answers to customers, over HTTP."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol

from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, WrapValidator

from perennial.ops.api.auth import NeedsSomewhere
from perennial.ops.api.models import known_or_only
from perennial.ops.api.routes.feedback import Kept, admitted, apart, kept_or_refused, optional
from perennial.ops.ledger import Ledger
from perennial.ops.safety.roles import Caller, Role
from perennial.ops.store.feedback import AdmittedVerdict, GivenVerdict, admit_verdict, check_takes, known_labels
from perennial.ops.store.feedback.verdicts import VerdictKind

__all__ = ["GivenVerdictBody", "VerdictKeeper", "Verdicts", "add_verdicts_route"]


class VerdictKeeper(Protocol):
    """What the route needs of the running service."""

    def keep_verdicts(self, model: str, verdicts: Sequence[AdmittedVerdict]) -> dict[str, int]:
        """Keep verdicts for the next answer and the next training, and count the labels that follow from them."""
        ...


class GivenVerdictBody(BaseModel):
    """One verdict on an answer. The rule of the entrance checks its values."""

    model_config = ConfigDict(extra="forbid")

    prediction_id: Annotated[Any, WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{32}$"})]
    verdict: Annotated[Any, WithJsonSchema({"type": "string", "enum": list(VerdictKind)})]
    reply: Annotated[Any, optional(maxLength=256)] = None
    text: Annotated[Any, optional(minLength=1, maxLength=100_000)] = None
    intent: Annotated[Any, optional(minLength=1, maxLength=200)] = None
    at: Annotated[Any, optional(format="date-time")] = None


class Verdicts(BaseModel):
    """Verdicts for one model."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="needed where there are several models")
    verdicts: list[Annotated[GivenVerdictBody, WrapValidator(apart)]] = Field(min_length=1, max_length=10_000)


def add_verdicts_route(api: FastAPI, ledger: Ledger, keeper: VerdictKeeper) -> None:
    """Add the route: a labeller may write."""

    @api.post("/v1/verdicts")
    def verdicts(body: Verdicts, caller: Annotated[Caller, Depends(NeedsSomewhere(Role.LABELLER))]) -> Kept:
        """Keep what became of answers; the next answer knows of it. Good rows are kept beside refused ones (422)."""
        model = known_or_only(ledger, body.model, caller, Role.LABELLER)
        check_takes(ledger, model, "replies")
        known, now = known_labels(ledger, model), datetime.now(UTC)
        rows, refused = admitted(
            body.verdicts, lambda one: admit_verdict(GivenVerdict(**dict(one)), known=known, now=now)
        )
        return kept_or_refused(keeper.keep_verdicts(model, rows), refused, of=len(body.verdicts), what="verdicts")
