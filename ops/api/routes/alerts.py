"""Events and alerts over HTTP."""

from collections.abc import Callable
from typing import Annotated, Literal, Protocol

from fastapi import Depends, FastAPI, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from perennial.ops.api.auth import viewer
from perennial.ops.api.models import check_known
from perennial.ops.ledger import Ledger
from perennial.ops.store.alerts import AlertState
from perennial.ops.views.alerts import AlertView, EventView

__all__ = ["AlertDesk", "Verdict", "add_alerts"]

_State = Literal["open", "confirmed", "dismissed"]


class AlertDesk(Protocol):
    """What the routes need of the running service."""

    def alerts(self, model: str, *, state: AlertState | None, last: int) -> list[AlertView]:
        """The latest alerts, the newest first."""
        ...

    def alert(self, model: str, number: int) -> AlertView:
        """One alert."""
        ...

    def judge(self, model: str, number: int, state: AlertState, *, actor: str, note: str) -> AlertView:
        """Confirm or dismiss one, or open it again."""
        ...

    def news_events(self, model: str, *, last: int) -> list[EventView]:
        """The latest events, the newest first."""
        ...


class Verdict(BaseModel):
    """What an analyst says of an alert; `open` takes it back."""

    model_config = ConfigDict(extra="forbid")

    verdict: _State
    note: str = Field("", max_length=500)


def add_alerts(api: FastAPI, ledger: Ledger, desk: AlertDesk, labeller: Callable[..., str]) -> None:
    """Add the routes: a viewer may read, a labeller may judge."""

    @api.get("/v1/models/{model}/alerts", dependencies=[Depends(viewer)])
    def alerts(
        model: str, state: _State | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> list[AlertView]:
        """The latest alerts, each with the headlines that speak for it. Nothing is foretold."""
        check_known(ledger, model)
        return desk.alerts(model, state=None if state is None else AlertState(state), last=limit)

    @api.get("/v1/models/{model}/alerts/{number}", dependencies=[Depends(viewer)])
    def alert(model: str, number: Annotated[int, Path(ge=1, lt=2**63)]) -> AlertView:
        check_known(ledger, model)
        return desk.alert(model, number)

    @api.post("/v1/models/{model}/alerts/{number}")
    def judge(
        model: str,
        number: Annotated[int, Path(ge=1, lt=2**63)],
        body: Verdict,
        actor: Annotated[str, Depends(labeller)],
    ) -> AlertView:
        """Confirm or dismiss an alert; later risks are scored by all verdicts."""
        check_known(ledger, model)
        return desk.judge(model, number, AlertState(body.verdict), actor=actor, note=body.note)

    @api.get("/v1/models/{model}/events", dependencies=[Depends(viewer)])
    def events(model: str, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> list[EventView]:
        """The latest events among the model's headlines."""
        check_known(ledger, model)
        return desk.news_events(model, last=limit)
