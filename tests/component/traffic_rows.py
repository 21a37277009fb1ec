"""Rows for the traffic log's tests, and the processes that write, compact and die."""

import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
REPOSITORY = Path(__file__).parents[2]


def at(second: float) -> datetime:
    """A moment, in seconds after the first."""
    return START + timedelta(seconds=second)


def row_id(second: float, number: int) -> str:
    """The id of a row asked 2 ms before it was logged."""
    return f"{int(at(second).timestamp() * 1000) - 2:012x}{number:020x}"


def columns(
    seconds: Sequence[float], *, first: int = 0, key: str | None = None, version: int = 1, dimension: int | None = 3
) -> dict[str, Any]:
    """Rows logged at these seconds; their numbers, from `first`, are in their ids, texts and embeddings."""
    numbers = range(first, first + len(seconds))
    rows = len(seconds)
    return {
        "prediction_id": [row_id(second, number) for second, number in zip(seconds, numbers, strict=True)],
        "at": [at(second) for second in seconds],
        "text": [f"text {number}" for number in numbers],
        "key": [key] * rows,
        "prediction": ["transfer"] * rows,
        "confidence": [0.75] * rows,
        "margin": [0.5] * rows,
        "entropy": [0.25] * rows,
        "version": [version] * rows,
        "arm": ["champion"] * rows,
        "tokens": [4] * rows,
        "known": [True] * rows,
        "latency_ms": [1.5] * rows,
        "redacted": [False] * rows,
        "embedding": None
        if dimension is None
        else np.array([[number % 1000] * dimension for number in numbers], dtype=np.float32),
    }


def numbers(table: Any) -> list[int]:
    """The numbers of the rows, in the table's order; a text that was damaged has none."""
    texts = table["text"].cast(pa.binary()).to_pylist()  # what is damaged need not be UTF-8
    return [int(found[1]) for found in (re.fullmatch(rb"text (\d+)", text or b"") for text in texts) if found]


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs the script from the repository's root."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
