"""`reply list|add|change|approve|withdraw|sending`: the library of approved answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.ops.cli.console import ConfigOption, DryRunOption, JsonOption, ModelOption, print_json, print_records
from perennial.ops.cli.file_options import KINDS
from perennial.ops.cli.prefixes import completed
from perennial.ops.cli.session import model_session

if TYPE_CHECKING:
    from perennial.ops.commands.reply_library import ReplyLibrary

__all__ = ["register"]

_app = typer.Typer(help="Approved replies to customers.", no_args_is_help=True)
_Id = Annotated[str, typer.Argument(help="the reply's id, as `perennial reply list` shows it")]
_Intent = Annotated[str, typer.Option(help="the intent that it answers")]
_Language = Annotated[str, typer.Option(help="its language, e.g. en; without one it is given in all")]
_Owner = Annotated[str, typer.Option(help="who answers for it")]
_From = Annotated[str, typer.Option("--valid-from", help="ISO 8601; not given before")]
_Until = Annotated[str, typer.Option("--valid-until", help="ISO 8601; not given from then on")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="reply")


@_app.callback()
def _group() -> None:
    """Approved replies to customers."""


@_app.command("list")
def listed(
    state: Annotated[str, typer.Option(help="proposed, approved, replaced or withdrawn")] = "",
    intent: _Intent = "",
    model: ModelOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The replies with their state and how many questions each is approved for."""
    with _library(config, model) as library:
        model, rows = library.model, library.listed(state=state, intent=intent)
    if as_json:
        print_json(rows)
        return
    columns = ("id", "version", "state", "intent", "questions", "language", "owner", "valid_until", "text")
    print_records(f"Replies of {model}", columns, rows)


@_app.command()
def add(
    text: Annotated[str, typer.Argument(help="the answer; {name} in it is a variable")] = "",
    intent: _Intent = "",
    question: Annotated[str, typer.Option(help="a question that it answers")] = "",
    name: Annotated[str, typer.Option("--id", help="default: made of the text")] = "",
    language: _Language = "",
    owner: _Owner = "",
    valid_from: _From = "",
    valid_until: _Until = "",
    file: Annotated[Path | None, typer.Option(help=f"reply,intent and where known question, id ...; {KINDS}")] = None,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Add an approved reply, or those of a file; the next answer may be one of them."""
    from perennial.continual.errors import ConfigurationError
    from perennial.ops.cli.actor import actor
    from perennial.ops.commands.reply_library import read_replies

    if (file is None) == (not text):
        raise ConfigurationError("give a text with --intent, or --file FILE, and not both")
    fields = {"reply": text, "intent": intent, "question": question, "id": name, "language": language, "owner": owner}
    read = read_replies(file, fields | {"valid_from": valid_from, "valid_until": valid_until})
    with _library(config, model, dry_run=dry_run) as library:
        print_json(library.add_file(read, actor=actor()))


@_app.command()
def change(
    reply: _Id,
    text: Annotated[str, typer.Option(help="the new answer")] = "",
    intent: _Intent = "",
    language: _Language = "",
    owner: _Owner = "",
    valid_from: _From = "",
    valid_until: _Until = "",
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Give a reply a new version; its questions stay approved, and the next answer has the new text."""
    from perennial.ops.cli.actor import actor

    fields = {"reply": text, "intent": intent, "language": language, "owner": owner}
    fields |= {"valid_from": valid_from, "valid_until": valid_until}
    with _library(config, model, dry_run=dry_run) as library:
        print_json(
            library.change(
                _completed(library, reply), {name: value for name, value in fields.items() if value}, actor=actor()
            )
        )


@_app.command()
def approve(
    reply: _Id,
    question: Annotated[str, typer.Option(help="approve the reply for this question; without one, approve it")] = "",
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Approve a proposed reply, or a question for a reply."""
    from perennial.ops.cli.actor import actor

    with _library(config, model, dry_run=dry_run) as library:
        print_json(library.approve(_completed(library, reply), question=question, actor=actor()))


@_app.command()
def withdraw(reply: _Id, model: ModelOption = "", dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Never give a reply again, until it is approved again."""
    from perennial.ops.cli.actor import actor

    with _library(config, model, dry_run=dry_run) as library:
        print_json(library.withdraw(_completed(library, reply), actor=actor()))


@_app.command()
def sending(
    precision: Annotated[float | None, typer.Option(help="what it must surely reach; 0 sends nothing")] = None,
    sure: Annotated[float | None, typer.Option(help="how probable a reply must be to be sent")] = None,
    last: Annotated[int | None, typer.Option(help="how many judged answers are counted")] = None,
    suggest: Annotated[float | None, typer.Option(help="how probable a reply must be to be suggested")] = None,
    personal: Annotated[
        bool | None, typer.Option("--personal/--impersonal", help="whether a customer's history counts")
    ] = None,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Whether replies are sent by themselves now, and why; with options, by which rule."""
    from perennial.ops.cli.actor import actor

    stated = {"precision": precision, "sure": sure, "last": last, "suggest": suggest, "personal": personal}
    changes = {name: value for name, value in stated.items() if value is not None}
    with _library(config, model, dry_run=dry_run) as library:
        print_json(library.state_rule(changes, actor=actor()) if changes else library.sending())


def _completed(library: "ReplyLibrary", reply: str) -> str:
    return completed(reply, (row.id for row in library.listed()), what="reply", listed_by="perennial reply list")


@contextmanager
def _library(config: Path | None, model: str, *, dry_run: bool = False) -> "Iterator[ReplyLibrary]":
    from perennial.ops.commands.reply_library import ReplyLibrary
    from perennial.ops.store.private_file import rehearsed

    with model_session(config, model) as (parts, name):
        if not dry_run:
            yield ReplyLibrary(parts.ledger, parts.workspace, name)
            return
        with rehearsed(parts.workspace.replies(name)) as copy:
            yield ReplyLibrary(parts.ledger, parts.workspace, name, rehearsal=copy)
