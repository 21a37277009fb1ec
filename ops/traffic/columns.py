"""What one row of the traffic log is, and how columns become an Arrow batch.

A row has the same fixed columns in every log, and those that the model's task declares.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perennial.continual.errors import DataError
from perennial.continual.task import ColumnKind
from perennial.continual.tasks import DEFAULT_TASK, task_named
from perennial.ops.prediction_ids import ID_DIGITS, id_time_us
from perennial.ops.traffic.formats import FileFormat

__all__ = ["FIXED_COLUMNS", "columns_of", "conform", "in_order", "schema", "span_us", "to_batch"]

FIXED_COLUMNS: Mapping[str, pa.DataType] = {
    "prediction_id": pa.string(),
    "at": pa.timestamp("us", tz="UTC"),
    "key": pa.string(),
    "version": pa.int64(),
    "arm": pa.string(),
    "latency_ms": pa.float32(),
    "redacted": pa.bool_(),
}
_TYPES = {
    ColumnKind.TEXT: pa.string(),
    ColumnKind.REAL: pa.float32(),
    ColumnKind.WHOLE: pa.int32(),
    ColumnKind.FLAG: pa.bool_(),
}
_MAY_BE_NULL = frozenset({"key", "known", "embedding"})


@lru_cache(maxsize=64)
def columns_of(task: str = DEFAULT_TASK) -> Mapping[str, pa.DataType]:
    """The columns of a task's log but for `embedding`, which is the last.

    Raises:
        ConfigurationError: there is no such task.
    """
    declared = {name: _TYPES[kind] for name, kind in task_named(task).log_columns.items()}
    return MappingProxyType({**FIXED_COLUMNS, **declared})


@lru_cache(maxsize=64)
def schema(dimension: int | None = None, task: str = DEFAULT_TASK) -> pa.Schema:
    """A file's columns; `embedding` holds `dimension` half floats, or nothing but nulls when that is None."""
    embedding = pa.null() if dimension is None else pa.list_(pa.float16(), dimension)
    fields = [pa.field(name, kind, nullable=name in _MAY_BE_NULL) for name, kind in columns_of(task).items()]
    return pa.schema([*fields, pa.field("embedding", embedding)], metadata=FileFormat(task=task).metadata)


def to_batch(columns: Mapping[str, Any], dimension: int | None, task: str = DEFAULT_TASK) -> pa.RecordBatch:
    """One record batch of the given columns; rows without embeddings get nulls of the given dimension.

    Raises:
        DataError: a column is missing, unknown, of another length or type, has a null where none may be, `at` has no
            time zone, or a prediction id doesn't start with its time.
    """
    known = columns_of(task)
    unknown = sorted(set(columns) - set(known) - {"embedding"})
    missing = sorted(set(known) - set(columns))
    if unknown or missing:
        raise DataError(f"traffic rows lack {missing} and have the unknown {unknown}; give {[*known, 'embedding']}")
    rows = len(columns["prediction_id"])
    arrays = [_column(name, columns[name], kind, rows) for name, kind in known.items()]
    for value in arrays[0].to_pylist():
        if id_time_us(value) is None:
            raise DataError(
                f"prediction id {value!r} doesn't start with {ID_DIGITS} hex digits of the unix time in milliseconds"
            )
    embedding = _embedding(columns.get("embedding"), rows, dimension)
    width = None if pa.types.is_null(embedding.type) else embedding.type.list_size
    return pa.RecordBatch.from_arrays([*arrays, embedding], schema=schema(width, task))


def _column(name: str, values: Sequence[Any], kind: pa.DataType, rows: int) -> pa.Array:
    if len(values) != rows:
        raise DataError(f"traffic column {name!r} has {len(values)} values for {rows} prediction ids")
    if name == "at" and any(isinstance(value, datetime) and value.tzinfo is None for value in values):
        raise DataError("traffic column 'at' has a time without a time zone; give UTC, e.g. datetime.now(UTC)")
    try:
        array = pa.array(values, type=kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
        raise DataError(f"traffic column {name!r} doesn't hold {kind}: {exc}") from exc
    if array.null_count and name not in _MAY_BE_NULL:
        raise DataError(f"traffic column {name!r} has {array.null_count} nulls of {rows} rows; give a value for each")
    return array


def _embedding(values: Any, rows: int, dimension: int | None) -> pa.Array:
    if values is None:
        return pa.nulls(rows, schema(dimension).field("embedding").type)
    matrix = np.asarray(values)
    if matrix.ndim != 2 or matrix.shape[0] != rows or matrix.shape[1] < 1:
        raise DataError(f"traffic column 'embedding' has shape {matrix.shape}; give ({rows}, dimension)")
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(matrix, dtype=np.float16)
    return pa.FixedSizeListArray.from_arrays(pa.array(half.reshape(-1)), matrix.shape[1])


def span_us(rows: pa.RecordBatch | pa.Table) -> tuple[int, int]:
    """First and last microsecond of the rows, counting both when they were logged and when their ids were made."""
    times = pc.min_max(rows["at"])
    ids = pc.min_max(rows["prediction_id"]).as_py()
    moments = [times["min"].value, times["max"].value, id_time_us(ids["min"]) or 0, id_time_us(ids["max"]) or 0]
    return max(0, min(moments)), max(0, *moments)


def conform(tables: Sequence[pa.Table], names: Sequence[str], task: str = DEFAULT_TASK) -> pa.Table:
    """One table of all rows of a task's log, with the columns in the order of `names`.

    Rows whose embedding has another dimension than those of the last table that has any get a null there.
    """
    widths = [width for table in tables if (width := _width(table)) is not None]
    target = schema(widths[-1] if widths else None, task)
    wanted = pa.schema([target.field(name) for name in names])
    fitting = [wanted.empty_table()]
    for table in tables:
        fit = table.select(wanted.names)
        if "embedding" in names and _width(table) != (widths[-1] if widths else None):
            nulls = pa.nulls(fit.num_rows, target.field("embedding").type)
            fit = fit.set_column(names.index("embedding"), target.field("embedding"), nulls)
        fitting.append(fit.cast(wanted))
    return pa.concat_tables(fitting)


def in_order(table: pa.Table) -> pa.Table:
    """The rows sorted by (at, prediction_id)."""
    whole = table.combine_chunks()  # taking rows of many chunks is slow in pyarrow 25
    return whole.take(pc.sort_indices(whole, [("at", "ascending"), ("prediction_id", "ascending")]))


def _width(table: pa.Table) -> int | None:
    """The dimension of a table's embeddings, None where it has none."""
    if "embedding" not in table.column_names or pa.types.is_null(table.schema.field("embedding").type):
        return None
    return int(table.schema.field("embedding").type.list_size)
