"""The library of replies over HTTP."""

from typing import Annotated, Protocol

from fastapi import Depends, FastAPI, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from perennial.ops.api.auth import operator, viewer
from perennial.ops.api.paging import NamePage
from perennial.ops.commands.reply_library import Changed, ReplyLibrary, ReplyView, SendingView, read_replies

__all__ = ["Librarian", "NewReply", "ReplyChange", "add_replies"]

_Id = Annotated[str, Path(min_length=1, max_length=256)]
_Text = Annotated[str, Field(max_length=100_000)]
_Name = Annotated[str, Field(max_length=256)]


class Librarian(Protocol):
    """What the routes need of the running service."""

    def reply_library(self, model: str) -> ReplyLibrary:
        """A model's library of replies."""
        ...


class ReplyChange(BaseModel):
    """Fields of a reply; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    reply: _Text = ""
    intent: _Name = ""
    language: _Name = ""
    owner: _Name = ""
    valid_from: _Name = ""
    valid_until: _Name = ""


class NewReply(ReplyChange):
    """A reply that is approved from now on, and a question that it answers."""

    question: _Text = ""
    id: _Name = ""


def add_replies(api: FastAPI, librarian: Librarian) -> None:
    """Add the routes: a viewer may read, an operator may write."""

    @api.get("/v1/models/{model}/replies", dependencies=[Depends(viewer)])
    def replies(
        model: str,
        page: Annotated[NamePage, Depends()],
        state: Annotated[str, Query()] = "",
        intent: Annotated[str, Query()] = "",
    ) -> list[ReplyView]:
        """Approved, proposed and withdrawn replies, the newest version of each."""
        listed = librarian.reply_library(model).listed(state=state, intent=intent)
        return page.of(listed, lambda reply: f"{reply.id}#{reply.version:012}")  # an id may have two versions in a list

    @api.post("/v1/models/{model}/replies")
    def add(model: str, body: NewReply, actor: Annotated[str, Depends(operator)]) -> Changed:
        """Add an approved reply; the next answer may be it."""
        return librarian.reply_library(model).add_file(read_replies(None, body.model_dump()), actor=actor)

    @api.patch("/v1/models/{model}/replies/{reply}")
    def change(model: str, reply: _Id, body: ReplyChange, actor: Annotated[str, Depends(operator)]) -> ReplyView:
        """Give a reply a new version; its questions stay approved."""
        fields = {name: value for name, value in body.model_dump().items() if value}
        return librarian.reply_library(model).change(reply, fields, actor=actor)

    @api.post("/v1/models/{model}/replies/{reply}/approve")
    def approve(
        model: str,
        reply: _Id,
        actor: Annotated[str, Depends(operator)],
        question: Annotated[str, Query(max_length=100_000)] = "",
    ) -> ReplyView:
        """Approve the newest version of a reply, or a question for it."""
        return librarian.reply_library(model).approve(reply, question=question, actor=actor)

    @api.delete("/v1/models/{model}/replies/{reply}")
    def withdraw(model: str, reply: _Id, actor: Annotated[str, Depends(operator)]) -> ReplyView:
        """Never give a reply again, until it is approved again."""
        return librarian.reply_library(model).withdraw(reply, actor=actor)

    @api.get("/v1/models/{model}/sending", dependencies=[Depends(viewer)])
    def sending(model: str) -> SendingView:
        """Whether replies are sent by themselves now, and why."""
        return librarian.reply_library(model).sending()
