"""Rows of a Parquet file."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perennial.continual.errors import DataError
from perennial.continual.preparation.tables.columns import Role, roles_of
from perennial.continual.preparation.tables.content import within_bounds
from perennial.continual.preparation.tables.objects import row_of
from perennial.continual.preparation.tables.table import MOST_ROWS, Table

__all__ = ["PARQUET", "read_parquet"]

PARQUET = b"PAR1"
_BATCH_ROWS = 10_000
_NO_CLASS = -1  # as the hub's data sets number rows without a label


def read_parquet(data: bytes, source: str, roles: Sequence[Role], *, stated: Mapping[str, str]) -> Table:
    """The rows of a Parquet file; of its columns only those that play a role are read.

    Class numbers become names where the file says them, as data sets from the Hugging Face hub do; -1 is no class.

    Raises:
        DataError: it is damaged, too large, a column is ambiguous, or a class number has no name.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(io.BytesIO(data))
        columns = tuple(file.schema_arrow.names)
        named = {role: columns[place] for role, place in roles_of(source, columns, roles, stated).items()}
        if file.metadata.num_rows > MOST_ROWS:
            raise DataError(
                f"{source} has {file.metadata.num_rows:,} rows; at most {MOST_ROWS:,} are read from one file"
            )
        wanted = list(dict.fromkeys(named.values()))
        file = parquet.ParquetFile(io.BytesIO(data), read_dictionary=_texts(file.schema_arrow, wanted))
        rows = list(_rows(file, wanted, len(data), source)) if wanted else []
        names = _class_names(file.schema_arrow.metadata or {})
    except (pa.ArrowException, OSError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError) as error:
        raise DataError(f"{source} is a damaged Parquet file ({str(error)[:100]}); write it again") from error
    kept = [
        {name: _named(value, names.get(name), f"{source} row {place}") for name, value in row.items()}
        for place, row in enumerate(rows, start=1)
    ]
    return Table(
        source=source,
        columns=columns,
        named=named,
        rows=tuple(row_of(place, row, named) for place, row in enumerate(kept, start=1)),
        unit="row",
    )


def _texts(schema: Any, wanted: Sequence[str]) -> list[str]:
    """The columns of texts: of each batch they come as a dictionary, so that one that repeats takes its room once."""
    import pyarrow as pa

    kinds = {name: schema.field(name).type for name in wanted}
    return [name for name, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind)]


def _rows(file: Any, wanted: Sequence[str], packed: int, source: str) -> Iterator[dict[str, object]]:
    held: dict[str, str] = {}  # every text once, in however many batches it comes
    size = 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(wanted)):
        values = []
        for column in batch.columns:
            if not hasattr(column, "dictionary"):
                size += column.nbytes
                within_bounds(source, packed, size)
                values.append(column.to_pylist())
                continue
            within_bounds(source, packed, column.dictionary.nbytes)  # of all batches so far
            words = _words(column)
            fresh = {word for word in words.values() if isinstance(word, str) and word not in held}
            held.update(zip(fresh, fresh, strict=True))
            size += column.indices.nbytes + sum(map(len, fresh))
            within_bounds(source, packed, size)
            words = {place: held[word] if isinstance(word, str) else word for place, word in words.items()}
            values.append([words[place] for place in column.indices.to_pylist()])
        yield from (dict(zip(batch.schema.names, row, strict=True)) for row in zip(*values, strict=True))


def _words(column: Any) -> dict[int | None, object]:
    """The words of a dictionary that this batch uses, by their places in it."""
    used = column.indices.unique()
    return dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, Sequence[str]]:
    """The names of class numbers by column, where the file's maker wrote them down."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            name: feature["names"]
            for name, feature in features.items()
            if isinstance(feature, dict)
            and feature.get("_type") == "ClassLabel"
            and isinstance(feature.get("names"), list)
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _named(value: object, names: Sequence[str] | None, where: str) -> object:
    if names is None or not isinstance(value, int):
        return value
    if value == _NO_CLASS:
        return None
    if not 0 <= value < len(names):
        raise DataError(f"{where} is of class {value}, and the file names {len(names)} from 0 on; write it again")
    return names[value]
