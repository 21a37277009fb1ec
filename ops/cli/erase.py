"""`erase`: a person's rows leave."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.console import ConfigOption, ModelOption, print_json, say

if TYPE_CHECKING:
    from ops.erasure import Erasure, Plan

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
    from ops.bootstrap import register as register_models
    from ops.cli.actor import actor
    from ops.cli.progress import stages
    from ops.erasure import erase as erase_now
    from ops.erasure import plan_erasure
    from ops.wiring import open_parts

    parts = open_parts(config)
    try:
        parts.workspace.model(model)
        register_models(parts.ledger, parts.workspace)
        if dry_run:
            plan = plan_erasure(parts, model, key)
            _say_if_nothing(plan, model, key)
            print_json({"dry_run": True, **asdict(plan)})
            return
        with stages(f"erasure in {model}") as tell:
            done = erase_now(parts, model, key, actor=actor(), on_progress=tell)
    finally:
        parts.close()
    _say_if_nothing(done, model, key)
    if done.tuned:
        say(f"the encoder of versions {list(done.tuned)} was tuned on these rows, which no arithmetic takes back")
    if done.retraining is not None:
        say(
            "the champion is one of them: it answers until the retraining that is asked for is done; `perennial serve` "
            "carries it out, from the encoder of the settings and all rows that are left (see `perennial status`)"
        )
    print_json(asdict(done))


def _say_if_nothing(found: "Plan | Erasure", model: str, key: str) -> None:
    if not (found.traffic_rows or found.feedback or found.examples or found.buffer_rows or found.tuned):
        say(
            f"nothing in {model} carries the key {key!r}; keys are compared letter by letter, and each model is erased "
            "by itself (--model)"
        )
