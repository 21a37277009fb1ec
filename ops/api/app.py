"""The HTTP control plane: status, labels and an operator's commands, under `/v1`."""

from typing import Annotated, Protocol

from fastapi import Depends, FastAPI, Query, Response

from perennial.continual.errors import ConfigurationError
from perennial.ops.api.auth import NeedsSomewhere, labeller, viewer
from perennial.ops.api.errors import translate_errors
from perennial.ops.api.guard import Guard
from perennial.ops.api.models import check_known
from perennial.ops.api.openapi import document
from perennial.ops.api.origin import is_loopback
from perennial.ops.api.pages import Pages
from perennial.ops.api.routes.accounts import add_accounts
from perennial.ops.api.routes.alerts import AlertDesk, add_alerts
from perennial.ops.api.routes.commands import CommandControl, add_commands
from perennial.ops.api.routes.descriptions import add_descriptions
from perennial.ops.api.routes.erasure import Eraser, add_erasures
from perennial.ops.api.routes.feedback import add_feedback
from perennial.ops.api.routes.health import HealthControl, add_health
from perennial.ops.api.routes.proposals import Proposer, add_proposals
from perennial.ops.api.routes.replies import Librarian, add_replies
from perennial.ops.api.routes.signals import SignalKeeper, add_signals_route
from perennial.ops.api.routes.users import UserKeeper, add_users
from perennial.ops.api.routes.verdicts import VerdictKeeper, add_verdicts_route
from perennial.ops.commands.label_queue import OpenQueue
from perennial.ops.ledger import AuditEntry, Ledger
from perennial.ops.safety.roles import Caller, Role
from perennial.ops.settings import ApiSettings
from perennial.ops.store.event_feed import EventFeed, LoopEvent
from perennial.ops.views.callers import Callers
from perennial.ops.views.drift import DriftReport, drift_report
from perennial.ops.views.health import ServiceStatus, part_rows
from perennial.ops.views.rollout import RolloutView, rollout_view
from perennial.ops.views.status import CycleView, ModelStatus, model_status
from perennial.ops.views.versions import VersionView, version_view

__all__ = ["LoopControl", "create_api"]


class LoopControl(
    AlertDesk,
    CommandControl,
    Eraser,
    HealthControl,
    Librarian,
    Proposer,
    SignalKeeper,
    UserKeeper,
    VerdictKeeper,
    Protocol,
):
    """What the API needs of the running loop."""

    def label_queue(self, model: str, *, limit: int, fill: int) -> OpenQueue:
        """Requests to label next, and the accuracy that the labels so far tell of."""
        ...

    def metrics(self) -> str:
        """Prometheus text."""
        ...


class _Prometheus(Response):
    media_type = "text/plain; version=0.0.4; charset=utf-8"


def create_api(
    ledger: Ledger, control: LoopControl, feed: EventFeed, settings: ApiSettings, pages: Pages | None = None
) -> FastAPI:
    """The application, with the pages of the console where there is one.

    Raises:
        ConfigurationError: it would listen beyond loopback and ask nobody who they are.
    """
    callers = Callers(settings, ledger)
    if not callers.asks and not is_loopback(settings.host):
        raise ConfigurationError(
            f"api.host is {settings.host} and api.tokens is empty; add the hash of a token (`perennial token new`), or "
            f"set api.accounts and make accounts (`perennial account set`), or listen on 127.0.0.1"
        )
    api = FastAPI(title="Perennial", version="1", docs_url="/docs", redoc_url=None)
    translate_errors(api, pages)
    api.add_middleware(Guard, routes=api.routes, settings=settings, callers=callers, pages=pages)
    add_health(api, control)
    _add_reading(api, ledger, control, feed)
    add_feedback(api, ledger)
    add_signals_route(api, ledger, control)
    add_users(api, ledger, control)
    add_verdicts_route(api, ledger, control)
    add_replies(api, control)
    _add_label_queue(api, ledger, control)
    add_proposals(api, ledger, control, labeller)
    add_descriptions(api, ledger)
    add_alerts(api, ledger, control, labeller)
    add_erasures(api, control)
    add_commands(api, ledger, control)
    add_accounts(api, ledger)
    if pages is not None:
        api.router.routes.extend(pages.routes)
    document(api, asks_tokens=callers.asks)
    return api


def _add_reading(api: FastAPI, ledger: Ledger, control: LoopControl, feed: EventFeed) -> None:
    @api.get("/metrics", dependencies=[Depends(viewer)], response_class=_Prometheus)
    def metrics() -> Response:
        return _Prometheus(control.metrics())

    @api.get("/v1/status", dependencies=[Depends(viewer)])
    def status() -> ServiceStatus:
        """How the parts of the service are, the unhealthy ones first; answers whatever hangs."""
        health = control.health()
        return ServiceStatus(healthy=health.healthy, parts=part_rows(health))

    @api.get("/v1/models")
    def models(caller: Annotated[Caller, Depends(NeedsSomewhere(Role.VIEWER))]) -> list[ModelStatus]:
        """The models that the caller may look at."""
        return [model_status(ledger, row.name) for row in ledger.models() if caller.may(Role.VIEWER, row.name)]

    @api.get("/v1/models/{model}", dependencies=[Depends(viewer)])
    def model(model: str) -> ModelStatus:
        check_known(ledger, model)
        return model_status(ledger, model)

    @api.get("/v1/models/{model}/versions", dependencies=[Depends(viewer)])
    def versions(model: str) -> list[VersionView]:
        check_known(ledger, model)
        return [version_view(row) for row in ledger.versions(model)]

    @api.get("/v1/models/{model}/cycles", dependencies=[Depends(viewer)])
    def cycles(model: str, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> list[CycleView]:
        check_known(ledger, model)
        return [CycleView.of(row) for row in ledger.cycles(model, limit)]

    @api.get("/v1/models/{model}/drift", dependencies=[Depends(viewer)])
    def drift(model: str, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> list[DriftReport]:
        check_known(ledger, model)
        return [drift_report(row) for row in ledger.drift_reports(model, limit)]

    @api.get("/v1/models/{model}/rollout", dependencies=[Depends(viewer)])
    def rollout(model: str) -> RolloutView:
        check_known(ledger, model)
        return rollout_view(ledger, model)

    @api.get("/v1/events", dependencies=[Depends(viewer)])
    def events(since: Annotated[int, Query(ge=0)] = 0) -> list[LoopEvent]:
        return feed.since(since)

    @api.get("/v1/audit", dependencies=[Depends(viewer)])
    def audit(limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> list[AuditEntry]:
        return list(ledger.audit_entries(limit=limit))


def _add_label_queue(api: FastAPI, ledger: Ledger, control: LoopControl) -> None:
    @api.get("/v1/models/{model}/labels/queue", dependencies=[Depends(labeller)])
    def label_queue(model: str, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> OpenQueue:
        check_known(ledger, model)
        return control.label_queue(model, limit=limit, fill=0)

    @api.post("/v1/models/{model}/labels/queue", dependencies=[Depends(labeller)])
    def fill_label_queue(model: str, budget: Annotated[int, Query(ge=1, le=1000)] = 50) -> OpenQueue:
        check_known(ledger, model)
        return control.label_queue(model, limit=budget, fill=budget)
