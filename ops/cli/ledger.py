"""`ledger rebuild`."""

import typer

from perennial.ops.cli.actor import actor
from perennial.ops.cli.console import ConfigOption, DryRunOption, print_json
from perennial.ops.cli.session import session

__all__ = ["register"]

_app = typer.Typer(help="The database of record: make a lost one anew.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="ledger")


@_app.callback()
def _group() -> None:
    """Keep `rebuild` a command of its own."""


@_app.command()
def rebuild(dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Tell a lost, emptied or old ledger of the versions on disk and of the routes that the routers follow.

    Labels, feedback, replay rows and the history are in no bundle: import them again, or restore a copy.
    """
    from perennial.ops.commands.ledger_rebuild import rebuild_ledger

    with session(config) as parts:
        rebuilt = rebuild_ledger(parts.ledger, parts.workspace, parts.repository, actor=actor(), dry_run=dry_run)
    print_json({"dry_run": dry_run, "models": rebuilt})
