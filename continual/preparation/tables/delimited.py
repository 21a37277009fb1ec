"""Rows of delimited text: CSV and TSV in the dialects that spreadsheets and scripts write."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal

from perennial.continual.errors import DataError
from perennial.continual.preparation.tables.cells import failed_formula
from perennial.continual.preparation.tables.columns import Role, bare, known_names, roles_of
from perennial.continual.preparation.tables.drawn import drawn_rows, is_drawn
from perennial.continual.preparation.tables.header import LOOKED_AT, check_header, header_place, known_in
from perennial.continual.preparation.tables.table import MOST_ROWS, Table, TableRow, offered, quoted

__all__ = ["read_delimited"]

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_SPACE = " "
_SAMPLE_CHARACTERS = 1 << 16
_SAMPLE_ROWS = 50
_LONGEST_FIELD = 1 << 24  # an open quotation mark must not take in a whole large file
_SEPARATOR_LINE = re.compile(r'("?)sep=(.)\1[^\S\r\n]*(?:\r\n|\r|\n)', re.IGNORECASE)  # Excel's own first line
_BY_SPACES = re.compile(r'"[^"\r\n]*"(?: "[^"\r\n]*")+[\r\n]')  # the header that R writes if nobody states a sign


@dataclass(frozen=True, slots=True)
class _Record:
    line: int  # where it begins
    fields: list[str]
    quoted: bool = False  # the first field


def read_delimited(
    text: str, source: str, roles: Sequence[Role], *, stated: Mapping[str, str], delimiter: str | None, suffix: str
) -> Table:
    """The rows of delimited text; empty lines and repeated header lines (from files joined together) are none.

    Raises:
        DataError: there is no header, quotes do not match, or a column is ambiguous.
    """
    above = 0
    if delimiter is None and (declared := _SEPARATOR_LINE.match(text)) is not None:
        text, delimiter, above = text[declared.end() :], declared[2], 1
    elif delimiter is not None:
        delimiter = _stated(delimiter)
    if not text.strip():
        raise DataError(f"{source} is empty; it needs a header line such as: {','.join(role.name for role in roles)}")
    known = known_names(roles, stated)
    if delimiter in {None, "|"} and is_drawn(text, known):
        drawn = (_Record(line + above, cells) for line, cells in drawn_rows(text))
        return _table(drawn, source, roles, stated, "|", keep_whole=r"write \| for a pipe inside a cell")
    sign = _found(text, source, known, suffix) if delimiter is None else delimiter

    def table(*, quotes: bool = True, spaces: bool = False) -> Table:
        records = _records(text, source, sign, above=above, quotes=quotes, spaces=spaces)
        return _table(records, source, roles, stated, sign)

    try:
        return table()
    except _BrokenQuotes:
        with suppress(_BrokenQuotes):  # a quotation mark after a space may be but a sign of a text
            odd = table(spaces=True)
            if all(row.problem is None and not any(map(_is_quoted, row.fields.values())) for row in odd.rows):
                return odd
        with suppress(_BrokenQuotes):  # tab-separated files often know no quotes at all
            plain = table(quotes=False) if sign == "\t" else None
            if plain is not None and all(
                row.problem is None and len(row.fields) == len(plain.named) for row in plain.rows
            ):
                return plain
        raise


def _is_quoted(field: str, mark: str = '"') -> bool:
    return len(field) > 1 and field[0] == field[-1] == mark


class _BrokenQuotes(DataError):
    """The quotation marks of a file do not match."""


def _table(
    records: Iterator[_Record],
    source: str,
    roles: Sequence[Role],
    stated: Mapping[str, str],
    delimiter: str,
    *,
    keep_whole: str | None = None,
) -> Table:
    """The table of these records; `keep_whole` says how a field holds the delimiter, if not between quotes."""
    first = list(islice(records, LOOKED_AT))
    if not first:
        raise DataError(f"{source} holds nothing but empty fields; it needs a header line and rows under it")
    known = known_names(roles, stated)
    at = header_place([record.fields for record in first], known)
    check_header([(record.line, record.fields) for record in first], at, known, source, "line")
    header, begun = first[at].fields, first[at + 1 :]
    numbered = first[at].quoted and _numbers_rows(begun, len(header))
    columns = (*([""] if numbered else []), *map(bare, header))
    places = roles_of(source, columns, roles, stated)
    fix = keep_whole or f"put quotes around a field that holds a {_name(delimiter)}"
    rows: list[TableRow] = []
    for record in chain(begun, records):
        if record.fields == header:
            continue
        if len(rows) == MOST_ROWS:
            raise DataError(f"{source} has more than {MOST_ROWS:,} rows; give them in smaller files")
        rows.append(_row(record, places, len(columns), fix))
    _check_single_quotes(source, rows)
    if len(rows) > 1 and all(row.width == len(columns) + 1 for row in rows):
        named = delimiter.join(("row", *columns))
        raise DataError(
            f"{source}: every row has one field more than the header; name that column too, such as {quoted(named)}, "
            f"or {fix}"
        )
    return Table(
        source=source, columns=columns, named={role: columns[at] for role, at in places.items()}, rows=tuple(rows)
    )


def _numbers_rows(records: Sequence[_Record], width: int) -> bool:
    """Whether the rows begin with their numbers in quotes, which the header does not name: R writes tables so."""
    numbers = [record.fields[0].strip() for record in records if record.quoted and len(record.fields) == width + 1]
    return len(numbers) == len(records) > 1 and numbers == [str(place) for place in range(1, len(numbers) + 1)]


def _check_single_quotes(source: str, rows: Sequence[TableRow]) -> None:
    """Refuse a file that quotes its fields by the wrong sign: they would be part of each class's name."""
    for role in rows[0].fields if len(rows) > 1 else ():
        values = [row.fields.get(role, "") for row in rows]
        if all(_is_quoted(value, "'") for value in values):
            raise DataError(
                f"{source}: every {role} stands between single quotes, such as {values[0][:40]}; CSV quotes fields "
                'with double ones ("): write it so, or take them away'
            )


def _row(record: _Record, places: Mapping[str, int], width: int, fix: str) -> TableRow:
    width_seen = len(record.fields)
    fields = {role: record.fields[place].strip() for role, place in places.items() if place < width_seen}
    problem = None
    if width_seen > width:
        problem = f"{width_seen} fields, but the header has {width}; {fix}"
    failed = next((role for role, value in fields.items() if failed_formula(value, sheet=False)), None)
    if failed is not None:
        problem = f"its {failed} is {fields[failed]}, the error of a formula; correct it or drop the row"
    return TableRow(line=record.line, fields=fields, width=width_seen, problem=problem)


def _name(delimiter: str) -> str:
    return "space" if delimiter == _SPACE else _DELIMITERS.get(delimiter, repr(delimiter))


def _records(
    text: str, source: str, delimiter: str, *, above: int = 0, quotes: bool = True, spaces: bool = False
) -> Iterator[_Record]:
    """Every record that holds something, with the line on which it begins; `spaces` before a field belong to it."""
    csv.field_size_limit(_LONGEST_FIELD)
    how: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    skips = not spaces and delimiter != _SPACE
    lines = io.StringIO(text, newline="")
    rows = csv.reader(lines, delimiter=delimiter, strict=True, quoting=how, skipinitialspace=skips)
    begins = 1
    while True:
        place = lines.tell()
        try:
            fields = next(rows, None)
        except csv.Error as error:
            raise _BrokenQuotes(f"{source} line {begins + above}: {_quotes_fix(str(error))}") from error
        if fields is None:
            return
        if any(field.strip() for field in fields):
            yield _Record(begins + above, fields, quoted=quotes and text.startswith('"', place))
        begins = rows.line_num + 1


def _quotes_fix(error: str) -> str:
    if "field larger than" in error:
        return (
            f"a field here has more than {_LONGEST_FIELD:,} characters; a quotation mark may be open, or the delimiter "
            "another one (--delimiter)"
        )
    if "unexpected end of data" in error:
        return (
            "a field that begins with a quotation mark here never ends; check the quotes: close it, or write a quote "
            'inside a field twice ("")'
        )
    return f'{error}; check the quotes: a quote inside a quoted field is written twice ("")'


def _stated(delimiter: str) -> str:
    named = {name: sign for sign, name in _DELIMITERS.items()} | {r"\t": "\t"}
    sign = named.get(delimiter.lower(), delimiter)
    if len(sign) != 1 or sign in '"\r\n ':
        raise DataError(
            f"delimiter {delimiter!r} is not allowed; state one character, or comma, semicolon, tab or pipe"
        )
    return sign


def _found(text: str, source: str, known: frozenset[str], suffix: str) -> str:
    """The delimiter under which the header holds most known names, or else under which the rows are most alike."""
    if _BY_SPACES.match(text):
        return _SPACE
    read = {sign: _sample(text, sign) for sign in _DELIMITERS}
    samples = {sign: rows[header_place(rows, known) :] for sign, rows in read.items()}
    hits = {sign: known_in(rows[0], known) for sign, rows in samples.items()}
    most = max(hits.values())
    best = [sign for sign, hit_count in hits.items() if hit_count == most]
    if len(best) == 1:
        return best[0]
    usual = "\t" if suffix in {".tsv", ".tab"} else ","
    alike = {sign: _alike(samples[sign]) for sign in best}
    top = max(alike.values())
    chosen = [sign for sign in best if alike[sign] == top]
    if len(chosen) == 1 or top == 0.0:
        return chosen[0] if len(chosen) == 1 else usual
    if most == 0 and usual in chosen:
        return usual
    named = " or ".join(_DELIMITERS[sign] for sign in chosen)
    header = chosen[0].join(samples[chosen[0]][0])
    raise DataError(
        f"{source}: the header {offered([header])} can be cut at more than one delimiter; state which: "
        f"--delimiter {named}"
    )


def _sample(text: str, delimiter: str) -> list[list[str]]:
    rows = csv.reader(io.StringIO(text[:_SAMPLE_CHARACTERS], newline=""), delimiter=delimiter, skipinitialspace=True)
    sample: list[list[str]] = []
    try:
        for row in rows:
            if any(field.strip() for field in row):
                sample.append(row)
            if len(sample) == _SAMPLE_ROWS:
                break
    except csv.Error:
        pass  # the reading itself will tell
    return sample or [[""]]


def _alike(rows: list[list[str]]) -> float:
    """The share of rows as wide as the header, where that is wider than one column."""
    width = len(rows[0])
    if width < 2:
        return 0.0
    return sum(len(row) == width for row in rows) / len(rows)
