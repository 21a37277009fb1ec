"""`feedback import`."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from continual.errors import DataError
from ops.cli.console import ConfigOption, DryRunOption, ModelOption, print_json, say
from ops.cli.new_labels import say_new_labels

__all__ = ["register"]

_app = typer.Typer(help="Labels for answered requests.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="feedback")


@_app.callback()
def _group() -> None:
    """Labels for answered requests."""


@_app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV with prediction_id,label or text,label (or text,category)")],
    model: ModelOption = "intent",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Store labels; with a prediction id they are joined to the request that was answered. All rows or none."""
    from continual.preparation import read_labelled_csv
    from ops.feedback import add_labelled
    from ops.wiring import open_parts

    rows = _predictions(file)
    examples = [] if rows is not None else read_labelled_csv(file)
    parts = open_parts(config)
    try:
        parts.workspace.model(model)
        say_new_labels(parts, model, [row.label for row in (rows if rows is not None else examples)])
        unknown = 0 if rows is None else _say_unknown(parts, model, [row.prediction_id for row in rows])
        if dry_run:
            kind = "labels of requests" if rows is not None else "texts with labels"
            count = len(rows if rows is not None else examples)
            print_json({"dry_run": True, "would_store": count, "kind": kind, "not_in_traffic": unknown})
            return
        _register(parts)
        if rows is not None:
            from dataclasses import asdict

            print_json(asdict(parts.ledger.add_feedback(model, rows)))
        else:
            print_json(add_labelled(parts.ledger, model, examples))
    finally:
        parts.close()


def _say_unknown(parts: Any, model: str, ids: list[str]) -> int:
    """How many of the prediction ids are not in the traffic log; said on stderr, for they may come later."""
    from ops.traffic import TrafficLog

    found = TrafficLog(parts.workspace.traffic(model)).lookup(ids, columns=["prediction_id"])
    unknown = sorted(set(ids) - set(found["prediction_id"].to_pylist()))
    if unknown:
        say(
            f"{len(unknown)} of {len(set(ids))} prediction ids are not in the traffic log of {model} (e.g. "
            f"{unknown[0]!r}); their labels wait for the request, and count for nothing if it never comes"
        )
    return len(unknown)


def _register(parts: Any) -> None:
    from ops.bootstrap import register as register_models

    register_models(parts.ledger, parts.workspace)


def _predictions(file: Path) -> Any:
    """Rows of a file with a `prediction_id` column; None when it has none."""
    from ops.ledger import FeedbackRow

    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
            names = set(reader.fieldnames or ())
            if "prediction_id" not in names:
                return None
            if "label" not in names:
                raise DataError(
                    f"{file} has columns {sorted(names)}; it needs prediction_id and label, and may have at"
                )
            now = datetime.now(UTC)
            rows = []
            for number, row in enumerate(reader, start=2):
                try:
                    at = datetime.fromisoformat(row["at"]) if row.get("at") else now
                    rows.append(FeedbackRow(prediction_id=row["prediction_id"] or "", label=row["label"] or "", at=at))
                except (DataError, ValueError) as exc:
                    raise DataError(f"{file} line {number}: {exc}") from exc
    except FileNotFoundError as exc:
        raise DataError(f"{file} does not exist; give a CSV file with prediction_id,label or text,label") from exc
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"{file} cannot be read as UTF-8 CSV ({exc}); save it as UTF-8, with commas") from exc
    return rows
