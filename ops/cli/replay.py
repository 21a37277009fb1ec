"""`replay show|export|erase`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.ops.cli.console import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    ModelOption,
    print_json,
    print_records,
    print_table,
    say,
)
from perennial.ops.cli.session import model_session

if TYPE_CHECKING:
    from perennial.continual.records import Example
    from perennial.continual.replay import ReplayBuffer
    from perennial.ops.parts import Parts

__all__ = ["register"]

_app = typer.Typer(help="The replay buffer: labelled rows kept for retraining.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="replay")


@_app.command()
def show(model: ModelOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Its rule, its budgets, and the rows it holds of each label, or whatever its task keeps in balance."""
    from perennial.continual.tasks import task_named
    from perennial.ops.views.replay import buffer_view

    with _opened(config, model) as (parts, model, buffer):
        task = task_named(parts.workspace.model(model).task)
        seen = buffer_view(model, buffer, task)
    if as_json:
        print_json(seen)
        return
    if not seen.rows:
        say(f"the buffer of {model} is empty; it fills with what the first training learns (`perennial init`)")
    columns = ("model", "kind", "rows", "capacity", "bytes", "byte_budget", "offered")
    print_records(f"Replay buffer of {model}", columns, [seen])
    print_table("Rows by stratum", (task.stratum_noun, "rows"), seen.classes.items())


@_app.command()
def export(
    out: Annotated[Path, typer.Argument(help="where to write; .jsonl")],
    model: ModelOption = "",
    config: ConfigOption = None,
) -> None:
    """Write its rows as JSON lines, as training jobs read them."""
    from perennial.continual.learning.rows import write_rows
    from perennial.continual.tasks import task_named

    with _opened(config, model) as (parts, model, buffer):
        write_rows(out, buffer.rows(), task_named(parts.workspace.model(model).task))
    say(f"texts in {out} are as they were stored; keep the file as you keep the ledger")
    print_json({"rows": len(buffer), "file": str(out)})


@_app.command()
def erase(
    key: Annotated[str, typer.Option(help="the caller's key")],
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove a key's rows from the buffer alone; `perennial erase` removes them everywhere."""
    from perennial.continual.errors import ConfigurationError
    from perennial.continual.preparation import is_spelling_of, key_spellings
    from perennial.ops.cli.actor import actor

    if not key_spellings(key):
        raise ConfigurationError(f"--key is {key!r}; give the caller's key as it was sent with requests and labels")

    with _opened(config, model) as (parts, model, buffer):
        mine = [row.key for row in buffer.rows() if row.key is not None and is_spelling_of(row.key, key)]
        rows = len(mine)
        if rows and not dry_run:
            for spelling in set(mine):
                buffer.erase(spelling)
            parts.ledger.save_buffer(model, buffer.state())
            parts.ledger.audit(actor(), "replay.erase", model, {"rows": rows})
    if not rows:
        say(f"no row of the buffer of {model} carries the key {key!r}; keys are compared letter by letter")
    print_json({"dry_run": True, "rows": rows} if dry_run else {"rows": rows, "left": len(buffer)})


@contextmanager
def _opened(config: Path | None, model: str) -> "Iterator[tuple[Parts, str, ReplayBuffer[Example]]]":
    """The parts of the workspace, the model's name, and its buffer."""
    from perennial.ops.store.replay_buffer import open_buffer

    with model_session(config, model) as (parts, name):
        yield parts, name, open_buffer(parts.ledger, parts.workspace, name)
