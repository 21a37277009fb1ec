"""What clients send, read and checked."""

import codecs
import os
from dataclasses import dataclass
from typing import Any

from perennial.continual.errors import DataError
from perennial.continual.preparation import admit_key
from perennial.exporters.contract import KEY, TEXT

__all__ = ["Question", "decode_rows", "prediction_id"]

_LONGEST_CHARACTER = 4  # bytes in UTF-8


@dataclass(frozen=True, slots=True)
class Question:
    """One text to be answered; an empty key is none. What is not `logged` is a probe.

    An answer after the `deadline`, on the monotonic clock, is worth nothing.
    """

    text: str
    key: str = ""
    logged: bool = True
    deadline: float | None = None


def prediction_id(now_us: int) -> str:
    """32 hex digits that sort by time: 48 bits of milliseconds, then 80 random bits."""
    return f"{now_us // 1000:012x}{os.urandom(10).hex()}"


def decode_rows(
    texts: Any,
    keys: Any | None,
    max_key_bytes: int,
    *,
    logged: bool = True,
    max_characters: int = 20_000,
    deadline: float | None = None,
) -> list[Question]:
    """The questions of one request, out of its `TEXT` and `KEY` values (bytes, in row order).

    A text is answered as it came, cut after `max_characters`, and a key is kept by the rule of the entrance. The bytes
    are cut first, so that a text of a megabyte costs no more than one that fits.

    Raises:
        DataError: a value is not UTF-8 or a key breaks its rule; the message names the row and the byte.
    """
    questions = []
    for row, raw in enumerate(texts):
        cut = raw[: _LONGEST_CHARACTER * max_characters]
        text = _decode(TEXT, row, cut, whole=len(cut) == len(raw))[:max_characters]
        key = "" if keys is None else _key(row, keys[row], max_key_bytes)
        questions.append(Question(text, key, logged, deadline))
    return questions


def _key(row: int, raw: bytes, max_bytes: int) -> str:
    field = f"{KEY} of row {row}"
    if len(raw) > max_bytes:
        raise DataError(f"{field} has {len(raw)} bytes (limit {max_bytes}); send a shorter id")
    if raw.isascii() and (key := raw.decode("ascii")).isprintable():  # as most ids are: the rule in one step
        return key.strip()
    return admit_key(_decode(KEY, row, raw, whole=True), field=field, most_bytes=max_bytes) or ""


def _decode(name: str, row: int, raw: bytes, *, whole: bool) -> str:
    """The text of UTF-8 bytes; without `whole` a last character that was cut in two is left out."""
    try:
        return codecs.utf_8_decode(raw, "strict", whole)[0]
    except UnicodeDecodeError as exc:
        raise DataError(
            f"{name} of row {row} is not UTF-8: byte 0x{raw[exc.start]:02x} at offset {exc.start}; encode it as UTF-8"
        ) from exc
