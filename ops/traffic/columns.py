"""What one row of the traffic log is, and how columns become an Arrow batch.

A row has the same fixed columns in every log, and those that the model's task declares.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
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

__all__ = ["FIXED_COLUMNS", "columns_of", "conform", "in_order", "schema", "span_of", "span_us", "to_batch", "width_of"]

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
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
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
    arrays = _together(columns, task, rows) or [
        _column(name, columns[name], kind, rows) for name, kind in known.items()
    ]
    for value in arrays[0].to_pylist():
        if id_time_us(value) is None:
            raise DataError(
                f"prediction id {value!r} doesn't start with {ID_DIGITS} hex digits of the unix time in milliseconds"
            )
    embedding = _embedding(columns.get("embedding"), rows, dimension)
    width = None if pa.types.is_null(embedding.type) else embedding.type.list_size
    return pa.RecordBatch.from_arrays([*arrays, embedding], schema=schema(width, task))


def _together(columns: Mapping[str, Any], task: str, rows: int) -> list[pa.Array] | None:
    """All columns but `embedding`, made at once; None where one of them has to be named for what it is."""
    known = columns_of(task)
    values = [columns[name] for name in known]
    if any(len(each) != rows for each in values) or not all(getattr(at, "tzinfo", None) for at in columns["at"]):
        return None
    try:
        arrays: list[pa.Array] = pa.array(list(zip(*values, strict=True)), type=_row_type(task)).flatten()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    lacking = any(array.null_count for name, array in zip(known, arrays, strict=True) if name not in _MAY_BE_NULL)
    return None if lacking else arrays


@lru_cache(maxsize=64)
def _row_type(task: str) -> pa.DataType:
    return pa.struct(list(columns_of(task).items()))


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
    return _span(times["min"].value, times["max"].value, ids["min"], ids["max"])


def span_of(columns: Mapping[str, Any]) -> tuple[int, int]:
    """`span_us` of columns that made a batch: of few rows it is cheaper to tell there."""
    times, ids = columns["at"], columns["prediction_id"]
    first, last = ((at - _EPOCH) // _MICROSECOND for at in (min(times), max(times)))
    return _span(first, last, min(ids), max(ids))


def _span(first_us: int, last_us: int, first_id: str, last_id: str) -> tuple[int, int]:
    moments = [first_us, last_us, id_time_us(first_id) or 0, id_time_us(last_id) or 0]
    return max(0, min(moments)), max(0, *moments)


def conform(tables: Sequence[pa.Table], names: Sequence[str], task: str = DEFAULT_TASK) -> pa.Table:
    """One table of all rows of a task's log, with the columns in the order of `names`.

    Rows whose embedding has another dimension than those of the last table that has any get a null there.
    """
    widths = [width for table in tables if (width := width_of(table.schema)) is not None]
    target = schema(widths[-1] if widths else None, task)
    wanted = pa.schema([target.field(name) for name in names])
    fitting = [wanted.empty_table()]
    for table in tables:
        fit = table.select(wanted.names)
        if "embedding" in names and width_of(table.schema) != (widths[-1] if widths else None):
            nulls = pa.nulls(fit.num_rows, target.field("embedding").type)
            fit = fit.set_column(names.index("embedding"), target.field("embedding"), nulls)
        fitting.append(fit.cast(wanted))
    return pa.concat_tables(fitting)


def in_order(table: pa.Table) -> pa.Table:
    """The rows sorted by (at, prediction_id)."""
    whole = table.combine_chunks()  # taking rows of many chunks is slow in pyarrow 25
    return whole.take(pc.sort_indices(whole, [("at", "ascending"), ("prediction_id", "ascending")]))


def width_of(rows: pa.Schema) -> int | None:
    """The dimension of the embeddings in rows of this schema, None where it has none."""
    place = rows.get_field_index("embedding")
    kind = None if place < 0 else rows.field(place).type
    return None if kind is None or pa.types.is_null(kind) else int(kind.list_size)
