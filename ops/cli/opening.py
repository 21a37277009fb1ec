"""`open`: the console in a browser."""

from typing import Annotated

import typer

from perennial.ops.cli.console import ConfigOption, say

__all__ = ["register"]

_EVERYWHERE = {"0.0.0.0", "::", ""}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("open")(open_console)


def open_console(
    show: Annotated[bool, typer.Option("--print", help="print the address, and open nothing")] = False,
    config: ConfigOption = None,
) -> None:
    """Open the console of the running `perennial serve` in a browser; where there is none, its address is printed."""
    import webbrowser

    from perennial.ops.settings import load_settings

    api = load_settings(config).api
    host = "127.0.0.1" if api.host in _EVERYWHERE else api.host
    address = f"http://{f'[{host}]' if ':' in host else host}:{api.port}/"
    typer.echo(address)
    if not show and not webbrowser.open(address):
        say("no browser can be started here; open the address where there is one")
