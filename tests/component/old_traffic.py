"""Files of the traffic log in its first and second format, as earlier releases wrote them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perennial.ops.traffic.segment import process_start, sealed_name

FIRST_COLUMNS = {
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


def first_table(columns: Mapping[str, Any], *, with_redaction: bool = True) -> pa.Table:
    """Rows of today's columns in the first format; the very first files did not tell of redaction."""
    old = {**columns, "label": columns["prediction"]}
    names = [name for name in FIRST_COLUMNS if with_redaction or name != "redacted"]
    fields = [pa.field(name, FIRST_COLUMNS[name], nullable=name == "key") for name in names]
    arrays = [pa.array(old[field.name], field.type) for field in fields]
    embedding = old["embedding"]
    if embedding is None:
        arrays.append(pa.nulls(len(old["at"])))
    else:
        half = np.asarray(embedding, dtype=np.float16)
        arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(half.reshape(-1)), half.shape[1]))
    return pa.Table.from_arrays(arrays, schema=pa.schema([*fields, pa.field("embedding", arrays[-1].type)]))


def second_table(columns: Mapping[str, Any]) -> pa.Table:
    """Rows of today's columns in the second format, which told format and task, and not what is known."""
    first = first_table(columns)
    names = ["prediction" if name == "label" else name for name in first.column_names]
    return first.rename_columns(names).replace_schema_metadata(
        {"perennial.format": "2", "perennial.task": "text_classification"}
    )


def write_stream(folder: Path, table: pa.Table) -> Path:
    """A stream of this process in `folder`, named as a live one, or with its times where the folder is `sealed`."""
    first = table["prediction_id"][0].as_py()
    stem = f"old-{os.getpid()}-{process_start(os.getpid())}-1-{first[-6:]}"
    name = f"{stem}.arrows" if folder.name == "live" else _named(table, stem, ".arrows")
    folder.mkdir(parents=True, exist_ok=True)
    data = table.schema.serialize().to_pybytes()
    for batch in table.combine_chunks().to_batches():
        data += batch.serialize().to_pybytes()
    (folder / name).write_bytes(data)
    return folder / name


def write_parquet(folder: Path, table: pa.Table) -> Path:
    """A compacted file; embeddings are lists, and their length is told in the metadata."""
    column, metadata = table["embedding"].combine_chunks(), table.schema.metadata
    if not pa.types.is_null(column.type):
        metadata = {**(metadata or {}), b"perennial.dimension": str(column.type.list_size).encode()}
        offsets = pa.array(np.arange(len(column) + 1) * column.type.list_size, type=pa.int32())
        lists = pa.ListArray.from_arrays(offsets, column.flatten())
        table = table.set_column(table.column_names.index("embedding"), "embedding", lists)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _named(table, "0123456789ab", ".parquet")
    pq.write_table(
        table.replace_schema_metadata(metadata),
        path,
        row_group_size=5_000,
        compression="zstd",
        use_dictionary=["key", *({"label", "prediction"} & {*table.column_names}), "version", "arm", "tokens"],
        write_page_checksum=True,
    )
    return path


def _named(table: pa.Table, stem: str, suffix: str) -> str:
    moments = [int(moment.timestamp() * 1e6) for moment in table["at"].to_pylist()]
    return sealed_name(min(moments) - 2_000, max(moments), stem, suffix)
