"""Where pages are registered: each gets its route, its visitor and its way onto the screen."""

import hmac
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import parse_qsl, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path

from perennial.continual.errors import DataError, NotFound, Refused
from perennial.continual.preparation import shown
from perennial.continual.records import Route
from perennial.continual.route import ExpectedRoute
from perennial.ops.commands.class_proposals import ClassProposals
from perennial.ops.commands.label_queue import OpenQueue
from perennial.ops.commands.reply_library import ReplyLibrary
from perennial.ops.console.visit import Done, Page, Raw, Visit
from perennial.ops.ledger import Ledger
from perennial.ops.store.alerts import AlertState
from perennial.ops.store.workspace import Workspace
from perennial.ops.views.alerts import AlertView, EventView
from perennial.ops.views.health import HealthView
from perennial.ops.views.overview import known_models
from perennial.ops.views.traffic import TrafficViews

__all__ = ["ConsoleControl", "Desk", "PageRoute", "Shown", "to"]

Kept = TypeVar("Kept")
_MOST_FIELDS = 200
_STANDS_S = 1.0
Shown = Page | Done | Raw | Response


class ConsoleControl(Protocol):
    """What the console needs of the running loop; see the API's `LoopControl`."""

    def promote(self, model: str, version: int, *, actor: str, reason: str, expected: ExpectedRoute) -> Route:
        """Make a version champion."""
        ...

    def roll_back(self, model: str, *, to: int | None, actor: str, reason: str, expected: ExpectedRoute) -> Route:
        """Put the previous champion back."""
        ...

    def retrain(self, model: str, *, actor: str) -> int | None:
        """Open a cycle; None when one is under way."""
        ...

    def health(self) -> HealthView:
        """Tell how each part is."""
        ...

    def label_queue(self, model: str, *, limit: int, fill: int) -> OpenQueue:
        """Return requests to label next."""
        ...

    def class_proposals(self, model: str) -> ClassProposals:
        """Return the proposals of one model that classifies."""
        ...

    def reply_library(self, model: str) -> ReplyLibrary:
        """Return one model's library."""
        ...

    def alerts(self, model: str, *, state: AlertState | None, last: int) -> list[AlertView]:
        """Return the latest alerts."""
        ...

    def judge(self, model: str, number: int, state: AlertState, *, actor: str, note: str) -> AlertView:
        """Confirm or dismiss an alert."""
        ...

    def news_events(self, model: str, *, last: int) -> list[EventView]:
        """Return the latest events."""
        ...


class PageRoute(Path):
    """The route of a page; `needs` is the least role, None for what is open to everybody.

    The role is asked for the model of the path, or for all of them; with `somewhere` one for any model is enough.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        methods: list[str],
        needs: str | None,
        somewhere: bool = False,
    ) -> None:
        super().__init__(path, endpoint, methods=methods, include_in_schema=False)
        self.needs, self.somewhere = needs, somewhere


class Desk:
    """What every page has at hand, and the list of their routes."""

    def __init__(
        self,
        ledger: Ledger,
        workspace: Workspace,
        control: ConsoleControl,
        *,
        mark: Callable[[], str],
        visit: Callable[[Request, Mapping[str, str]], Visit],
        respond: Callable[[Visit, Shown], Response],
    ) -> None:
        self.ledger, self.workspace, self.control = ledger, workspace, control
        self.traffic = TrafficViews(workspace)
        self.routes: list[PageRoute] = []
        self._mark, self._visit, self._respond = mark, visit, respond
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[str, float, Any]] = {}

    def page(
        self, path: str, *, needs: str | None = "viewer", somewhere: bool = False
    ) -> Callable[[Callable[..., Shown]], Callable[..., Shown]]:
        """Register a page to look at; see `PageRoute`."""
        return self._registered(path, ["GET", "HEAD"], needs, somewhere=somewhere, takes_form=False)

    def form(
        self, path: str, *, needs: str | None, somewhere: bool = False
    ) -> Callable[[Callable[..., Shown]], Callable[..., Shown]]:
        """Register where a form goes; it is let in with the secret of its session alone."""
        return self._registered(path, ["POST"], needs, somewhere=somewhere, takes_form=True)

    def task_of(self, model: str) -> str:
        """Return the task of a model."""
        return self.workspace.settings.task_of(model)

    def shared(self, name: str, make: Callable[[], Kept]) -> Kept:
        """Return what was made for another page within the last second, unless something changed since.

        When something changes every open page asks at once; one of them makes what all show.
        """
        with self._lock:
            mark, kept = self._mark(), self._kept.get(name)
            if kept is None or kept[0] != mark or time.monotonic() - kept[1] > _STANDS_S:
                kept = mark, time.monotonic(), make()
                self._kept[name] = kept
            return cast("Kept", kept[2])

    def _registered(
        self, path: str, methods: list[str], needs: str | None, *, somewhere: bool, takes_form: bool
    ) -> Callable[[Callable[..., Shown]], Callable[..., Shown]]:
        def register(show: Callable[..., Shown]) -> Callable[..., Shown]:
            async def answer(request: Request) -> Response:
                form = _fields(await request.body()) if takes_form else {}
                visit = self._visit(request, form)
                if takes_form:
                    _check_secret(visit)
                marked = needs is not None and not takes_form
                return await run_in_threadpool(self._answered, show, visit, request.path_params, marked=marked)

            self.routes.append(PageRoute(path, answer, methods=methods, needs=needs, somewhere=somewhere))
            return show

        return register

    def _answered(self, show: Callable[..., Shown], visit: Visit, places: dict[str, Any], *, marked: bool) -> Response:
        if (model := places.get("model")) is not None:
            known = known_models(self.ledger)
            if model not in known:
                raise NotFound(f"model {shown(model)} is not known; there are {', '.join(known) or 'none'}")
        if marked:  # before the page is made: what changes meanwhile is told
            visit = replace(visit, mark=self._mark())
        return self._respond(visit, show(visit, **places))


def to(path: str, *queries: Mapping[str, object]) -> str:
    """Return an address of the console with its query; of two values of a name the later one counts.

    >>> to("/console/audit", {"model": "a b", "before": None}, {"after": 3})
    '/console/audit?model=a+b&after=3'
    """
    asked = {name: value for query in queries for name, value in query.items() if value not in {None, ""}}
    return f"{path}?{urlencode(asked)}" if asked else path


def _fields(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as exc:
        raise DataError(
            f"the form cannot be read ({type(exc).__name__}); at most {_MOST_FIELDS} fields are taken"
        ) from exc
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


def _check_secret(visit: Visit) -> None:
    if not hmac.compare_digest(
        visit.form.get("secret", "").encode("utf-8", "surrogatepass"), visit.form_secret.encode()
    ):
        raise Refused("the form is of another session, or of none; load the page again and send it once more")
