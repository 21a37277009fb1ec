"""`erase`: a person's rows leave."""

from typing import TYPE_CHECKING, Annotated

import typer

from perennial.ops.cli.console import ConfigOption, DryRunOption, print_json, say
from perennial.ops.cli.session import session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perennial.ops.commands.erasing.erasure import Erasure, Plan
    from perennial.ops.commands.erasing.person import PersonErasure

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(erase)


def erase(
    key: Annotated[str, typer.Option(help="the caller's key, as it was sent with requests and labels")],
    model: Annotated[str | None, typer.Option(help="this model alone; default every model")] = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove a person's rows from traffic, labels and the replay buffer, and take them back out of the models.

    A kernel head is corrected exactly and takes the champion's place; versions whose encoder was tuned on the rows are
    named, and a retraining is asked for. In the end every file of the workspace is searched. Exit code 4: something is
    left; its place is named.
    """
    from perennial.ops.cli.actor import actor
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.erasing.person import erase_person, plan_person
    from perennial.ops.commands.first_version import register as register_models

    with session(config) as parts:
        register_models(parts.ledger, parts.workspace)
        if dry_run:
            plan = plan_person(parts, key, model)
            _say_if_nothing(plan.models, key)
            print_json(plan)
            return
        with stages("erasure" if model is None else f"erasure in {model}") as on_progress:
            done = erase_person(parts, key, actor=actor(), model=model, on_progress=on_progress)
    _say_if_nothing(done.models, key)
    for name, erasure in done.models.items():
        _say_tuned(name, erasure)
        for file in erasure.damaged_files:
            say(f"deleted the damaged file {file} of {name}'s traffic log: it held these rows, or nobody could tell")
    _say_left(done)
    print_json(done)
    if not done.complete:
        raise typer.Exit(4)


def _say_if_nothing(by_model: "Mapping[str, Plan | Erasure]", key: str) -> None:
    if all(each.nothing for each in by_model.values()):
        say(f"nothing in {', '.join(by_model)} carries the key {key!r}; keys are compared letter by letter")


def _say_tuned(model: str, erasure: "Erasure") -> None:
    if erasure.tuned:
        say(
            f"the encoder of versions {list(erasure.tuned)} of {model} was tuned on these rows, which no arithmetic "
            "takes back"
        )
    if erasure.retraining is not None:
        say(
            f"the champion of {model} is one of them: it answers until the retraining that is asked for is done; "
            "`perennial serve` carries it out, from the encoder of the settings and all rows that are left (see "
            "`perennial status`)"
        )


def _next_step(kinds: "Sequence[str]") -> str:
    from perennial.ops.commands.erasing.person import IN_SUMS

    return "name the model again, or delete that folder" if IN_SUMS in kinds else "remove it by hand"


def _say_left(done: "PersonErasure") -> None:
    for trace in done.search.left:
        say(f"left: {' and '.join(trace.kinds)} in {trace.place}; {_next_step(trace.kinds)}, then erase again")
    for reason in done.search.not_searched:
        say(f"not searched: {reason}")
