"""`feedback import`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from perennial.continual.preparation import FileReading
    from perennial.ops.parts import Parts

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
    file: Annotated[
        Path,
        typer.Argument(
            help=f"prediction_id,label or text,label; of a ranking prediction_id,item or user,item; "
            f"of replies prediction_id,verdict; {KINDS}"
        ),
    ],
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
    """Store labels, or what users did with items; with a prediction id they are joined to the request that was
    answered. All rows or none, unless --skip-refused is given; wrong rows are named by their line."""
    reading = file_reading(column, encoding, delimiter, sheet)
    with model_session(config, model) as (parts, model):
        read = _READERS[parts.settings.task_of(model)](parts, model, file, skip_refused, reading)
        for bad in read.refused[:_LISTED]:
            say(f"{read.unit} {bad['row']} is left out: {bad['cause']}")
        unknown = _say_unknown(parts, model, read.ids) if read.ids else 0
        if dry_run:
            outcome: dict[str, object] = {
                "dry_run": True,
                "would_store": read.rows,
                "kind": read.kind,
                "not_in_traffic": unknown,
            }
        else:
            _register(parts)
            outcome = dict(read.store())
        print_json(outcome | ({"refused": len(read.refused)} if skip_refused else {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What a file holds, whatever the task."""

    rows: int
    ids: list[str]  # predictions that it names
    kind: str
    refused: Sequence[Mapping[str, object]]
    unit: str
    store: Callable[[], Mapping[str, int]]


def _labels(parts: "Parts", model: str, file: Path, skip_refused: bool, reading: "FileReading") -> _Read:
    from perennial.ops.commands.label_file import read_label_file
    from perennial.ops.ledger import FeedbackRow
    from perennial.ops.store.feedback import add_labels
    from perennial.ops.store.pictures import check_pictures

    attributes = parts.workspace.model(model).fairness.attributes
    read = read_label_file(file, parts.ledger, model, skip_refused=skip_refused, reading=reading, attributes=attributes)
    check_pictures(parts.workspace, model, read.rows)
    say_new_labels(parts, model, [row.label for row in read.rows])
    ids = [row.prediction_id for row in read.rows if isinstance(row, FeedbackRow)]
    return _Read(
        rows=len(read.rows),
        ids=ids,
        kind="labels of requests" if ids else "texts with labels",
        refused=read.refused,
        unit=read.unit,
        store=lambda: add_labels(parts.ledger, model, read.rows),
    )


def _images(parts: "Parts", model: str, file: Path, skip_refused: bool, reading: "FileReading") -> _Read:
    """A folder for each label, a table of images with labels, or labels of requests."""
    from perennial.continual.images import ImageStore
    from perennial.continual.images.files import holds_images, image_rows
    from perennial.ops.cli.beginning.labelled_images import WaitingPictures
    from perennial.ops.store.feedback import add_labels, known_labels

    if not holds_images(file, reading):
        return _labels(parts, model, file, skip_refused, reading)
    bad: list[dict[str, object]] = []
    waiting, known = WaitingPictures(), known_labels(parts.ledger, model)
    rows = image_rows(
        file,
        waiting.store,
        reading=reading,
        known=known,
        refused=bad if skip_refused else None,
        attributes=parts.workspace.model(model).fairness.attributes,
    )
    say_new_labels(parts, model, [row.label for row in rows])

    def stored() -> Mapping[str, int]:
        waiting.keep(rows, ImageStore(parts.workspace.images(model)))  # before the rows that name them
        return add_labels(parts.ledger, model, rows)

    return _Read(
        rows=len(rows),
        ids=[],
        kind="images with labels",
        refused=bad,
        unit="file" if file.is_dir() else "line",
        store=stored,
    )


def _signals(parts: "Parts", model: str, file: Path, skip_refused: bool, reading: "FileReading") -> _Read:
    from perennial.ops.commands.signal_file import read_signal_file
    from perennial.ops.store.feedback import add_signals

    read = read_signal_file(file, skip_refused=skip_refused, reading=reading)
    ids = [one.prediction_id for one in read.signals if one.prediction_id is not None]
    return _Read(
        rows=len(read.signals),
        ids=ids,
        kind="signals of requests" if ids else "signals of users",
        refused=read.refused,
        unit=read.unit,
        store=lambda: add_signals(parts.ledger, parts.workspace, model, read.signals),
    )


def _verdicts(parts: "Parts", model: str, file: Path, skip_refused: bool, reading: "FileReading") -> _Read:
    """A file with verdicts, or with labels alone."""
    from perennial.ops.commands.verdict_file import read_verdict_file
    from perennial.ops.store.feedback import add_verdicts, known_labels

    known = known_labels(parts.ledger, model)
    read = read_verdict_file(file, known=known, skip_refused=skip_refused, reading=reading)
    if read is None:
        return _labels(parts, model, file, skip_refused, reading)
    return _Read(
        rows=len(read.verdicts),
        ids=[one.prediction_id for one in read.verdicts],
        kind="verdicts on answers",
        refused=read.refused,
        unit=read.unit,
        store=lambda: add_verdicts(parts.ledger, parts.workspace, model, read.verdicts),
    )


def _edits(parts: "Parts", model: str, file: Path, skip_refused: bool, reading: "FileReading") -> _Read:
    from perennial.ops.commands.edit_file import read_edit_file
    from perennial.ops.store.feedback import add_edits

    read = read_edit_file(file, skip_refused=skip_refused, reading=reading)
    return _Read(
        rows=len(read.edits),
        ids=[],
        kind="accepted edits",
        refused=read.refused,
        unit=read.unit,
        store=lambda: add_edits(parts.ledger, model, read.edits),
    )


_READERS: Mapping[str, Callable[["Parts", str, Path, bool, "FileReading"], _Read]] = {
    "generation": _edits,
    "image_classification": _images,
    "opinion": _labels,
    "ranking": _signals,
    "replies": _verdicts,
    "text_classification": _labels,
}


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
