"""Rows of an Excel workbook."""

import io
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from perennial.continual.errors import DataError, DependencyUnreachable
from perennial.continual.preparation.tables.cells import failed_formula
from perennial.continual.preparation.tables.columns import Role, bare, known_names, roles_of
from perennial.continual.preparation.tables.content import within_bounds
from perennial.continual.preparation.tables.header import LOOKED_AT, check_header, header_place, known_in
from perennial.continual.preparation.tables.objects import row_of
from perennial.continual.preparation.tables.table import MOST_ROWS, Table, TableRow, offered, quoted

__all__ = ["read_workbook"]

_MOST_CELLS = 50_000_000  # a cell far out makes a row of empty ones


def read_workbook(
    data: bytes, source: str, roles: Sequence[Role], *, stated: Mapping[str, str], sheet: str | None
) -> Table:
    """The rows of the only sheet that holds any, or of the one that is stated; formulas count as what they last gave.

    Raises:
        DataError: the file is damaged or too large, or it is not clear which sheet is meant.
        DependencyUnreachable: the library that reads Excel is not installed.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DependencyUnreachable(
            f"{source} is an Excel file, which needs openpyxl; install it with `pip install "
            f"'perennial-serving[excel]'`, or save the sheet as CSV"
        ) from error
    _check_size(data, source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and extensions, which are no business of ours
        try:
            book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
            name, rows = _chosen(book, source, sheet, known_names(roles, stated))
            return _table(rows, f"{source} (sheet {quoted(name)})", roles, stated)
        except DataError:
            raise
        except Exception as error:  # the library raises whatever a damaged part leads to
            raise DataError(f"{source} is a damaged Excel file ({str(error)[:100]}); save it again") from error


def _check_size(data: bytes, source: str) -> None:
    """What the parts unpack to, by the archive's own account: more than that is never read of them."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            within_bounds(source, len(data), sum(part.file_size for part in archive.infolist()))
    except zipfile.BadZipFile as error:
        raise DataError(f"{source} is a damaged Excel file ({str(error)[:100]}); save it again") from error


def _chosen(
    book: Any, source: str, sheet: str | None, known: frozenset[str]
) -> tuple[str, Iterator[tuple[int, tuple[object, ...]]]]:
    """The sheet that is meant, and its rows."""
    names = [each.title for each in book.worksheets]  # sheets of charts hold no rows
    if not names:
        raise DataError(f"{source} has no sheet with cells, only {offered(book.sheetnames)}; give one with rows")
    if sheet is not None:
        if sheet not in names:
            raise DataError(f"{source} has no sheet {quoted(sheet)}; its sheets are {offered(names)}")
        return sheet, _filled(book[sheet])
    full = [each.title for each in book.worksheets if next(_filled(each), None) is not None]
    if not full:
        raise DataError(f"{source} is empty; it needs a first row with the names of the columns")
    if len(full) > 1:
        likely = max(full, key=lambda title: _most_known(book[title], known))
        raise DataError(f"{source} has {len(full)} sheets with rows: {offered(full)}; say which: --sheet {likely!r}")
    return full[0], _filled(book[full[0]])


def _most_known(sheet: Any, known: frozenset[str]) -> int:
    """How many known names of columns one of the first rows holds."""
    return max(known_in(_texts(row), known) for _, row in islice(_filled(sheet), LOOKED_AT))


def _texts(row: Sequence[object]) -> list[str]:
    return ["" if cell is None else bare(str(cell)) for cell in row]


def _filled(sheet: Any) -> Iterator[tuple[int, tuple[object, ...]]]:
    """The rows that hold something, by their number in the sheet."""
    sheet.reset_dimensions()  # what the file says of its size need not be so
    cells = 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
        cells += len(row) + 1
        if cells > _MOST_CELLS:
            raise DataError(f"sheet {quoted(sheet.title)} has more than {_MOST_CELLS:,} cells; save the rows as CSV")
        if any(map(_is_filled, row)):
            yield number, row


def _is_filled(value: object) -> bool:
    return value is not None and bool(str(value).strip())


def _table(
    rows: Iterator[tuple[int, tuple[object, ...]]], source: str, roles: Sequence[Role], stated: Mapping[str, str]
) -> Table:
    first = list(islice(rows, LOOKED_AT))
    texts, known = [(number, _texts(row)) for number, row in first], known_names(roles, stated)
    at = header_place([row for _, row in texts], known)
    check_header(texts, at, known, source, "row")
    columns = tuple(texts[at][1])
    width = max(place for place, name in enumerate(columns) if name) + 1
    columns = columns[:width]
    places = roles_of(source, columns, roles, stated)
    table_rows: list[TableRow] = []
    for number, row in chain(first[at + 1 :], rows):
        if len(table_rows) == MOST_ROWS:
            raise DataError(f"{source} has more than {MOST_ROWS:,} rows; give them in smaller files")
        table_rows.append(_row(number, row, places, columns))
    return Table(
        source=source,
        columns=columns,
        named={role: columns[place] for role, place in places.items()},
        rows=tuple(table_rows),
        unit="row",
    )


def _row(number: int, row: Sequence[object], places: Mapping[str, int], columns: Sequence[str]) -> TableRow:
    beyond = any(map(_is_filled, row[len(columns) :]))
    values = {columns[place]: row[place] if place < len(row) else None for place in places.values()}
    failed = next((name for name, value in values.items() if failed_formula(value, sheet=True)), None)
    if failed is not None:
        problem = f"column {quoted(failed)} holds {values[failed]}, the error of a formula; correct it or drop the row"
        return TableRow(line=number, fields={}, width=len(row), problem=problem)
    table_row = row_of(number, values, {role: columns[place] for role, place in places.items()})
    if not beyond or table_row.problem is not None:
        return table_row
    problem = f"has cells beyond the {len(columns)} columns of the header; name their columns or clear them"
    return TableRow(line=number, fields=table_row.fields, width=len(row), problem=problem)
