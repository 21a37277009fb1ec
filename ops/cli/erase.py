"""`erase`: a person's rows leave."""

from dataclasses import asdict
from typing import Annotated

import typer

from ops.cli.console import ConfigOption, ModelOption, print_json, say

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(erase)


def erase(
    key: Annotated[str, typer.Option(help="the caller's key, as it was sent with requests and labels")],
    model: ModelOption = "intent",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go, and change nothing")] = False,
    config: ConfigOption = None,
) -> None:
    """Remove a person's rows from traffic, labels and the replay buffer, and take them back out of the model.

    A kernel head is corrected exactly and takes the champion's place; versions whose encoder was tuned on the rows are
    named, and a retraining is asked for.
    """
    from ops.cli.actor import actor
    from ops.cli.progress import stages
    from ops.erasure import erase as erase_now
    from ops.erasure import plan_erasure
    from ops.wiring import open_parts

    parts = open_parts(config)
    try:
        parts.workspace.model(model)
        if dry_run:
            print_json({"dry_run": True, **asdict(plan_erasure(parts, model, key))})
            return
        with stages(f"erasure in {model}") as tell:
            done = erase_now(parts, model, key, actor=actor(), on_progress=tell)
    finally:
        parts.close()
    if done.tuned:
        say(
            f"versions {list(done.tuned)} were fine-tuned on these rows and cannot be corrected; a retraining is asked "
            f"for, and `perennial serve` carries it out"
        )
    print_json(asdict(done))
