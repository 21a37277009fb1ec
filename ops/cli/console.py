"""What the commands share: where they speak, and the options they have in common.

Everything that a command prints goes through here, where what would act on a terminal is made visible.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.ops.cli.model_choice import only_model
from perennial.ops.cli.tables import least_widths, readable_width, stacked
from perennial.ops.safety.printable import json_text, printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ConfigOption",
    "DryRunOption",
    "JsonOption",
    "ModelOption",
    "known_facts",
    "print_json",
    "print_records",
    "print_table",
    "say",
    "say_error",
    "shown",
]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", is_eager=True, help="settings file; default ./perennial.toml where it exists"
    ),  # eager: the model is looked up in it
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="which model", callback=only_model, show_default="the only one")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="say what would happen, and change nothing")]
JsonOption = Annotated[bool, typer.Option("--json", help="machine-readable output")]


@cache
def _console(*, stderr: bool) -> "Console":
    from rich.console import Console  # not with the module: a command that only prints its help needs none of it

    return Console(stderr=stderr, soft_wrap=True)


def say(message: str) -> None:
    """A line for a person, on stderr."""
    _console(stderr=True).print(printable(message), markup=False, highlight=False)


def say_error(kind: str, message: str) -> None:
    """An error, on stderr."""
    _console(stderr=True).print(f"[bold red]{kind}[/]: ", end="", highlight=False)
    _console(stderr=True).print(printable(message), markup=False, highlight=False)


def print_json(value: Any) -> None:
    """JSON on stdout: a record, or plain values that may hold records."""
    typer.echo(json_text(value, indent=1))


def known_facts(value: Any) -> Any:
    """A record as plain values without what is not known: as the API tells what it does not tell in full."""
    if is_dataclass(value):
        value = {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, Mapping):
        return {name: known_facts(each) for name, each in value.items() if each is not None}
    return value


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on stdout; where it does not fit, its rows stand one below the other."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[printable(shown(value), one_line=True) for value in row] for row in rows]
    width = readable_width()
    widths = least_widths(columns, cells, width)
    if widths is None:
        typer.echo("\n".join(part for part in (printable(title), stacked(columns, cells, width)) if part))
        return
    table = Table(title=Text(printable(title)), title_justify="left", header_style="bold")
    for column, least in zip(columns, widths, strict=True):
        table.add_column(column, min_width=least, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))  # brackets are no markup
    Console(width=width).print(table)


def print_records(title: str, columns: Sequence[str], records: Iterable[Any]) -> None:
    """A table of records on stdout; the columns are names of their fields."""
    print_table(title, columns, ([getattr(record, name) for name in columns] for record in records))


def shown(value: Any) -> str:
    """A value as a person wants to read it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if hasattr(value, "isoformat"):
        return str(value.isoformat(sep=" ", timespec="seconds"))
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(each)}" for name, each in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(shown(v) for v in value) or "-"
    return str(value)
