"""`learn describe|undescribe|described`: classes that begin as a name and a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
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
    say,
)
from perennial.ops.cli.file_options import (
    KINDS,
    ColumnOption,
    DelimiterOption,
    EncodingOption,
    SheetOption,
    file_reading,
)
from perennial.ops.cli.session import model_session

if TYPE_CHECKING:
    from perennial.ops.ledger import Ledger

__all__ = ["register"]

_Retrain = Annotated[bool, typer.Option("--retrain", help="ask the running loop for a version with the change now")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (describe, undescribe, described):
        app.command()(command)


def describe(
    label: Annotated[str | None, typer.Argument(help="the class's name, as labels will spell it")] = None,
    sentence: Annotated[str | None, typer.Argument(help="what its requests are about, in a sentence")] = None,
    file: Annotated[Path | None, typer.Option(help=f"label,description of several classes; {KINDS}")] = None,
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    sheet: SheetOption = None,
    retrain: _Retrain = False,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Begin a class with a name and a sentence; the next version answers with it before it has a labelled row.

    The sentence counts for 5 rows at first, for one less with each labelled row, and for nothing from 5 rows on. For a
    class that is described already it is replaced.
    """
    from perennial.continual.errors import ConfigurationError
    from perennial.ops.cli.actor import actor
    from perennial.ops.commands import described_classes as classes

    if (label is None) == (file is None) or (label is None) != (sentence is None):
        raise ConfigurationError(
            f"given are label {label!r}, sentence {sentence!r}, file {str(file) if file else None!r}; give a label and "
            "a sentence in quotation marks, or --file FILE, e.g. perennial learn describe lost_card 'The card is lost.'"
        )
    if file is None:
        sentences = {str(label): str(sentence)}
    else:
        sentences = classes.read_descriptions(file, file_reading(column, encoding, delimiter, sheet))

    with _registered(config, model) as (ledger, model):
        done = classes.describe(ledger, model, sentences, actor=actor(), retrain=retrain, dry_run=dry_run)
    if not dry_run:
        _say_when(done.command, model, retrain=retrain)
    print_json({"dry_run": True, **asdict(done)} if dry_run else done)


def undescribe(
    label: Annotated[str, typer.Argument(help="the class's name")],
    retrain: _Retrain = False,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Forget a class's sentence; a class without labelled rows is gone from the next version."""
    from perennial.ops.cli.actor import actor
    from perennial.ops.commands.described_classes import drop_description

    with _registered(config, model) as (ledger, model):
        done = drop_description(ledger, model, label, actor=actor(), retrain=retrain, dry_run=dry_run)
    if not dry_run:
        _say_when(done.command, model, retrain=retrain)
    print_json({"dry_run": True, **asdict(done)} if dry_run else done)


def described(model: ModelOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The described classes: their rows so far, what the sentence still counts for, and whether they are answered."""
    from perennial.ops.commands.described_classes import described_classes

    with _registered(config, model) as (ledger, model):
        rows = described_classes(ledger, model)
    if as_json:
        print_json(rows)
        return
    columns = ("label", "description", "rows", "counts_for_rows", "served", "by", "at")
    print_records(f"Described classes of {model}", columns, rows)


def _say_when(command: int | None, model: str, *, retrain: bool) -> None:
    if command is not None:
        say("kept, and a retraining is asked for; the running `perennial serve` takes it up (see `perennial status`)")
    elif retrain:
        say(
            f"kept, but no retraining could be asked for: {model} serves no version yet, or a cycle is under way; use "
            f"`perennial init`, or `perennial retrain --model {model}` after the cycle's end"
        )
    else:
        say(
            f"kept; the next version uses it: wait for a cycle, or ask for one with `perennial retrain --model {model}`"
        )


@contextmanager
def _registered(config: Path | None, model: str) -> "Iterator[tuple[Ledger, str]]":
    """The ledger, which knows the model of the settings then, and the model's name."""
    from perennial.ops.commands.first_version import register as register_models

    with model_session(config, model) as (parts, name):
        register_models(parts.ledger, parts.workspace)
        yield parts.ledger, name
