"""How good a version is, and the rows that a model learns from, over HTTP."""

from typing import Annotated, Protocol

from fastapi import Depends, FastAPI, Path, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from perennial.continual.learning.ranking import Item
from perennial.ops.api.auth import labeller, operator, viewer
from perennial.ops.api.models import check_known
from perennial.ops.api.paging import NamePage, NumberPage
from perennial.ops.commands.catalogue import CatalogueChange
from perennial.ops.commands.label_queue import DoubtedLabel
from perennial.ops.ledger import Ledger
from perennial.ops.views.rows import ClassRows, RowView, rows_of_class
from perennial.ops.views.version_quality import VersionReport

__all__ = ["EvidenceDesk", "ItemsChange", "add_evidence"]

_Version = Annotated[int, Path(ge=1, lt=2**31)]


class EvidenceDesk(Protocol):
    """What the routes need of the running service."""

    def version_report(self, model: str, version: int) -> VersionReport:
        """A version's quality, groups of people, disturbed texts and compression, without texts of rows."""
        ...

    def class_rows(self, model: str) -> tuple[ClassRows, ...]:
        """Every class with its rows."""
        ...

    def doubted(self, model: str, *, rows: int) -> list[DoubtedLabel]:
        """Labels of the newest requests that the model doubts."""
        ...

    def items(self, model: str) -> tuple[Item, ...]:
        """The catalogue of a ranking."""
        ...

    def withdraw_items(
        self, model: str, names: list[str], *, actor: str, withdrawn: bool, dry_run: bool
    ) -> CatalogueChange:
        """Take items out of every list, or put them back."""
        ...


class ItemsChange(BaseModel):
    """Items that are to be shown no more, or again."""

    model_config = ConfigDict(extra="forbid")

    items: list[Annotated[str, Field(min_length=1, max_length=1_000)]] = Field(min_length=1, max_length=1_000)
    withdrawn: StrictBool = True
    dry_run: StrictBool = False


def add_evidence(api: FastAPI, ledger: Ledger, desk: EvidenceDesk) -> None:
    """Add the routes: a viewer sees figures, a labeller texts and items, an operator withdraws items."""
    _add_rows(api, ledger, desk)

    @api.get("/v1/models/{model}/versions/{version}/report", dependencies=[Depends(viewer)])
    def report(model: str, version: _Version) -> VersionReport:
        """How good a version is on held-out rows, whom it answers worse, what disturbs it; null of what is not kept."""
        check_known(ledger, model)
        return desk.version_report(model, version)

    @api.get("/v1/models/{model}/items", dependencies=[Depends(labeller)])
    def items(model: str, page: Annotated[NamePage, Depends()]) -> list[Item]:
        """The catalogue of a ranking, as the next version will have it."""
        check_known(ledger, model)
        return page.of(desk.items(model), lambda item: item.name)

    @api.post("/v1/models/{model}/items/withdrawals")
    def withdraw(model: str, body: ItemsChange, actor: Annotated[str, Depends(operator)]) -> CatalogueChange:
        """Take items out of every list from now on, or put them back; nothing is retrained."""
        check_known(ledger, model)
        return desk.withdraw_items(model, body.items, actor=actor, withdrawn=body.withdrawn, dry_run=body.dry_run)


def _add_rows(api: FastAPI, ledger: Ledger, desk: EvidenceDesk) -> None:
    @api.get("/v1/models/{model}/classes", dependencies=[Depends(viewer)])
    def classes(model: str, page: Annotated[NamePage, Depends()]) -> list[ClassRows]:
        """Every class that has rows or that the champion answers with."""
        check_known(ledger, model)
        return page.of(desk.class_rows(model), lambda row: row.label)

    @api.get("/v1/models/{model}/rows", dependencies=[Depends(labeller)])
    def rows(
        model: str,
        page: Annotated[NumberPage, Depends()],
        label: Annotated[str, Query(min_length=1, max_length=200, description="the class")],
    ) -> list[RowView]:
        """Rows of a class, in the order in which they came."""
        check_known(ledger, model)
        found = rows_of_class(ledger, model, label, after=page.after or 0, limit=page.rows)
        return page.cut(list(found), lambda row: row.id)

    @api.get("/v1/models/{model}/labels/doubts", dependencies=[Depends(labeller)])
    def doubts(
        model: str, rows: Annotated[int, Query(ge=10, le=100_000, description="newest requests to look at")] = 5_000
    ) -> list[DoubtedLabel]:
        """Labels that the version which answered has good reason to doubt, the worst first."""
        check_known(ledger, model)
        return desk.doubted(model, rows=rows)
