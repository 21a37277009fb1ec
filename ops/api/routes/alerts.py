"""Events and alerts over HTTP."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal, Protocol

from fastapi import Depends, FastAPI, Path
from pydantic import BaseModel, ConfigDict, Field

from perennial.continual.errors import DataError
from perennial.continual.preparation import shown
from perennial.ops.api.auth import viewer
from perennial.ops.api.models import check_known
from perennial.ops.api.paging import NamePage, NumberPage
from perennial.ops.ledger import Ledger
from perennial.ops.store.alerts import LAST_NUMBER, AlertState
from perennial.ops.views.alerts import AlertView, EventView

__all__ = ["AlertDesk", "Verdict", "add_alerts"]

_State = Literal["open", "confirmed", "dismissed"]


class AlertDesk(Protocol):
    """What the routes need of the running service."""

    def alerts(self, model: str, *, state: AlertState | None, last: int, before: int = LAST_NUMBER) -> list[AlertView]:
        """The latest alerts, the newest first; with `before`, those of lower numbers."""
        ...

    def alert(self, model: str, number: int) -> AlertView:
        """One alert."""
        ...

    def judge(self, model: str, number: int, state: AlertState, *, actor: str, note: str) -> AlertView:
        """Confirm or dismiss one, or open it again."""
        ...

    def news_events(self, model: str, *, last: int, before: tuple[datetime, str] | None = None) -> list[EventView]:
        """The latest events, the newest first; with `before`, those behind the one of this opening and name."""
        ...


class Verdict(BaseModel):
    """What an analyst says of an alert; `open` takes it back."""

    model_config = ConfigDict(extra="forbid")

    verdict: _State
    note: str = Field("", max_length=500)


def add_alerts(api: FastAPI, ledger: Ledger, desk: AlertDesk, labeller: Callable[..., str]) -> None:
    """Add the routes: a viewer may read, a labeller may judge."""

    @api.get("/v1/models/{model}/alerts", dependencies=[Depends(viewer)])
    def alerts(model: str, page: Annotated[NumberPage, Depends()], state: _State | None = None) -> list[AlertView]:
        """The latest alerts, each with the headlines that speak for it. Nothing is foretold."""
        check_known(ledger, model)
        before, chosen = LAST_NUMBER if page.after is None else page.after, state and AlertState(state)
        found = desk.alerts(model, state=chosen, last=page.rows, before=before)
        return page.cut(found, lambda alert: alert.number)

    @api.get("/v1/models/{model}/alerts/{number}", dependencies=[Depends(viewer)])
    def alert(model: str, number: Annotated[int, Path(ge=1, lt=2**63)]) -> AlertView:
        """One alert with the headlines that speak for it."""
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
    def events(model: str, page: Annotated[NamePage, Depends()]) -> list[EventView]:
        """The latest events among the model's headlines."""
        check_known(ledger, model)
        found = desk.news_events(model, last=page.rows, before=_opening(page.after) if page.after else None)
        return page.cut(found, lambda event: f"{event.opened_at.isoformat()} {event.event}")


def _opening(after: str) -> tuple[datetime, str]:
    """The opening and the name of the event that a page ended with."""
    opened, _, name = after.partition(" ")
    try:
        at = datetime.fromisoformat(opened)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise DataError(f"after is {shown(after)}; give it as the Link of the page before named it")
    return at, name
