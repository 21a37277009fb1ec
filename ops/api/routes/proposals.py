"""Classes that the traffic asks for, over HTTP."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Protocol

from fastapi import Depends, FastAPI, Path, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from perennial.ops.api.models import check_known
from perennial.ops.commands.class_proposals import Accepted, ClassProposals, Proposed
from perennial.ops.ledger import Ledger

__all__ = ["AcceptedAs", "Proposer", "add_proposals"]

_Rows = Annotated[int, Query(ge=10, le=100_000, description="newest requests to look at")]


class Proposer(Protocol):
    """What the routes need of the running service."""

    def class_proposals(self, model: str) -> ClassProposals:
        """The proposals of one model that classifies."""
        ...


class AcceptedAs(BaseModel):
    """The class that the requests of a proposal are of; a new name begins a new class."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(min_length=1, max_length=200)
    dry_run: StrictBool = False


def add_proposals(api: FastAPI, ledger: Ledger, proposer: Proposer, labeller: Callable[..., str]) -> None:
    """Add the routes: a labeller may look, for texts are shown, and accept."""

    @api.get("/v1/models/{model}/proposals", dependencies=[Depends(labeller)])
    def look(model: str, rows: _Rows = 5_000) -> Proposed:
        """Groups of texts alike of no class, as `post` would number them; a group not numbered before has none yet."""
        check_known(ledger, model)
        return proposer.class_proposals(model).look(rows=rows, dry_run=True)

    @api.post("/v1/models/{model}/proposals", dependencies=[Depends(labeller)])
    def propose(model: str, rows: _Rows = 5_000) -> Proposed:
        """Group the newest texts of no class, and keep each group under a number that means it for good."""
        check_known(ledger, model)
        return proposer.class_proposals(model).look(rows=rows)

    @api.post("/v1/models/{model}/proposals/{number}", dependencies=[Depends(labeller)])
    def accept(model: str, number: Annotated[int, Path(ge=1, lt=2**63)], body: AcceptedAs) -> Accepted:
        """Give all requests of a proposal one label, with which the next version begins a class."""
        check_known(ledger, model)
        now = datetime.now(UTC)
        return proposer.class_proposals(model).accept(number, body.label, now=now, dry_run=body.dry_run)
