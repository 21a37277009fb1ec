"""`open`: the console in a browser."""

from typing import Annotated

import typer

from perennial.ops.cli.console import ConfigOption, say

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("open")(open_console)


def open_console(
    show: Annotated[bool, typer.Option("--print", help="print the address, and open nothing")] = False,
    config: ConfigOption = None,
) -> None:
    """Open the console of the running `perennial serve` in a browser; where there is none, its address is printed."""
    import webbrowser

    from perennial.ops.app.running import address_of
    from perennial.ops.settings import load_settings

    address = f"{address_of(load_settings(config).api)}/"
    typer.echo(address)
    if not show and not webbrowser.open(address):
        say("no browser can be started here; open the address where there is one")
