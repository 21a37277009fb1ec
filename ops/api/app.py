"""The HTTP control plane: status, labels and an operator's commands, under `/v1`."""

from typing import Annotated, Protocol

from fastapi import Depends, FastAPI, Query

from perennial.continual.errors import ConfigurationError
from perennial.ops.api.auth import labeller
from perennial.ops.api.docs import add_docs
from perennial.ops.api.errors import translate_errors
from perennial.ops.api.guard import Guard
from perennial.ops.api.models import check_known
from perennial.ops.api.openapi import document
from perennial.ops.api.pages import Pages
from perennial.ops.api.repeats import Repeats
from perennial.ops.api.routes.accounts import add_accounts
from perennial.ops.api.routes.alerts import AlertDesk, add_alerts
from perennial.ops.api.routes.bulk import add_bulk
from perennial.ops.api.routes.commands import CommandControl, add_commands
from perennial.ops.api.routes.descriptions import add_descriptions
from perennial.ops.api.routes.edits import add_edits_route
from perennial.ops.api.routes.erasure import Eraser, add_erasures
from perennial.ops.api.routes.evidence import EvidenceDesk, add_evidence
from perennial.ops.api.routes.feedback import LabelHearer, add_feedback
from perennial.ops.api.routes.health import HealthControl, add_health
from perennial.ops.api.routes.jobs import add_jobs
from perennial.ops.api.routes.proposals import Proposer, add_proposals
from perennial.ops.api.routes.reading import ReadControl, add_reading
from perennial.ops.api.routes.replies import Librarian, add_replies
from perennial.ops.api.routes.rewrites import Teller, add_rewrites
from perennial.ops.api.routes.signals import SignalKeeper, add_signals_route
from perennial.ops.api.routes.speech import Hearer, add_speech
from perennial.ops.api.routes.users import UserKeeper, add_users
from perennial.ops.api.routes.verdicts import VerdictKeeper, add_verdicts_route
from perennial.ops.commands.label_queue import OpenQueue
from perennial.ops.ledger import Ledger
from perennial.ops.safety.addresses import is_loopback
from perennial.ops.settings import ApiSettings
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.views.callers import Callers

__all__ = ["LoopControl", "create_api"]


class LoopControl(
    AlertDesk,
    CommandControl,
    Eraser,
    EvidenceDesk,
    HealthControl,
    Hearer,
    LabelHearer,
    Librarian,
    Proposer,
    ReadControl,
    SignalKeeper,
    Teller,
    UserKeeper,
    VerdictKeeper,
    Protocol,
):
    """What the API needs of the running loop."""

    def label_queue(self, model: str, *, limit: int, fill: int) -> OpenQueue:
        """Requests to label next, and the accuracy that the labels so far tell of."""
        ...


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
    api = FastAPI(title="Perennial", version="1", docs_url=None, redoc_url=None)
    translate_errors(api, pages)
    api.add_middleware(Repeats, ledger=ledger)
    api.add_middleware(Guard, routes=api.routes, settings=settings, callers=callers, pages=pages)
    add_docs(api)
    add_health(api, control)
    add_reading(api, ledger, control, feed)
    add_evidence(api, ledger, control)
    add_jobs(api, ledger)
    add_feedback(api, ledger, control)
    add_bulk(api, ledger)
    add_signals_route(api, ledger, control)
    add_users(api, ledger, control)
    add_verdicts_route(api, ledger, control)
    add_edits_route(api, ledger)
    add_replies(api, control)
    add_rewrites(api, control)
    add_speech(api, control)
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


def _add_label_queue(api: FastAPI, ledger: Ledger, control: LoopControl) -> None:
    @api.get("/v1/models/{model}/labels/queue", dependencies=[Depends(labeller)])
    def label_queue(model: str, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> OpenQueue:
        """Requests that wait for a label, with why each was chosen."""
        check_known(ledger, model)
        return control.label_queue(model, limit=limit, fill=0)

    @api.post("/v1/models/{model}/labels/queue", dependencies=[Depends(labeller)])
    def fill_label_queue(model: str, budget: Annotated[int, Query(ge=1, le=1000)] = 50) -> OpenQueue:
        """Choose more requests of the newest traffic, worth their label, and return all that wait."""
        check_known(ledger, model)
        return control.label_queue(model, limit=budget, fill=budget)
