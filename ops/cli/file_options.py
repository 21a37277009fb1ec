"""The options by which a command's user helps to read a file of rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from perennial.continual.preparation import FileReading

__all__ = ["KINDS", "ColumnOption", "DelimiterOption", "EncodingOption", "SheetOption", "file_reading"]

KINDS = "CSV, TSV, JSON, JSON Lines, Parquet or Excel, also as gz, zst or zip; - is standard input"
ColumnOption = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="ROLE=NAME", help="which column is what, e.g. text=Body; repeatable"),
]
EncodingOption = Annotated[
    str | None, typer.Option(help="of a text file; default found out: UTF-8, UTF-16 or GB18030", show_default=False)
]
DelimiterOption = Annotated[
    str | None, typer.Option(help="between fields: a character, comma, semicolon, tab or pipe; default found out")
]
SheetOption = Annotated[str | None, typer.Option(help="of an Excel file with several")]


def file_reading(
    column: Sequence[str] | None, encoding: str | None, delimiter: str | None, sheet: str | None
) -> "FileReading":
    """What these options state of the file.

    Raises:
        typer.BadParameter: a column is not of the form ROLE=NAME, or a role is stated twice.
    """
    from perennial.continual.preparation import FileReading
    from perennial.ops.cli.progress import rows_said

    columns: dict[str, str] = {}
    for option in column or ():
        role, equals, name = option.partition("=")
        role, name = role.strip().lower(), name.strip()
        if not equals or not role or not name:
            raise typer.BadParameter(f"{option!r} is not ROLE=NAME; write e.g. text=Body", param_hint="--column")
        if role in columns:
            raise typer.BadParameter(f"{role} is stated twice; state one column for it", param_hint="--column")
        columns[role] = name
    return FileReading(columns=columns, encoding=encoding, delimiter=delimiter, sheet=sheet, on_rows=rows_said())
