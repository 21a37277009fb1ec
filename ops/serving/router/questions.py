"""What clients send, read and checked."""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from perennial.continual.errors import DataError
from perennial.continual.preparation import admit_key
from perennial.exporters.contract import KEY
from perennial.exporters.signature import Array
from perennial.ops.serving.port import ServingSide
from perennial.ops.serving.tensors import decoded

__all__ = ["Question", "prediction_id", "read_questions"]


class Question(NamedTuple):
    """One input to be answered; an empty key is none. What is not `logged` is a probe.

    An answer after the `deadline`, on the monotonic clock, is worth nothing, and so is one whose caller is `gone`.
    """

    input: Any
    key: str = ""
    logged: bool = True
    deadline: float | None = None
    gone: Callable[[], bool] | None = None


def prediction_id(now_us: int) -> str:
    """32 hex digits that sort by time: 48 bits of milliseconds, then 80 random bits."""
    return f"{now_us // 1000:012x}{os.urandom(10).hex()}"


def read_questions(
    side: ServingSide,
    tensors: Mapping[str, Array],
    max_key_bytes: int,
    *,
    logged: bool = True,
    max_characters: int = 20_000,
    deadline: float | None = None,
    gone: Callable[[], bool] | None = None,
) -> list[Question]:
    """The questions of one request, out of its tensors; a key is kept by the rule of the entrance.

    Where the task's question says whose it is, that is its key; a probe keeps the one that is sent.

    Raises:
        DataError: a value breaks its rule, or there is not a key for each row; the message names the tensor and row.
    """
    inputs = side.questions(tensors, max_characters=max_characters)
    if KEY not in tensors:
        return [Question(task_input, side.caller(task_input), logged, deadline, gone) for task_input in inputs]
    keys = tensors[KEY].reshape(-1)
    if len(keys) != len(inputs):
        raise DataError(f"the input {KEY} has {len(keys)} rows of {len(inputs)}; send one key a row, or none")
    return [
        Question(
            task_input, (logged and side.caller(task_input)) or _key(row, raw, max_key_bytes), logged, deadline, gone
        )
        for row, (task_input, raw) in enumerate(zip(inputs, keys, strict=True))
    ]


def _key(row: int, raw: bytes, max_bytes: int) -> str:
    field = f"{KEY} of row {row}"
    if len(raw) > max_bytes:
        raise DataError(f"{field} has {len(raw)} bytes (limit {max_bytes}); send a shorter id")
    if raw.isascii() and (key := raw.decode("ascii")).isprintable():  # as most ids are: the rule in one step
        return key.strip()
    return admit_key(decoded(KEY, row, raw), field=field, most_bytes=max_bytes) or ""
