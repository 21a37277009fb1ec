"""One compacted file: which of its row groups matter, and its rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perennial.continual.atomic_file import written_whole
from perennial.continual.task import PREDICTION
from perennial.ops.traffic.columns import FIXED_COLUMNS, columns_of
from perennial.ops.traffic.formats import FileFormat
from perennial.ops.traffic.quarantine import DamagedFile, examined

__all__ = ["ParquetRows", "write_parquet"]

_GROUP_ROWS = 5_000
_REPEATED = ("key", "version", "arm", PREDICTION)  # a dictionary of embeddings makes reading four times as slow
_DIMENSION = b"perennial.dimension"


@dataclass(frozen=True, slots=True)
class ParquetRows:
    """A file's footer; rows are read when asked for. Files are sorted by (at, prediction_id)."""

    path: Path
    footer: pq.FileMetaData
    format: FileFormat

    @classmethod
    def of(cls, path: Path) -> "ParquetRows":
        """Read the footer.

        Raises:
            FileNotFoundError: the file was replaced or removed; DamagedFile: it is no file of ours.
            ConfigurationError: a later release wrote it.
        """
        with examined(path), pa.OSFile(str(path)) as source, pq.ParquetFile(source) as file:
            form, names = FileFormat.of(file.metadata.metadata), file.schema_arrow.names
            missing = [
                name
                for name in columns_of(form.task)
                if form.stored_name(name) not in names and not form.lacks(name, names)
            ]
            if missing:
                raise DamagedFile(path, f"it lacks the columns {missing}")
            return cls(path, file.metadata, form)

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self.footer.num_rows)

    @property
    def dimension(self) -> int | None:
        """Of the embeddings; None where no row has one."""
        dimension = (self.footer.metadata or {}).get(_DIMENSION)
        return None if dimension is None else int(dimension)

    def groups(self, *, since_us: int | None, until_us: int | None, version: int | None) -> list[int]:
        """The row groups that may hold rows of these times and this version, by their statistics."""
        with examined(self.path):
            return self._groups(since_us, until_us, version)

    def _groups(self, since_us: int | None, until_us: int | None, version: int | None) -> list[int]:
        kept = []
        for group in range(self.footer.num_row_groups):
            first, last = (_us(value) for value in self._bounds(group, "at"))
            low, high = self._bounds(group, "version")
            if (
                (since_us is None or last >= since_us)
                and (until_us is None or first < until_us)
                and (version is None or low <= version <= high)
            ):
                kept.append(group)
        return kept

    def read(self, groups: Sequence[int], names: Sequence[str]) -> pa.Table:
        """The rows of some groups.

        Raises:
            FileNotFoundError: the file was replaced or removed.
        """
        with examined(self.path), self._opened() as file:
            wanted = list(dict.fromkeys(names))
            lacking = {name for name in wanted if self.format.lacks(name, file.schema_arrow.names)}
            stored = [self.format.stored_name(name) for name in wanted if name not in lacking]
            if lacking:
                stored.append("text")  # which tells what is redacted, and how many rows there are
            rows = file.read_row_groups(list(groups), columns=list(dict.fromkeys(stored)))
            rows.validate(full=True)
            fixed = _fixed(self.format.updated(rows).select(wanted), self.dimension)
            kinds = columns_of(self.format.task)
            for field in fixed.schema:
                if not _is_ours(field, kinds):
                    raise DamagedFile(self.path, f"column {field.name} holds {field.type}")
            return fixed

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        with (
            pa.OSFile(str(self.path)) as source,
            pq.ParquetFile(source, metadata=self.footer, page_checksum_verification=True) as file,
        ):
            yield file

    def read_all(self) -> pa.Table:
        """All rows and columns."""
        return self.read(range(self.footer.num_row_groups), [*columns_of(self.format.task), "embedding"])

    def find(self, ids: pa.Array, names: Sequence[str]) -> pa.Table:
        """The rows with these prediction ids; a group's other columns are read only where it holds one."""
        tables = [self.read([], names)]
        for group in range(self.footer.num_row_groups):
            known = self.read([group], ["prediction_id"])["prediction_id"]
            mask = pc.is_in(known, ids)
            if pc.any(mask).as_py():
                tables.append(self.read([group], names).filter(mask))
        return pa.concat_tables(tables)

    def _bounds(self, group: int, name: str) -> tuple[Any, Any]:
        statistics = self.footer.row_group(group).column(self.footer.schema.names.index(name)).statistics
        return statistics.min, statistics.max


def _is_ours(field: pa.Field, kinds: Mapping[str, pa.DataType]) -> bool:
    if field.name == "embedding":
        return bool(pa.types.is_null(field.type) or pa.types.is_fixed_size_list(field.type))
    return bool(field.type == kinds[field.name])


def _us(moment: Any) -> int:
    return int(pa.scalar(moment, FIXED_COLUMNS["at"]).value)


def write_parquet(table: pa.Table, path: Path, *, task: str) -> None:
    """Write a sorted table of a task's log; the file is there whole or not at all, also after a power cut."""
    metadata = FileFormat(task=task).metadata
    with written_whole(path) as temporary:
        pq.write_table(
            _varying(table.replace_schema_metadata(metadata), metadata),
            temporary,
            row_group_size=_GROUP_ROWS,
            compression="zstd",
            use_dictionary=[*_REPEATED, *(name for name, kind in columns_of(task).items() if kind == pa.int32())],
            write_page_checksum=True,
        )


def _varying(table: pa.Table, metadata: Mapping[bytes, bytes]) -> pa.Table:
    """The table with embeddings as plain lists: pyarrow 25 can't read back a fixed-size list that has a null."""
    column = table["embedding"].combine_chunks()
    if pa.types.is_null(column.type):
        return table
    ends = np.cumsum(column.is_valid().to_numpy(zero_copy_only=False)) * column.type.list_size
    offsets = pa.array(np.concatenate([[0], ends]), type=pa.int32())
    missing = column.is_null() if column.null_count else None
    lists = pa.ListArray.from_arrays(offsets, column.flatten(), mask=missing)
    dimension = {_DIMENSION: str(column.type.list_size).encode()}
    changed = table.set_column(table.column_names.index("embedding"), "embedding", lists)
    return changed.replace_schema_metadata({**metadata, **dimension})


def _fixed(table: pa.Table, dimension: int | None) -> pa.Table:
    """What `_varying` was given."""
    if dimension is None or "embedding" not in table.column_names:
        return table
    column = table["embedding"].combine_chunks()
    values = np.zeros((len(column), dimension), dtype=np.float16)
    values[column.is_valid().to_numpy(zero_copy_only=False)] = column.flatten().to_numpy().reshape(-1, dimension)
    missing = column.is_null() if column.null_count else None
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dimension, mask=missing)
    return table.set_column(table.column_names.index("embedding"), "embedding", fixed)
