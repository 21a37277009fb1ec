"""`feedback import`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perennial.ops.cli.console import ConfigOption, DryRunOption, ModelOption, print_json, say
from perennial.ops.cli.file_options import (
    KINDS,
    ColumnOption,
    DelimiterOption,
    EncodingOption,
    SheetOption,
    file_reading,
)
from perennial.ops.cli.new_labels import say_new_labels
from perennial.ops.cli.session import model_session

__all__ = ["register"]

_LISTED = 20

_app = typer.Typer(help="Labels for answered requests.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="feedback")


@_app.callback()
def _group() -> None:
    """Labels for answered requests."""


@_app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help=f"labels: prediction_id,label or text,label; {KINDS}")],
    model: ModelOption = "",
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="leave wrong rows out, named on stderr, and store the others")
    ] = False,
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    sheet: SheetOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Store labels; with a prediction id they are joined to the request that was answered. All rows or none,
    unless --skip-refused is given; wrong rows are named by their line."""
    from perennial.ops.commands.label_file import read_label_file
    from perennial.ops.ledger import FeedbackRow
    from perennial.ops.store.feedback import add_labels

    reading = file_reading(column, encoding, delimiter, sheet)
    with model_session(config, model) as (parts, model):
        read = read_label_file(file, parts.ledger, model, skip_refused=skip_refused, reading=reading)
        for bad in read.refused[:_LISTED]:
            say(f"{read.unit} {bad['row']} is left out: {bad['cause']}")
        say_new_labels(parts, model, [row.label for row in read.rows])
        ids = [row.prediction_id for row in read.rows if isinstance(row, FeedbackRow)]
        unknown = _say_unknown(parts, model, ids) if ids else 0
        if dry_run:
            kind = "labels of requests" if ids else "texts with labels"
            outcome: dict[str, object] = {
                "dry_run": True,
                "would_store": len(read.rows),
                "kind": kind,
                "not_in_traffic": unknown,
            }
        else:
            _register(parts)
            outcome = dict(add_labels(parts.ledger, model, read.rows))
        print_json(outcome | ({"refused": len(read.refused)} if skip_refused else {}))


def _say_unknown(parts: Any, model: str, ids: list[str]) -> int:
    """How many of the prediction ids are not in the traffic log; said on stderr, for they may come later."""
    from perennial.ops.store.traffic_of import traffic_of

    logged = traffic_of(parts.workspace, model).lookup(ids, columns=["prediction_id"])
    unknown = sorted(set(ids) - set(logged["prediction_id"].to_pylist()))
    if unknown:
        say(
            f"{len(unknown)} of {len(set(ids))} prediction ids are not in the traffic log of {model} (e.g. "
            f"{unknown[0]!r}); their labels wait for the request, and count for nothing if it never comes"
        )
    return len(unknown)


def _register(parts: Any) -> None:
    from perennial.ops.commands.first_version import register as register_models

    register_models(parts.ledger, parts.workspace)
