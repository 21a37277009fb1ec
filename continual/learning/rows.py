"""Labelled rows in files, as they pass between the ledger and a training process."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DataError
from perennial.continual.preparation import clean
from perennial.continual.records import Example, Origin
from perennial.continual.task import AnyRow, AnyTask
from perennial.continual.tasks import task_named

__all__ = ["read_rows", "read_task_rows", "write_rows"]


def read_rows(path: Path | None) -> list[Example]:
    """The rows of a JSON-lines (`.jsonl`, `.json`) or Parquet file; none for None.

    A row has `text`, `label`, `at` (ISO 8601 with a zone) and optionally `origin`, `key`, `prediction_id`, `redacted`.
    Texts are cleaned, as they are before they are served.

    Raises:
        DataError: the file is missing, or a row is wrong; it names the row.
    """
    if path is None:
        return []
    if not path.is_file():
        raise DataError(f"rows file {path} does not exist; write it before the job starts")
    raw = _parquet(path) if path.suffix == ".parquet" else _json_lines(path)
    return [_example(path, number, row) for number, row in raw]


def write_rows(path: Path, rows: Iterable[AnyRow], task: AnyTask | None = None) -> None:
    """Writes a task's rows, labelled texts without one, as JSON lines; whole or not at all."""
    written = (task or task_named()).write_row
    lines = [json.dumps(written(row), ensure_ascii=False) for row in rows]
    write_atomically(path, "".join(f"{line}\n" for line in lines))


def read_task_rows(path: Path | None, task: AnyTask, *, now: datetime) -> list[AnyRow]:
    """The rows that `write_rows` left, by the rule of their task; none for None.

    Raises:
        DataError: the file is missing, or a row is wrong; it names the row.
    """
    if path is None:
        return []
    if not path.is_file():
        raise DataError(f"rows file {path} does not exist; write it before the job starts")
    return [_of_task(path, number, row, task, now) for number, row in _json_lines(path)]


def _of_task(path: Path, number: int, row: dict[str, Any], task: AnyTask, now: datetime) -> AnyRow:
    try:
        return task.read_row(row, now=now)
    except DataError as error:
        raise DataError(f"{path} row {number}: {error}") from error


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path} line {number} is not JSON ({error}); write one object a line") from error
            if not isinstance(row, dict):
                raise DataError(f"{path} line {number} is {type(row).__name__}; write one object a line")
            yield number, row


def _parquet(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        rows = pq.read_table(path).to_pylist()
    except ArrowException as error:
        raise DataError(f"{path} is not a Parquet file ({error}); write it again") from error
    return enumerate(rows, start=1)


def _example(path: Path, number: int, row: dict[str, Any]) -> Example:
    try:
        at = row["at"]
        return Example(
            text=clean(row["text"]),
            label=row["label"],
            at=at if isinstance(at, datetime) else datetime.fromisoformat(at),
            origin=Origin(row.get("origin") or Origin.SEED),
            key=row.get("key"),
            prediction_id=row.get("prediction_id"),
            redacted=bool(row.get("redacted")),
        )
    except KeyError as error:
        raise DataError(f"{path} row {number} has no {error}; it needs text, label and at") from error
    except (ValueError, TypeError, DataError) as error:
        raise DataError(f"{path} row {number}: {error}") from error
