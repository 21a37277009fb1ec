"""Rows out of a body that is longer than memory: one JSON object a line, or a CSV with a header."""

import codecs
import csv
import json
from collections.abc import AsyncIterator
from typing import Any

from perennial.continual.errors import DataError

__all__ = ["CSV", "NDJSON", "Record", "records_of"]

NDJSON, CSV = "application/x-ndjson", "text/csv"
Record = dict[str, Any] | str  # a row, or why it is none
_MOST_CHARACTERS = 1_000_000  # of one record


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
            header = [name.strip() for name in _cells(line)]
            if not all(header) or len(set(header)) != len(header):
                raise DataError(f"the first line names the columns {header[:10]}; each needs a name of its own")
        else:
            yield _row(header, line)


async def _lines(parts: AsyncIterator[bytes], *, quoted: bool) -> AsyncIterator[str]:
    """Whole records: where quotes count, a line that is open within quotes goes on in the next one."""
    decoder, waiting = codecs.getincrementaldecoder("utf-8-sig")(), ""
    async for part in parts:
        *whole, waiting = (waiting + _decoded(decoder, part)).split("\n")
        held = ""
        for line in whole:
            held = f"{held}\n{line}" if held else line
            if not quoted or held.count('"') % 2 == 0:
                yield held
                held = ""
        if held:
            waiting = f"{held}\n{waiting}"
        if len(waiting) > _MOST_CHARACTERS:
            raise DataError(f"a record has over {_MOST_CHARACTERS} characters; is each on a line of its own?")
    yield waiting + _decoded(decoder, b"", final=True)


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


def _row(header: list[str], line: str) -> Record:
    cells = _cells(line)
    if len(cells) != len(header):
        return f"the row has {len(cells)} cells, and there are {len(header)} columns"
    return {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}


def _cells(line: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r")]), [])
