"""`ledger rebuild` and `ledger recount`."""

import typer

from perennial.ops.cli.actor import actor
from perennial.ops.cli.console import ConfigOption, DryRunOption, print_json
from perennial.ops.cli.session import session

__all__ = ["register"]

_app = typer.Typer(help="The database of record: make a lost one anew, or its counters.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="ledger")


@_app.command()
def rebuild(dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Tell a lost, emptied or old ledger of the versions on disk and of the routes that the routers follow.

    Labels, feedback, replay rows and the history are in no bundle: import them again, or restore a copy.
    """
    from perennial.ops.commands.ledger_rebuild import rebuild_ledger

    with session(config) as parts:
        rebuilt = rebuild_ledger(parts.ledger, parts.workspace, parts.repository, actor=actor(), dry_run=dry_run)
    print_json({"dry_run": dry_run, "models": rebuilt})


@_app.command()
def recount(dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Count the rows of every model and correct the counters beside them, where something else wrote to the ledger.

    Each counter that was wrong is told with what it said and what was counted. Writers of a model wait meanwhile.
    """
    with session(config) as parts:
        wrong = {row.name: parts.ledger.recount(row.name, dry_run=dry_run) for row in parts.ledger.models()}
    print_json({"dry_run": dry_run, "wrong": wrong})
