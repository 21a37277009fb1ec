"""Labelled rows out of a CSV file."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.errors import DataError, RowsRefused
from perennial.continual.preparation.entrance import admit_time, shown
from perennial.continual.preparation.example import admit_example
from perennial.continual.preparation.labels import KnownLabels
from perennial.continual.records import Example, Origin

__all__ = ["CsvRow", "CsvTable", "label_column", "read_csv", "read_labelled_csv", "refuse_rows"]

_LABEL_COLUMNS = ("label", "category", "intent")
_TOLD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvRow:
    """One row by column name; `problem` tells why its fields cannot be told apart, if they cannot."""

    line: int
    fields: Mapping[str, str]
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvTable:
    """A CSV file's columns, in lower case, and its rows."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[CsvRow, ...]


def read_csv(path: Path | str, *, needs: str, known: Sequence[str]) -> CsvTable:
    """The rows of a CSV file; `needs` is an example header for messages, `known` are the columns that may occur once.

    Reads UTF-8 with or without a byte order mark, quoted fields, any line ending; empty lines are passed over and a
    repeated header line (from files joined together) is not a row. Fields come without outer spaces.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or not CSV, or a known column appears twice.
    """
    path = Path(path)
    rows = csv.reader(io.StringIO(_content(path, needs), newline=""), strict=True)
    try:
        header = next((row for row in rows if any(row)), None)
        if header is None:
            raise DataError(f"{path} is empty; it needs a header line such as: {needs}")
        names = tuple(name.strip().casefold() for name in header)
        twice = sorted({name for name in names if names.count(name) > 1 and name in known})
        if twice:
            raise DataError(f"{path}: column {twice[0]!r} appears more than once in the header {names}; rename one")
        found = tuple(_row(rows.line_num, row, names) for row in _filled(rows) if row != header)
    except csv.Error as error:
        raise DataError(f"{path} line {rows.line_num}: {error}; check the quotes around its fields") from error
    return CsvTable(path=path, columns=names, rows=found)


def read_labelled_csv(
    path: Path | str,
    *,
    origin: Origin = Origin.SEED,
    now: datetime | None = None,
    known: KnownLabels | None = None,
    refused: list[dict[str, object]] | None = None,
) -> list[Example]:
    """The rows of a CSV file with the columns `text` and `category` (or `label`), and optionally `at` and `key`.

    Every row passes the rule of the entrance: cleaned, without personal data, labels in their one form. A row without
    `at` gets `now`; a time without a zone is UTC. Wrong rows are collected in `refused` and left out where it is given.

    Raises:
        DataError: the file cannot be read or has no such columns.
        RowsRefused: rows are wrong; it names each line and its cause.
    """
    table = read_csv(path, needs="text,category", known=("text", "at", "key", *_LABEL_COLUMNS))
    label = label_column(table)
    if "text" not in table.columns or label is None:
        raise DataError(
            f"{table.path}: the header is {shown(','.join(table.columns))}; it needs the columns 'text' and 'category' "
            f"(or 'label')"
        )
    moment, labels = now or datetime.now(UTC), known or KnownLabels()
    examples: list[Example] = []
    bad: list[dict[str, object]] = []
    for row in table.rows:
        try:
            examples.append(_example(row, label, origin=origin, now=moment, known=labels))
        except DataError as error:
            bad.append({"row": row.line, "cause": str(error)})
    if refused is None:
        refuse_rows(table, bad)
    else:
        refused += bad
    return examples


def label_column(table: CsvTable) -> str | None:
    """The column that holds the labels; None without one.

    Raises:
        DataError: more than one column could be it.
    """
    found = [name for name in table.columns if name in _LABEL_COLUMNS]
    if len(found) > 1:
        raise DataError(
            f"{table.path}: the columns {' and '.join(map(repr, found))} could both hold the label; "
            f"keep one of them, or rename the other"
        )
    return found[0] if found else None


def refuse_rows(table: CsvTable, bad: Sequence[Mapping[str, object]]) -> None:
    """Raises RowsRefused that names the first wrong lines, where there are any."""
    if not bad:
        return
    told = "; ".join(f"line {row['row']}: {row['cause']}" for row in bad[:_TOLD])
    if len(bad) == 1:
        raise RowsRefused(f"{table.path} {told}", bad)
    more = f"; and {len(bad) - _TOLD} more" if len(bad) > _TOLD else ""
    raise RowsRefused(f"{table.path}: {len(bad)} of {len(table.rows)} rows are wrong: {told}{more}", bad)


def _filled(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    return (row for row in rows if any(field.strip() for field in row))


def _row(line: int, row: Sequence[str], names: Sequence[str]) -> CsvRow:
    fields = {name: field.strip() for name, field in zip(names, row, strict=False)}
    if len(row) <= len(names):
        return CsvRow(line=line, fields=fields)
    problem = f"{len(row)} fields, but the header has {len(names)}; put quotes around a field that holds a comma"
    return CsvRow(line=line, fields=fields, problem=problem)


def _content(path: Path, needs: str) -> str:
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give a CSV file with the columns {needs}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; give a readable CSV file") from error
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path} line {row}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))  # or one long field would end the whole file
    return content


def _example(row: CsvRow, label: str, *, origin: Origin, now: datetime, known: KnownLabels) -> Example:
    if row.problem is not None:
        raise DataError(row.problem)
    for name in ("text", label):
        if name not in row.fields:
            raise DataError(f"{len(row.fields)} fields, too few to hold text and label; add the missing field")
        if not row.fields[name]:
            raise DataError(f"column {name!r} is empty; fill it or drop the row")
    at = row.fields.get("at")
    return admit_example(
        text=row.fields["text"],
        label=row.fields[label],
        at=now if not at else admit_time(at, now=max(now, datetime.now(UTC)), without_zone_is_utc=True),
        origin=origin,
        known=known,
        key=row.fields.get("key"),
    )
