"""Rows out of a body that is longer than memory: one JSON object a line, or a CSV with a header."""

import codecs
import csv
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from perennial.continual.errors import DataError

__all__ = ["CSV", "NDJSON", "Record", "records_of"]

NDJSON, CSV = "application/x-ndjson", "text/csv"
Record = dict[str, Any] | str  # a row, or why it is none
_MOST_CHARACTERS = 1_000_000  # of one record
_OPENS = re.compile(r'(?:^|,)"')  # elsewhere in a cell a quote is a character like others
_CLOSES = re.compile(r'(?:[^"]++|"")*+"')


async def records_of(parts: AsyncIterator[bytes], kind: str) -> AsyncIterator[Record]:
    """The records of a body, in order; of one that cannot be read, the cause.

    Raises:
        DataError: the body is not UTF-8, a record is too long, or a CSV names no columns.
    """
    header: list[str] = []
    async for line in _lines(parts, quoted=kind == CSV):
        if not line.strip():
            continue
        if kind == NDJSON:
            yield _object(line)
        elif not header:
            header = _header(line)
        else:
            yield _row(header, line)


async def _lines(parts: AsyncIterator[bytes], *, quoted: bool) -> AsyncIterator[str]:
    """Whole records: where quotes count, a line that is open within quotes goes on in the next one."""
    decoder, rest = codecs.getincrementaldecoder("utf-8-sig")(), ""
    lines, size, is_open = list[str](), 0, False
    async for part in parts:
        *whole, rest = (rest + _decoded(decoder, part)).split("\n")
        for line in whole:
            lines.append(line)
            size += len(line) + 1
            is_open = quoted and _is_open_behind(line, is_open)
            if not is_open:
                yield "\n".join(lines)
                lines, size = [], 0
        if size + len(rest) > _MOST_CHARACTERS:
            raise DataError(f"a record has over {_MOST_CHARACTERS} characters; is each on a line of its own?")
    yield "\n".join([*lines, rest + _decoded(decoder, b"", final=True)])


def _is_open_behind(line: str, is_open: bool) -> bool:
    """Whether a line of a CSV ends within quotes, by whether it began there."""
    at = 0
    while (found := _CLOSES.match(line, at) if is_open else _OPENS.search(line, at)) is not None:
        at, is_open = found.end(), not is_open
    return is_open


def _decoded(decoder: codecs.IncrementalDecoder, part: bytes, *, final: bool = False) -> str:
    try:
        return decoder.decode(part, final)
    except UnicodeDecodeError as exc:
        raise DataError("the body is not UTF-8; encode it so") from exc


def _object(line: str) -> Record:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "the line is no JSON"
    return row if isinstance(row, dict) else "the line is no JSON object"


def _header(line: str) -> list[str]:
    try:
        names = [name.strip() for name in _cells(line)]
    except csv.Error as exc:
        raise DataError(f"the first line is no CSV ({exc}); it names the columns") from exc
    if not all(names) or len(set(names)) != len(names):
        raise DataError(f"the first line names the columns {names[:10]}; each needs a name of its own")
    return names


def _row(header: list[str], line: str) -> Record:
    try:
        cells = _cells(line)
    except csv.Error as exc:  # of a lone carriage return, and of a cell that is too long
        return f"the row is no CSV: {exc}"
    if len(cells) != len(header):
        return f"the row has {len(cells)} cells, and there are {len(header)} columns"
    return {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}


def _cells(line: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r")]), [])
