"""What clients send, read and checked."""

import os
from dataclasses import dataclass
from typing import Any

from continual.errors import DataError

__all__ = ["Question", "decode_rows", "prediction_id"]


@dataclass(frozen=True, slots=True)
class Question:
    """One text to be answered; an empty key is none. What is not `logged` is a probe."""

    text: str
    key: str = ""
    logged: bool = True


def prediction_id(now_us: int) -> str:
    """32 hex digits that sort by time: 48 bits of milliseconds, then 80 random bits."""
    return f"{now_us // 1000:012x}{os.urandom(10).hex()}"


def decode_rows(texts: Any, keys: Any | None, max_key_bytes: int, *, logged: bool = True) -> list[Question]:
    """The questions of one request, out of its `TEXT` and `KEY` values (bytes, in row order).

    Raises:
        DataError: a value is not UTF-8 or a key is too long; the message names the row and the byte.
    """
    questions = []
    for row, raw in enumerate(texts):
        text, key = _decode("TEXT", row, raw), ""
        if keys is not None:
            if len(keys[row]) > max_key_bytes:
                raise DataError(
                    f"KEY of row {row} has {len(keys[row])} bytes (limit {max_key_bytes}); send a shorter id"
                )
            key = _decode("KEY", row, keys[row])
        questions.append(Question(text, key, logged))
    return questions


def _decode(name: str, row: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise DataError(
            f"{name} of row {row} is not UTF-8: byte 0x{raw[exc.start]:02x} at offset {exc.start}; encode it as UTF-8"
        ) from exc
