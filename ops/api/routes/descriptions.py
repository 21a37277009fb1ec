"""Described classes over HTTP."""

from typing import Annotated

from fastapi import Depends, FastAPI, Path, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from perennial.ops.api.auth import operator, viewer
from perennial.ops.api.paging import NamePage
from perennial.ops.commands.described_classes import (
    Described,
    DescribedClass,
    Dropped,
    describe,
    described_classes,
    drop_description,
)
from perennial.ops.ledger import Ledger

__all__ = ["DescriptionBody", "add_descriptions"]

_Label = Annotated[str, Path(min_length=1, max_length=200)]


class DescriptionBody(BaseModel):
    """What a class means, and whether a version that answers with it is asked for at once."""

    model_config = ConfigDict(extra="forbid")

    description: str = Field(min_length=1, max_length=2_000)
    retrain: StrictBool = False


def add_descriptions(api: FastAPI, ledger: Ledger) -> None:
    """Add the routes: a viewer may read, an operator may write."""

    @api.get("/v1/models/{model}/descriptions", dependencies=[Depends(viewer)])
    def descriptions(model: str, page: Annotated[NamePage, Depends()]) -> list[DescribedClass]:
        """Classes that are described in words, with their words."""
        return page.of(described_classes(ledger, model), lambda row: row.label)

    @api.put("/v1/models/{model}/descriptions/{label}")
    def put(model: str, label: _Label, body: DescriptionBody, actor: Annotated[str, Depends(operator)]) -> Described:
        """Describe a class in words, by which it is known until it has rows."""
        return describe(ledger, model, {label: body.description}, actor=actor, retrain=body.retrain)

    @api.delete("/v1/models/{model}/descriptions/{label}")
    def drop(
        model: str,
        label: _Label,
        actor: Annotated[str, Depends(operator)],
        retrain: Annotated[bool, Query()] = False,
    ) -> Dropped:
        """Forget the words of a class; its rows stay."""
        return drop_description(ledger, model, label, actor=actor, retrain=retrain)
