"""`federate announce|send|take|leave|show`: sites learn together by sums, and rows stay where they are."""

from pathlib import Path
from typing import Annotated

import typer

from perennial.ops.cli.console import ConfigOption, DryRunOption, ModelOption, print_json, say
from perennial.ops.cli.session import model_session

__all__ = ["register"]

_app = typer.Typer(help="Learn together with other sites by sums; rows stay where they are.", no_args_is_help=True)
_Round = Annotated[Path, typer.Argument(help="a folder that every site can write to, one for each exchange")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="federate")


@_app.command()
def announce(
    folder: _Round,
    site: Annotated[str, typer.Option(help="this site's name, which no other site has")],
    epsilon: Annotated[float | None, typer.Option(help="send with noise that hides a row, e.g. 8")] = None,
    delta: Annotated[float, typer.Option(help="with --epsilon; well below one over the number of rows")] = 1e-5,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Say in a round's folder who this is: a public key, the classes, the number of rows, and the features.

    The sums of the version that answers now are the ones to be sent. A site with other features is refused.
    """
    from perennial.continual.privacy.noise import Privacy
    from perennial.ops.cli.actor import actor
    from perennial.ops.commands.federation import Site

    with model_session(config, model) as (parts, model):
        privacy = None if epsilon is None else Privacy(epsilon=epsilon, delta=delta)
        print_json(Site(parts, model).announce(folder, site, actor=actor(), privacy=privacy, dry_run=dry_run))


@_app.command()
def send(
    folder: _Round,
    sites: Annotated[int | None, typer.Option(min=2, help="how many sites to expect; default those there")] = None,
    open_: Annotated[bool, typer.Option("--open", help="with two sites, each of which reads the other's sums")] = False,
    agreed: Annotated[
        str | None, typer.Option("--round", help="the digest of `show` that all sites have compared, and no other")
    ] = None,
    few_rows: Annotated[bool, typer.Option("--few-rows", help="send classes of fewer than 10 rows too")] = False,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Leave this site's sums, hidden by masks that vanish once the sums of all sites are added.

    The first site that sends closes the list of sites. Sending again changes nothing, so an interrupted one is
    repeated. Compare the round that `show` prints at each site before: it is alike, unless somebody has changed a key.
    """
    from perennial.ops.cli.actor import actor
    from perennial.ops.commands.federation import Site

    with model_session(config, model) as (parts, model):
        site = Site(parts, model)
        sent = site.send(
            folder, sites=sites, unmasked=open_, few_rows=few_rows, actor=actor(), agreed=agreed, dry_run=dry_run
        )
    if sent is not None and not sent.masked:
        say("these sums are not masked: whoever reads the folder reads them")
    print_json({"dry_run": True} if sent is None else sent)


@_app.command()
def take(
    folder: _Round,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Add the sums of all other sites to the next version, and ask for it; those of an earlier round go.

    The version is trained, proved, gated and rolled out as every other. Without a running `perennial serve` it waits.
    """
    from perennial.ops.cli.actor import actor
    from perennial.ops.commands.federation import Site

    with model_session(config, model) as (parts, model):
        print_json(Site(parts, model).take(folder, actor=actor(), dry_run=dry_run))


@_app.command()
def leave(model: ModelOption = "", dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Ask for a version without the sums of other sites; what this site sent stays in theirs until their next round."""
    from perennial.ops.cli.actor import actor
    from perennial.ops.commands.federation import Site

    with model_session(config, model) as (parts, model):
        print_json(Site(parts, model).leave(actor=actor(), dry_run=dry_run))


@_app.command()
def show(folder: _Round) -> None:
    """Who has announced itself in a round's folder and who has sent, and the digest of the sites and their keys."""
    from perennial.ops.commands.federation import show_round

    print_json(show_round(folder))
