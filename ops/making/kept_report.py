"""Reports that were kept as JSON: read as what they are, or not at all."""

from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from perennial.continual.errors import DataError

__all__ = ["kept_report"]

Report = TypeVar("Report")


def kept_report(path: Path, kind: type[Report]) -> Report | None:
    """The record in a file; None where there is none, or it is damaged, or another release wrote it otherwise.

    Every field is of its declared type, so that whoever shows the report meets no surprise.
    """
    try:
        read: Report = _reader(cast("Any", kind)).validate_json(path.read_bytes())
    except (OSError, ValueError, DataError):
        return None
    return read


@cache
def _reader(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
