"""One way in for files of rows: what kind a file is, is told by what is in it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perennial.continual.preparation.tables.columns import Role
from perennial.continual.preparation.tables.content import STANDARD_INPUT, is_workbook, read_content
from perennial.continual.preparation.tables.delimited import read_delimited
from perennial.continual.preparation.tables.encoding import decoded
from perennial.continual.preparation.tables.objects import looks_like_json, read_json
from perennial.continual.preparation.tables.parquet import PARQUET, read_parquet
from perennial.continual.preparation.tables.table import FileReading, Table
from perennial.continual.preparation.tables.workbook import read_workbook

__all__ = ["STANDARD_INPUT", "read_table"]

_NOTHING_STATED = FileReading()


def read_table(path: Path | str, roles: Sequence[Role], reading: FileReading = _NOTHING_STATED) -> Table:
    """The rows of a file by role: delimited text, JSON, JSON Lines, Parquet or Excel, as they are or packed.

    Text comes without outer spaces; what a value may be is judged by the rule of the entrance, not here.

    Raises:
        DataError: the file cannot be read, is no such file, or a column is ambiguous; the message says what to do.
        DependencyUnreachable: a library for this kind of file is not installed.
    """
    return replace(_read(Path(path), roles, reading), on_rows=reading.on_rows)


def _read(path: Path, roles: Sequence[Role], reading: FileReading) -> Table:
    content = read_content(path)
    stated, source = reading.columns, content.source
    if content.data.startswith(PARQUET):
        return read_parquet(content.data, source, roles, stated=stated)
    if is_workbook(content.data):
        return read_workbook(content.data, source, roles, stated=stated, sheet=reading.sheet)
    text = decoded(content.data, source, reading.encoding)
    if reading.delimiter is None and looks_like_json(text):
        return read_json(text, source, roles, stated=stated)
    return read_delimited(text, source, roles, stated=stated, delimiter=reading.delimiter, suffix=content.suffix)
