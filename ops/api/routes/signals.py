"""What users did with items, over HTTP."""

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
from perennial.ops.store.feedback import AdmittedSignal, GivenSignal, admit_signal, check_takes

__all__ = ["Signal", "SignalKeeper", "Signals", "add_signals_route"]


class SignalKeeper(Protocol):
    """What the route needs of the running service."""

    def keep_signals(self, model: str, signals: Sequence[AdmittedSignal]) -> dict[str, int]:
        """Keep signals for the next answer and the next training, and count what became of them."""
        ...


class Signal(BaseModel):
    """One signal: of an answered prediction, or of a user. The rule of the entrance checks its values."""

    model_config = ConfigDict(extra="forbid")

    item: Annotated[Any, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 256})]
    signal: Annotated[Any, WithJsonSchema({"type": "string", "enum": ["click", "rating", "skip", "dwell"]})] = "click"
    value: Annotated[Any, WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}]})] = None
    prediction_id: Annotated[Any, optional(pattern="^[0-9a-f]{32}$")] = None
    user: Annotated[Any, optional(maxLength=256)] = None
    at: Annotated[Any, optional(format="date-time")] = None


class Signals(BaseModel):
    """Signals for one model."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="needed where there are several models")
    signals: list[Annotated[Signal, WrapValidator(apart)]] = Field(min_length=1, max_length=10_000)


def add_signals_route(api: FastAPI, ledger: Ledger, keeper: SignalKeeper) -> None:
    """Add the route: a labeller may write."""

    @api.post("/v1/signals")
    def signals(body: Signals, caller: Annotated[Caller, Depends(NeedsSomewhere(Role.LABELLER))]) -> Kept:
        """Keep signals; the next answer knows of them. Good rows are kept also where others are refused (422)."""
        model = known_or_only(ledger, body.model, caller, Role.LABELLER)
        check_takes(ledger, model, "ranking")
        rows, refused = _admitted(body)
        return kept_or_refused(keeper.keep_signals(model, rows), refused, of=len(body.signals), what="signals")


def _admitted(body: Signals) -> tuple[list[AdmittedSignal], list[dict[str, object]]]:
    now = datetime.now(UTC)
    return admitted(body.signals, lambda signal: admit_signal(GivenSignal(**dict(signal)), now=now))
