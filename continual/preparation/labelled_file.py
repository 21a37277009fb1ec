"""Labelled rows out of a file of any kind that is read."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.errors import DataError
from perennial.continual.preparation.attributes import admit_attributes
from perennial.continual.preparation.entrance import admit_time
from perennial.continual.preparation.example import admit_example
from perennial.continual.preparation.labels import KnownLabels
from perennial.continual.preparation.tables import FileReading, Role, Table, TableRow, read_table, refuse_rows
from perennial.continual.records import Example, Origin

__all__ = ["LABEL", "LABELLED", "labelled_rows", "read_labelled_file"]

LABEL = Role("label", ("category", "intent"))
LABELLED = (Role("text"), LABEL, Role("at"), Role("key"))
_NOTHING_STATED = FileReading()


def read_labelled_file(
    path: Path | str,
    *,
    reading: FileReading = _NOTHING_STATED,
    origin: Origin = Origin.SEED,
    now: datetime | None = None,
    known: KnownLabels | None = None,
    refused: list[dict[str, object]] | None = None,
    attributes: Sequence[str] = (),
) -> list[Example]:
    """The rows of a file with the columns `text` and `label` (or `category`), and optionally `at` and `key`.

    `attributes` are further columns that say whose a row is.

    Raises:
        DataError, DependencyUnreachable: see `read_table`.
        RowsRefused: see `labelled_rows`.
    """
    table = read_table(path, (*LABELLED, *map(Role, attributes)), reading)
    return labelled_rows(table, origin=origin, now=now, known=known, refused=refused, attributes=attributes)


def labelled_rows(
    table: Table,
    *,
    origin: Origin = Origin.SEED,
    now: datetime | None = None,
    known: KnownLabels | None = None,
    refused: list[dict[str, object]] | None = None,
    attributes: Sequence[str] = (),
) -> list[Example]:
    """The rows of a table with texts and labels, each by the rule of the entrance.

    They are cleaned, without personal data, with labels in their one form. A row without `at` gets `now`; a time
    without a zone is UTC. Wrong rows are collected in `refused` and left out where it is given.

    Raises:
        DataError: the table has no such columns.
        RowsRefused: rows are wrong; it names each line and its cause.
    """
    table.require(("text", "label"))
    moment, labels = now or datetime.now(UTC), known or KnownLabels()
    examples, bad = table.admitted(
        lambda row: _example(row, table, origin=origin, now=moment, known=labels, attributes=attributes)
    )
    if refused is None:
        refuse_rows(table, bad)
    else:
        refused += bad
    return examples


def _example(
    row: TableRow, table: Table, *, origin: Origin, now: datetime, known: KnownLabels, attributes: Sequence[str]
) -> Example:
    _check_filled(row, table, ("text", "label"))
    at = row.fields.get("at")
    return admit_example(
        text=row.fields["text"],
        label=row.fields["label"],
        at=now if not at else admit_time(at, now=max(now, datetime.now(UTC)), without_zone_is_utc=True),
        origin=origin,
        known=known,
        key=row.fields.get("key"),
        attributes=admit_attributes({name: row.fields.get(name) for name in attributes}, attributes),
    )


def _check_filled(row: TableRow, table: Table, roles: Sequence[str]) -> None:
    for role in roles:
        column = table.named[role]
        if role not in row.fields:
            raise DataError(f"{row.width} fields, too few to hold text and label; add the missing {column!r}")
        if not row.fields[role]:
            raise DataError(f"column {column!r} is empty; fill it or drop the row")
