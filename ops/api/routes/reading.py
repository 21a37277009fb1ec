"""What can be read of the models, their versions, cycles and commands, and of the service."""

from typing import Annotated, Protocol

from fastapi import Depends, FastAPI, Path, Response

from perennial.continual.errors import NotFound
from perennial.continual.records import Route
from perennial.ops.api.auth import NeedsSomewhere, operator, viewer
from perennial.ops.api.conditions import etag_of
from perennial.ops.api.models import check_known
from perennial.ops.api.paging import NamePage, NumberPage
from perennial.ops.ledger import AuditEntry, CommandRow, Ledger
from perennial.ops.safety.roles import Caller, Role
from perennial.ops.store.event_feed import EventFeed, LoopEvent
from perennial.ops.views.drift import DriftReport, drift_report
from perennial.ops.views.health import HealthView, ServiceStatus, part_rows
from perennial.ops.views.rollout import RolloutView, rollout_view
from perennial.ops.views.rollout_steps import StepView, cycle_of, steps_of
from perennial.ops.views.settings_in_force import SettingRow
from perennial.ops.views.status import CycleView, ModelStatus, model_status
from perennial.ops.views.versions import VersionDetails, VersionView, version_details, version_view

__all__ = ["ReadControl", "add_reading"]

_LAST_VERSION = 2**31 - 1  # of the ledger's column
_Number = Annotated[int, Path(ge=1, lt=2**31)]
_Page = Annotated[NumberPage, Depends()]
_Names = Annotated[NamePage, Depends()]


class ReadControl(Protocol):
    """What reading needs of the running service."""

    def health(self) -> HealthView:
        """Tell how each part is."""
        ...

    def metrics(self) -> str:
        """Prometheus text."""
        ...

    def settings(self) -> tuple[SettingRow, ...]:
        """Return the settings in force, without secrets."""
        ...


class _Prometheus(Response):
    media_type = "text/plain; version=0.0.4; charset=utf-8"


def add_reading(api: FastAPI, ledger: Ledger, control: ReadControl, feed: EventFeed) -> None:
    """Add the routes: a viewer may read, but the settings are an operator's."""
    _add_service(api, ledger, control, feed)
    _add_models(api, ledger)

    @api.get("/v1/models/{model}/cycles", dependencies=[Depends(viewer)])
    def cycles(model: str, page: _Page) -> list[CycleView]:
        """Retrainings, the newest first."""
        check_known(ledger, model)
        rows = ledger.cycles(model, page.rows, before_id=page.after)
        return page.cut([CycleView.of(row) for row in rows], lambda row: row.id)

    @api.get("/v1/models/{model}/cycles/{cycle}/steps", dependencies=[Depends(viewer)])
    def steps(model: str, cycle: _Number) -> list[StepView]:
        """What was done in a cycle, step by step, with what each began and ended with."""
        check_known(ledger, model)
        return list(steps_of(ledger, cycle_of(ledger, model, cycle).id))

    @api.get("/v1/models/{model}/inbox", dependencies=[Depends(viewer)])
    def commands(model: str, page: _Page) -> list[CommandRow]:
        """What operators asked of the loop, and what became of it, the newest first."""
        check_known(ledger, model)
        return page.cut(ledger.commands(model, page.rows, before_id=page.after), lambda row: row.id)

    @api.get("/v1/models/{model}/inbox/{number}", dependencies=[Depends(viewer)])
    def command(model: str, number: _Number) -> CommandRow:
        """One command; `outcome` is null while the loop has not carried it out."""
        check_known(ledger, model)
        row = ledger.command(number)
        if row.model != model:
            raise NotFound(f"{model} has no command {number}")
        return row

    @api.get("/v1/models/{model}/drift", dependencies=[Depends(viewer)])
    def drift(model: str, page: _Page) -> list[DriftReport]:
        """Measured windows of the traffic, the newest first."""
        check_known(ledger, model)
        rows = ledger.drift_reports(model, page.rows, before_id=page.after)
        return [drift_report(row) for row in page.cut(rows, lambda row: row.id)]

    @api.get("/v1/models/{model}/rollout", dependencies=[Depends(viewer)])
    def rollout(model: str) -> RolloutView:
        """The cycle under way or the last one, with its figures."""
        check_known(ledger, model)
        return rollout_view(ledger, model)


def _add_models(api: FastAPI, ledger: Ledger) -> None:
    @api.get("/v1/models")
    def models(caller: Annotated[Caller, Depends(NeedsSomewhere(Role.VIEWER))], page: _Names) -> list[ModelStatus]:
        """The models that the caller may look at, by name."""
        seen = [row for row in ledger.models() if caller.may(Role.VIEWER, row.name)]
        return [model_status(ledger, row.name) for row in page.of(seen, lambda row: row.name)]

    @api.get("/v1/models/{model}", dependencies=[Depends(viewer)])
    def model(model: str) -> ModelStatus:
        """How one model is."""
        check_known(ledger, model)
        return model_status(ledger, model)

    @api.get("/v1/models/{model}/route", dependencies=[Depends(viewer)])
    def route(model: str, response: Response) -> Route:
        """Which versions answer. Its `ETag` is for the `If-Match` of whatever changes it."""
        check_known(ledger, model)
        found = ledger.route(model)
        if found is None:
            raise NotFound(f"model {model} serves no version yet")
        response.headers["ETag"] = etag_of(found)
        return found

    @api.get("/v1/models/{model}/versions", dependencies=[Depends(viewer)])
    def versions(model: str, page: _Page) -> list[VersionView]:
        """Versions, the oldest first."""
        check_known(ledger, model)
        rows = ledger.versions(model, page.rows, after=min(page.after or 0, _LAST_VERSION))
        return page.cut([version_view(row) for row in rows], lambda row: row.version)

    @api.get("/v1/models/{model}/versions/{version}", dependencies=[Depends(viewer)])
    def version(model: str, version: _Number) -> VersionDetails:
        """Everything known about one version."""
        check_known(ledger, model)
        return version_details(ledger.version(model, version))


def _add_service(api: FastAPI, ledger: Ledger, control: ReadControl, feed: EventFeed) -> None:
    @api.get("/metrics", dependencies=[Depends(viewer)], response_class=_Prometheus)
    def metrics() -> Response:
        """The series of the control process, as Prometheus reads them."""
        return _Prometheus(control.metrics())

    @api.get("/v1/status", dependencies=[Depends(viewer)])
    def status() -> ServiceStatus:
        """How the parts of the service are, the unhealthy ones first; answers whatever hangs."""
        health = control.health()
        return ServiceStatus(healthy=health.healthy, parts=part_rows(health))

    @api.get("/v1/settings", dependencies=[Depends(operator)])
    def settings() -> list[SettingRow]:
        """The settings in force; what may be a secret has no value."""
        return list(control.settings())

    @api.get("/v1/events", dependencies=[Depends(viewer)])
    def events(page: _Page) -> list[LoopEvent]:
        """What the loop told, the oldest first. Numbers grow, also over a restart, which forgets older events."""
        return page.cut(feed.since(page.after or 0), lambda event: event.number)

    @api.get("/v1/audit", dependencies=[Depends(viewer)])
    def audit(page: _Page) -> list[AuditEntry]:
        """Who did what and why. Pages go back in time; within a page the oldest entry is first."""
        newest_first = tuple(reversed(ledger.audit_entries(limit=page.rows, before_seq=page.after)))
        return page.cut(newest_first, lambda entry: entry.seq)[::-1]
