"""`config show|check|docs`."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from perennial.ops.cli.console import ConfigOption, JsonOption, print_json, print_table, say

__all__ = ["register"]

_app = typer.Typer(help="The settings: what is in force, what is wrong, what there is.", no_args_is_help=True)


class Reference(StrEnum):
    """What a page of reference lists."""

    SETTINGS = "settings"
    COMMANDS = "commands"
    API = "api"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="config")


@_app.command()
def show(
    changed: Annotated[bool, typer.Option("--changed", help="only what differs from the defaults")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every setting in force. Secrets and the hashes of tokens are shown as ***."""
    from perennial.ops.settings import load_settings
    from perennial.ops.settings.reference import settings_in_force

    rows = [row for row in settings_in_force(load_settings(config)) if row.changed or not changed]
    if as_json:
        print_json(rows)
        return
    print_table("Settings in force", ("setting", "value", "default"), [(r.name, r.value, r.default) for r in rows])


@_app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Read the settings and say what is wrong with them. Exit code 2 when they cannot be used."""
    from perennial.ops.settings import load_settings

    settings = load_settings(config)
    refused = {name: model.problem for name, model in settings.refused.items()}
    if as_json:
        print_json({"models": sorted(settings.models), "refused": refused})
    else:
        say(f"the settings can be used; models: {', '.join(settings.models) or 'those that the ledger knows'}")
        print_table("Models whose section cannot be used", ("model", "why"), refused.items()) if refused else None
    if refused:
        raise typer.Exit(2)


@_app.command()
def docs(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="file to write; default prints it")] = None,
    of: Annotated[Reference, typer.Option(help="what is listed")] = Reference.SETTINGS,
) -> None:
    """The reference of every setting, command or operation of the API, as Markdown."""
    page = _PAGES[of](context)
    if out is None:
        typer.echo(page, nl=False)
        return
    from perennial.continual.atomic_file import write_atomically

    write_atomically(out, page)
    say(f"{out} is written")


def _settings_page(_: typer.Context) -> str:
    from perennial.ops.settings import Settings
    from perennial.ops.settings.reference import reference_page

    return reference_page(Settings)


def _commands_page(context: typer.Context) -> str:
    from perennial.ops.cli.reference import commands_page

    return commands_page(context.find_root().command)


def _api_page(_: typer.Context) -> str:
    from perennial.ops.cli.reference import api_page, described_api

    return api_page(*described_api())


_PAGES: Mapping[Reference, Callable[[typer.Context], str]] = {
    Reference.SETTINGS: _settings_page,
    Reference.COMMANDS: _commands_page,
    Reference.API: _api_page,
}
