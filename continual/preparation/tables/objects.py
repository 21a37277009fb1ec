"""Rows of JSON: a list of objects, an object of columns or of rows, what pandas writes, or one object a line."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perennial.continual.errors import DataError
from perennial.continual.preparation.tables.cells import WrongCell, as_text
from perennial.continual.preparation.tables.columns import Role, known_names, roles_of
from perennial.continual.preparation.tables.table import MOST_ROWS, Table, TableRow, offered, quoted

__all__ = ["looks_like_json", "read_json", "row_of"]

_MOST_COLUMNS = 10_000
_WANTED = 'a list of objects such as [{"text": "...", "label": "..."}], or one object a line'


class _TwiceNamed(ValueError):
    """An object holds one name twice."""


def looks_like_json(text: str) -> bool:
    """Whether the text can only be meant as JSON.

    >>> looks_like_json(' {"text": "a"}'), looks_like_json("[]"), looks_like_json("text,label")
    (True, True, False)
    """
    begin = text[:4096].lstrip()
    return begin.startswith(("{", "[")) and begin[1:].lstrip()[:1] in {'"', "{", "}", "[", "]", ""}


def read_json(text: str, source: str, roles: Sequence[Role], *, stated: Mapping[str, str]) -> Table:
    """The rows of a JSON or JSON Lines text.

    Raises:
        DataError: it is neither, or its objects are no rows.
    """
    try:
        whole = _parsed(text)
    except ValueError as error:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data" and len(lines) > 1:
            return _from_lines(lines, source, roles, stated)
        raise _not_json(source, error) from error
    is_line = "\n" not in text.strip()
    if isinstance(whole, dict) and is_line and not (_lists_of(whole) or _is_columns(whole) or _is_named(whole)):
        return _table([(1, whole, None)], source, roles, stated, "line")
    rows = _rows(whole, source, known_names(roles, stated))
    return _table(((place, row, None) for place, row in enumerate(rows, start=1)), source, roles, stated, "row")


def row_of(line: int, values: Mapping[str, object], named: Mapping[str, str]) -> TableRow:
    """A row by role, of values by column."""
    fields: dict[str, str] = {}
    for role, column in named.items():
        if column not in values:
            continue
        try:
            fields[role] = as_text(values[column])
        except WrongCell as wrong:
            problem = f"column {quoted(column)} holds {wrong}; it must hold text"
            return TableRow(line=line, fields=fields, width=len(values), problem=problem)
    return TableRow(line=line, fields=fields, width=len(values))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceNamed(f"an object names {quoted(twice)} twice; rename one")
    return fields


def _from_lines(
    lines: Sequence[tuple[int, str]], source: str, roles: Sequence[Role], stated: Mapping[str, str]
) -> Table:
    return _table((_line(number, line) for number, line in lines), source, roles, stated, "line")


def _line(number: int, line: str) -> tuple[int, Mapping[str, Any], str | None]:
    try:
        row = _parsed(line)
    except ValueError as error:
        return number, {}, f"is no JSON object ({_cause(error)}); write one object a line"
    if isinstance(row, dict):
        return number, row, None
    return number, {}, f"is {_kind(row)}; write one JSON object a line"


def _rows(whole: Any, source: str, known: frozenset[str]) -> Sequence[Mapping[str, Any]]:
    """The objects of a document: its list, its only list of objects, or its columns turned into rows.

    pandas writes rows or columns under names of their own, and columns' names apart from the rows (`orient`).
    """
    rows = whole
    if isinstance(whole, dict):
        lists = _lists_of(whole)
        if len(lists) == 1:
            rows = lists[0]
        elif _is_split(whole):
            rows = _from_split(whole, source)
        elif _is_named(whole) and _names_columns(whole, known):
            rows = _from_named_columns(whole)
        elif _is_named(whole):
            rows = list(whole.values())
        elif _is_columns(whole):
            lengths = {len(column) for column in whole.values()}
            if len(lengths) > 1:
                raise DataError(f"{source}: its columns have {sorted(lengths)} values; all must have as many")
            rows = [dict(zip(whole, values, strict=True)) for values in zip(*whole.values(), strict=True)]
        else:
            raise DataError(f"{source} is an object with {offered(list(whole))}; it must be {_WANTED}")
    if not isinstance(rows, list):
        raise DataError(f"{source} is {_kind(rows)}; it must be {_WANTED}")
    for place, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{source} row {place} is {_kind(row)}; each must be an object with text and label")
    return rows


def _is_columns(whole: Mapping[str, Any]) -> bool:
    return bool(whole) and all(isinstance(column, list) for column in whole.values())


def _is_named(whole: Mapping[str, Any]) -> bool:
    """Whether every value is an object: a row under its name, or a column of values under the names of rows."""
    return bool(whole) and all(isinstance(value, dict) and value for value in whole.values())


def _names_columns(whole: Mapping[str, Mapping[str, Any]], known: frozenset[str]) -> bool:
    """Whether the outer names are those of columns: known ones, or others over the numbers of rows."""
    if known & {name.casefold() for name in whole}:
        return True
    inner = next(iter(whole.values())).keys()
    numbers_rows = all(name.isdecimal() for name in inner) and not known & inner
    return (
        numbers_rows
        and not all(name.isdecimal() for name in whole)
        and all(values.keys() == inner for values in whole.values())
    )


def _from_named_columns(whole: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = dict.fromkeys(name for column in whole.values() for name in column)
    return [{column: values[name] for column, values in whole.items() if name in values} for name in rows]


def _is_split(whole: Mapping[str, Any]) -> bool:
    """Whether the columns are named beside the rows, which are lists."""
    columns, rows = whole.get("columns"), whole.get("data")
    return (
        isinstance(columns, list)
        and all(isinstance(name, str) for name in columns)
        and isinstance(rows, list)
        and all(isinstance(row, list) for row in rows)
    )


def _from_split(whole: Mapping[str, Any], source: str) -> list[dict[str, Any]]:
    columns, rows = whole["columns"], whole["data"]
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"{source}: column {quoted(twice)} appears more than once in {offered(columns)}; rename one")
    for place, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise DataError(
                f"{source} row {place} has {len(row)} values, and there are {len(columns)} columns; give each"
            )
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _lists_of(whole: Mapping[str, Any]) -> list[list[Any]]:
    """The values that are lists of objects."""
    return [value for value in whole.values() if isinstance(value, list) and value and isinstance(value[0], dict)]


def _table(
    rows: Iterable[tuple[int, Mapping[str, Any], str | None]],
    source: str,
    roles: Sequence[Role],
    stated: Mapping[str, str],
    unit: str,
) -> Table:
    kept: list[tuple[int, Mapping[str, Any], str | None]] = []
    columns: dict[str, None] = {}
    for row in rows:
        if len(kept) == MOST_ROWS:
            raise DataError(f"{source} has more than {MOST_ROWS:,} rows; give them in smaller files")
        kept.append(row)
        columns.update(dict.fromkeys(row[1]))
        if len(columns) > _MOST_COLUMNS:
            raise DataError(f"{source}: its objects have more than {_MOST_COLUMNS:,} different names; {_WANTED}")
    if not kept:
        raise DataError(f"{source} holds no rows; it must be {_WANTED}")
    if not columns:
        raise DataError(f"{source} {unit} {kept[0][0]} {kept[0][2] or 'has no columns'}; it must be {_WANTED}")
    named = {role: tuple(columns)[place] for role, place in roles_of(source, tuple(columns), roles, stated).items()}
    return Table(
        source=source,
        columns=tuple(columns),
        named=named,
        rows=tuple(
            row_of(line, values, named) if problem is None else TableRow(line=line, fields={}, width=0, problem=problem)
            for line, values, problem in kept
        ),
        unit=unit,
    )


def _cause(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.colno}"
    return str(error)[:100]


def _not_json(source: str, error: ValueError) -> DataError:
    line = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
    return DataError(f"{source}{line} is not JSON: {_cause(error)}; it must be {_WANTED}")


def _kind(value: object) -> str:
    names = {
        list: "a list",
        dict: "an object",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)
