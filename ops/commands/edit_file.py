"""A file of approved replies and, where they were told otherwise, the accepted rewrites."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.preparation import FileReading, Role, read_table, refuse_rows
from perennial.continual.preparation.tables import TableRow
from perennial.continual.records import Origin
from perennial.continual.tasks.generation import AcceptedEdit, Generation

__all__ = ["EditFile", "read_edit_file"]

_ROLES = (
    Role("approved", ("reply", "text")),
    Role("accepted", ("edited", "rewrite")),
    Role("tone"),
    Role("language"),
    Role("name"),
    Role("at"),
    Role("key"),
)
_NOTHING_STATED = FileReading()


@dataclass(frozen=True, slots=True, kw_only=True)
class EditFile:
    """The rows that may be stored, and those that were left out, each with its line and cause."""

    edits: tuple[AcceptedEdit, ...]
    refused: tuple[dict[str, object], ...] = ()
    unit: str = "line"  # what the rows of the refused ones count


def read_edit_file(
    path: Path,
    *,
    skip_refused: bool = False,
    reading: FileReading = _NOTHING_STATED,
    origin: Origin = Origin.FEEDBACK,
) -> EditFile:
    """The rows of a file with `approved` and `accepted`, and optionally tone, language, name, at and key.

    Without `accepted` a reply is accepted as it is.

    Raises:
        DataError, DependencyUnreachable: the file cannot be read or lacks a column.
        RowsRefused: rows are wrong, and `skip_refused` is not given; it names each line.
    """
    table = read_table(path, _ROLES, reading)
    table.require(("approved",))
    now, task = datetime.now(UTC), Generation()

    def edit(row: TableRow) -> AcceptedEdit:
        filled = {name: value for name, value in row.fields.items() if value}
        return task.read_row({"accepted": filled.get("approved", ""), **filled, "origin": origin.value}, now=now)

    edits, bad = table.admitted(edit)
    if not skip_refused:
        refuse_rows(table, bad)
    return EditFile(edits=tuple(edits), refused=tuple(bad), unit=table.unit)
