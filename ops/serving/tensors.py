"""Strings and columns as Triton's tensors, and back."""

import codecs
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perennial.continual.errors import DataError
from perennial.exporters.signature import Array

__all__ = ["column", "decoded", "one_a_row", "read_json", "wide"]


def column(values: Sequence[Any], kind: Any) -> Array:
    """One value a row (rows, 1)."""
    return np.array(values, dtype=kind).reshape(-1, 1)


def one_a_row(tensors: Mapping[str, Array], name: str, rows: int) -> Sequence[bytes]:
    """An optional input's values; nothing a row where the request has no such tensor.

    Raises:
        DataError: it has another number of rows.
    """
    if name not in tensors:
        return [b""] * rows
    values = tensors[name].reshape(-1)
    if len(values) != rows:
        raise DataError(f"the input {name} has {len(values)} rows of {rows}; send one a row, or none")
    return list(values)


def wide(rows: Sequence[Sequence[Any]], nothing: Any, kind: Any, *, width: int | None = None) -> Array:
    """Rows of different lengths (rows, width), by default as wide as the longest; missing places hold `nothing`."""
    made = np.full((len(rows), width or max(1, *map(len, rows))), nothing, dtype=kind)
    for number, row in enumerate(rows):
        made[number, : len(row)] = row
    return made


def decoded(name: str, row: int, raw: bytes, *, whole: bool = True) -> str:
    """The text of UTF-8 bytes; without `whole` a last character that was cut in two is left out.

    Raises:
        DataError: it is not UTF-8; the message names the row and the byte.
    """
    try:
        return codecs.utf_8_decode(raw, "strict", whole)[0]
    except UnicodeDecodeError as exc:
        raise DataError(
            f"{name} of row {row} is not UTF-8: byte 0x{raw[exc.start]:02x} at offset {exc.start}; encode it as UTF-8"
        ) from exc


def read_json(name: str, row: int, raw: bytes, *, most: int, fewer: str, send: str) -> Any:
    """What a row's JSON says.

    Args:
        name: of the tensor.
        row: of the request.
        raw: the value.
        most: bytes.
        fewer: what a caller of too many bytes should do.
        send: what a caller of no JSON should send.

    Raises:
        DataError: it is too long, not UTF-8 or not JSON; the message names the row.
    """
    if len(raw) > most:
        raise DataError(f"{name} of row {row} has {len(raw)} bytes (limit {most}); {fewer}")
    try:
        return json.loads(decoded(name, row, raw))
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{name} of row {row} is not JSON ({exc}); send {send}") from exc
