"""What one row of the traffic log is, and how columns become an Arrow batch."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perennial.continual.errors import DataError
from perennial.continual.preparation.personal import PLACEHOLDERS
from perennial.ops.prediction_ids import ID_DIGITS, id_time_us

__all__ = ["COLUMNS", "completed", "conform", "in_order", "schema", "span_us", "to_batch"]

COLUMNS: Mapping[str, pa.DataType] = {
    "prediction_id": pa.string(),
    "at": pa.timestamp("us", tz="UTC"),
    "text": pa.string(),
    "key": pa.string(),
    "label": pa.string(),
    "confidence": pa.float32(),
    "margin": pa.float32(),
    "entropy": pa.float32(),
    "version": pa.int64(),
    "arm": pa.string(),
    "tokens": pa.int32(),
    "latency_ms": pa.float32(),
    "redacted": pa.bool_(),
}
_MAY_BE_NULL = frozenset({"key", "embedding"})


@lru_cache(maxsize=64)
def schema(dimension: int | None = None) -> pa.Schema:
    """The columns of the log; `embedding` holds `dimension` half floats, or nothing but nulls when that is None."""
    embedding = pa.null() if dimension is None else pa.list_(pa.float16(), dimension)
    fields = [pa.field(name, kind, nullable=name in _MAY_BE_NULL) for name, kind in COLUMNS.items()]
    return pa.schema([*fields, pa.field("embedding", embedding)])


def to_batch(columns: Mapping[str, Any], dimension: int | None) -> pa.RecordBatch:
    """One record batch of the given columns; rows without embeddings get nulls of the given dimension.

    Raises:
        DataError: a column is missing, unknown, of another length or type, has a null where none may be, `at` has no
            time zone, or a prediction id doesn't start with its time.
    """
    unknown = sorted(set(columns) - set(COLUMNS) - {"embedding"})
    missing = sorted(set(COLUMNS) - set(columns))
    if unknown or missing:
        raise DataError(f"traffic rows lack {missing} and have the unknown {unknown}; give {[*COLUMNS, 'embedding']}")
    rows = len(columns["prediction_id"])
    arrays = [_column(name, columns[name], rows) for name in COLUMNS]
    for value in arrays[0].to_pylist():
        if id_time_us(value) is None:
            raise DataError(
                f"prediction id {value!r} doesn't start with {ID_DIGITS} hex digits of the unix time in milliseconds"
            )
    embedding = _embedding(columns.get("embedding"), rows, dimension)
    width = None if pa.types.is_null(embedding.type) else embedding.type.list_size
    return pa.RecordBatch.from_arrays([*arrays, embedding], schema=schema(width))


def _column(name: str, values: Sequence[Any], rows: int) -> pa.Array:
    if len(values) != rows:
        raise DataError(f"traffic column {name!r} has {len(values)} values for {rows} prediction ids")
    if name == "at" and any(isinstance(value, datetime) and value.tzinfo is None for value in values):
        raise DataError("traffic column 'at' has a time without a time zone; give UTC, e.g. datetime.now(UTC)")
    try:
        array = pa.array(values, type=COLUMNS[name])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
        raise DataError(f"traffic column {name!r} doesn't hold {COLUMNS[name]}: {exc}") from exc
    if array.null_count and name not in _MAY_BE_NULL:
        raise DataError(f"traffic column {name!r} has {array.null_count} nulls of {rows} rows; only keys may be null")
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


def completed(table: pa.Table, text: pa.ChunkedArray | None = None) -> pa.Table:
    """The table with `redacted`, which files from before that column lack; the texts are taken from it or from `text`.

    Whether such an old text was changed can only be told by its placeholders. A caller who wrote one himself counts as
    redacted, which costs evidence and never shows data.
    """
    if "redacted" in table.column_names:
        return table
    texts = table["text"] if text is None else text
    told = reduce(pc.or_, (pc.match_substring(texts, placeholder) for placeholder in PLACEHOLDERS))
    place = table.column_names.index("embedding") if "embedding" in table.column_names else table.num_columns
    return table.add_column(place, schema().field("redacted"), told)


def conform(tables: Sequence[pa.Table], names: Sequence[str]) -> pa.Table:
    """One table of all rows, with the columns in the order of `names`.

    Rows whose embedding has another dimension than those of the last table that has any get a null there.
    """
    widths = [width for table in tables if (width := _width(table)) is not None]
    target = schema(widths[-1] if widths else None)
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
