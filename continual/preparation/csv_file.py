"""Labelled rows out of a CSV file."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from continual.errors import DataError
from continual.preparation.text import clean
from continual.records import Example, Origin

__all__ = ["read_labelled_csv"]

_LABEL_COLUMNS = ("label", "category", "intent")


def read_labelled_csv(path: Path | str, *, origin: Origin = Origin.SEED, now: datetime | None = None) -> list[Example]:
    """The rows of a CSV file with the columns `text` and `category` (or `label`), and optionally `at` and `key`.

    Reads UTF-8 with or without a byte order mark, quoted fields, any line ending; empty lines are passed over and a
    repeated header line (from files joined together) is not a row. Texts are cleaned. A row without `at` gets `now`.

    Raises:
        DataError: the file is missing, not UTF-8, has no such columns, or a row is wrong; it names row and column.
    """
    path = Path(path)
    moment = now or datetime.now(UTC)
    rows = csv.reader(io.StringIO(_content(path), newline=""), strict=True)
    try:
        header = next((row for row in rows if any(row)), None)
        if header is None:
            raise DataError(f"{path} is empty; it needs a header line such as: text,category")
        columns = _columns(path, header)
        return [
            _example(path, rows.line_num, row, columns, origin=origin, now=moment)
            for row in rows
            if any(field.strip() for field in row) and row != header
        ]
    except csv.Error as error:
        raise DataError(f"{path} line {rows.line_num}: {error}; check the quotes around its fields") from error


def _content(path: Path) -> str:
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give a CSV file with the columns text,category") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; give a readable CSV file") from error
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path} line {row}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    if "\0" in content:
        row = content[: content.index("\0")].count("\n") + 1
        raise DataError(f"{path} line {row}: holds a NUL byte; save the file as plain UTF-8 text")
    return content


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    names = [name.strip().casefold() for name in header]
    known = {"text", "at", "key", *_LABEL_COLUMNS}
    twice = sorted({name for name in names if names.count(name) > 1 and name in known})
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} appears more than once in the header {list(header)}; rename one")
    label = next((name for name in _LABEL_COLUMNS if name in names), None)
    if "text" not in names or label is None:
        raise DataError(
            f"{path}: the header is {list(header)}; it needs the columns 'text' and 'category' (or 'label')"
        )
    columns = {"text": names.index("text"), "label": names.index(label)}
    return columns | {name: names.index(name) for name in ("at", "key") if name in names}


def _example(
    path: Path, line: int, row: Sequence[str], columns: dict[str, int], *, origin: Origin, now: datetime
) -> Example:
    if len(row) <= max(columns["text"], columns["label"]):
        raise DataError(f"{path} line {line}: {len(row)} fields, too few to hold text and label; add the missing field")
    field = {name: row[place].strip() if place < len(row) else "" for name, place in columns.items()}
    text = clean(field["text"])
    for name, value in (("text", text), ("label", field["label"])):
        if not value:
            raise DataError(f"{path} line {line}: column {name!r} is empty; fill it or drop the row")
    at = _time(path, line, field["at"]) if field.get("at") else now
    return Example(text=text, label=field["label"], at=at, origin=origin, key=field.get("key") or None)


def _time(path: Path, line: int, written: str) -> datetime:
    try:
        at = datetime.fromisoformat(written)
    except ValueError as error:
        raise DataError(
            f"{path} line {line}: column 'at' holds {written!r}; write ISO 8601, e.g. 2026-01-31T12:00:00+00:00"
        ) from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
