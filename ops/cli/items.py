"""`items list|add|withdraw|rule|rules`: the catalogue of a ranking and its rules, changed without a training."""

from pathlib import Path
from typing import Annotated

import typer

from perennial.ops.cli.actor import actor
from perennial.ops.cli.console import ConfigOption, DryRunOption, JsonOption, ModelOption, print_json, print_table
from perennial.ops.cli.file_options import (
    KINDS,
    ColumnOption,
    DelimiterOption,
    EncodingOption,
    SheetOption,
    file_reading,
)
from perennial.ops.cli.session import model_session

__all__ = ["register"]

_app = typer.Typer(help="Items of a ranking: list, add or change, withdraw, rules.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="items")


@_app.command("list")
def list_items(
    limit: Annotated[int, typer.Option(min=1, help="items")] = 50,
    model: ModelOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The catalogue as the next version will have it."""
    from perennial.ops.commands.catalogue import catalogue

    with model_session(config, model) as (parts, model):
        items = catalogue(parts.workspace, model)
    if as_json:
        print_json(items)
        return
    rows = [(item.name, item.text, item.language, item.offered_from, item.offered_until) for item in items[:limit]]
    title = f"{len(rows)} of {len(items)} items of {model}"
    print_table(title, ("item", "text", "language", "from", "until"), rows)


@_app.command()
def add(
    file: Annotated[Path, typer.Argument(help=f"item, and where known text, tags, language and times; {KINDS}")],
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    sheet: SheetOption = None,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Add items, or change those that are there; new ones are listed by the next version, by their texts at first."""
    from perennial.continual.learning.ranking.files import read_item_file
    from perennial.ops.commands.catalogue import add_items

    items = read_item_file(file, reading=file_reading(column, encoding, delimiter, sheet))
    with model_session(config, model) as (parts, model):
        print_json(add_items(parts.ledger, parts.workspace, model, items, actor=actor(), dry_run=dry_run))


@_app.command()
def withdraw(
    items: Annotated[list[str], typer.Argument(help="names of items")],
    undo: Annotated[bool, typer.Option("--undo", help="show them again")] = False,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Take items out of every list from now on, or put them back; nothing is retrained."""
    from perennial.ops.commands.catalogue import withdraw_items

    with model_session(config, model) as (parts, model):
        print_json(
            withdraw_items(
                parts.ledger, parts.workspace, model, items, actor=actor(), withdrawn=not undo, dry_run=dry_run
            )
        )


@_app.command()
def rule(
    name: Annotated[str, typer.Argument(help="of the rule; one of this name is replaced")],
    without: Annotated[str, typer.Option(help="words: an item whose text has one of them is not shown")] = "",
    segment: Annotated[str, typer.Option(help="only for users of this segment; default everybody")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="let it hold no more")] = False,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """State what is left out of every list from now on, or of those of a segment; nothing is retrained."""
    from perennial.continual.errors import ConfigurationError
    from perennial.continual.learning.ranking import ItemRule
    from perennial.ops.commands.catalogue import change_rule

    if remove == bool(without or segment):
        raise ConfigurationError(f"rule {name!r}: give --without WORDS, or --remove alone")
    stated = None if remove else ItemRule.of(name, without, segment=segment)
    with model_session(config, model) as (parts, model):
        print_json(change_rule(parts.ledger, parts.workspace, model, name, stated, actor=actor(), dry_run=dry_run))


@_app.command()
def rules(model: ModelOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The rules that hold for every list."""
    from perennial.ops.commands.catalogue import rules_of

    with model_session(config, model) as (parts, model):
        found = rules_of(parts.workspace, model)
    if as_json:
        print_json(found)
        return
    rows = [(each.name, ", ".join(each.words), each.segment or "everybody") for each in found]
    print_table(f"rules of {model}", ("rule", "items without", "for"), rows)
