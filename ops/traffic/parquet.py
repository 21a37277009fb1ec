"""One compacted file: which of its row groups matter, and its rows."""

import errno
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perennial.continual.atomic_file import written_whole
from perennial.continual.task import PREDICTION
from perennial.ops.traffic.columns import FIXED_COLUMNS, columns_of, conform, in_order
from perennial.ops.traffic.formats import FileFormat
from perennial.ops.traffic.quarantine import DamagedFile, examined

__all__ = ["ParquetRows", "keep_groups", "rewrite_parquet", "write_parquet"]

_GROUP_ROWS = 5_000
_GROUP_ROWS_JOINED = 10_000  # of large files, whose footers are kept in memory
_REPEATED = ("key", "version", "arm", PREDICTION)  # a dictionary of embeddings makes reading four times as slow
_DIMENSION = b"perennial.dimension"
_NO_TEXT, _ANY_TEXT = ("\U0010ffff", ""), ("", "\U0010ffff")  # least and greatest


@dataclass(frozen=True, slots=True)
class ParquetRows:
    """A file's footer; rows are read when asked for. Files are sorted by (at, prediction_id).

    `seen` is the file's inode and time of change: the footer says nothing of another one that takes its place.
    """

    path: Path
    footer: pq.FileMetaData
    format: FileFormat
    seen: tuple[int, int]
    known_bounds: dict[str, list[tuple[Any, Any]]] = field(default_factory=dict, compare=False, repr=False)

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
            return cls(path, file.metadata, form, _seen(source))

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
        return [
            group
            for group, ((first, last), (low, high)) in enumerate(
                zip(self._bounds("at"), self._bounds("version"), strict=True)
            )
            if (since_us is None or last >= since_us)
            and (until_us is None or first < until_us)
            and (version is None or low <= version <= high)
        ]

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
        with pa.OSFile(str(self.path)) as source:
            if _seen(source) != self.seen:
                raise FileNotFoundError(errno.ENOENT, "replaced since its footer was read", str(self.path))
            with pq.ParquetFile(source, metadata=self.footer, page_checksum_verification=True) as file:
                yield file

    def read_all(self) -> pa.Table:
        """All rows and columns."""
        return self.read(range(self.footer.num_row_groups), [*columns_of(self.format.task), "embedding"])

    def readable_groups(self) -> list[int]:
        """The row groups of which every row can be read."""
        names = [*columns_of(self.format.task), "embedding"]
        whole = []
        for group in range(self.footer.num_row_groups):
            with suppress(DamagedFile):
                self.read([group], names)
                whole.append(group)
        return whole

    def find(self, ids: Sequence[str], names: Sequence[str]) -> pa.Table:
        """The rows with these prediction ids; only groups whose ids lie around one of them are read."""
        return self._where("prediction_id", ids, names)

    def find_key(self, key: str, names: Sequence[str]) -> pa.Table:
        """The rows that carry a key; reads the keys of the groups that may hold it, and no more of the others."""
        return self._where("key", [key], names)

    @property
    def first_us(self) -> int:
        """When the first row was logged."""
        with examined(self.path):
            return min((first for first, _ in self._bounds("at")), default=0)

    def _where(self, name: str, values: Sequence[str], names: Sequence[str]) -> pa.Table:
        ordered, wanted = sorted(values), pa.array(values, type=pa.string())
        with examined(self.path):
            bounds = self._bounds(name)
        tables = [self.read([], names)]
        for group, (low, high) in enumerate(bounds):
            place = bisect_left(ordered, low)
            if place == len(ordered) or ordered[place] > high:
                continue
            mask = pc.is_in(self.read([group], [name])[name], wanted)
            if pc.any(mask).as_py():
                tables.append(self.read([group], names).filter(mask))
        return pa.concat_tables(tables)

    def _bounds(self, name: str) -> list[tuple[Any, Any]]:
        """The least and the greatest value of each group; texts that no row has lie outside of both."""
        if name not in self.known_bounds:
            column = self.footer.schema.names.index(name)
            kept = list[tuple[Any, Any]]()
            for group in range(self.footer.num_row_groups):
                statistics = self.footer.row_group(group).column(column).statistics
                if name == "at":
                    kept.append((_us(statistics.min), _us(statistics.max)))
                elif statistics is not None and statistics.has_min_max:
                    kept.append((statistics.min, statistics.max))
                else:  # nothing but nulls
                    kept.append(_NO_TEXT if statistics is not None and not statistics.num_values else _ANY_TEXT)
            self.known_bounds[name] = kept
        return self.known_bounds[name]


def rewrite_parquet(
    files: Sequence[ParquetRows], path: Path, *, kept: Callable[[pa.Table], pa.Table], joined: bool
) -> int:
    """Write the rows that are `kept` of some files of one task and width, in order; returns how many.

    A few groups are in memory at a time, however many rows there are. Where no row is kept there is no file then: one
    without rows has no times to read it by.
    """
    size = _GROUP_ROWS_JOINED if joined else _GROUP_ROWS
    rows = _write(_kept_pieces(files, kept, size), path, files[0].format.task, size)
    if not rows:
        path.unlink(missing_ok=True)
    return rows


def keep_groups(file: ParquetRows, groups: Sequence[int]) -> int:
    """Write a file anew with some of its row groups alone; returns how many rows those have."""
    names = [*columns_of(file.format.task), "embedding"]
    size = max(file.footer.row_group(group).num_rows for group in groups)
    return _write((file.read([group], names) for group in groups), file.path, file.format.task, size)


def _seen(source: pa.OSFile) -> tuple[int, int]:
    status = os.fstat(source.fileno())
    return status.st_ino, status.st_mtime_ns


def _kept_pieces(files: Sequence[ParquetRows], kept: Callable[[pa.Table], pa.Table], size: int) -> Iterator[pa.Table]:
    """The rows that are kept, in order, in pieces of whole groups but for the last."""
    task, pending = files[0].format.task, list[pa.Table]()
    names = [*columns_of(task), "embedding"]
    groups = sorted(
        (first, place, group) for place, file in enumerate(files) for group, (first, _) in enumerate(file._bounds("at"))
    )
    for number, (_, place, group) in enumerate(groups):
        pending.append(kept(files[place].read([group], names)))
        ready = in_order(conform(pending, names, task))
        if number + 1 < len(groups):  # what comes next is no older than its first row
            settled = pc.less(ready["at"], pa.scalar(groups[number + 1][0], FIXED_COLUMNS["at"]))
            whole = int(pc.sum(settled).as_py() or 0) // size * size
            ready, pending = ready.slice(0, whole), [ready.slice(whole)]
        if ready.num_rows:
            yield ready


def _write(pieces: Iterable[pa.Table], path: Path, task: str, group_rows: int) -> int:
    """Write sorted rows, given in pieces, where there is a piece; returns how many."""
    metadata, rows = FileFormat(task=task).metadata, 0
    tables = (_varying(piece.replace_schema_metadata(metadata), metadata) for piece in pieces)
    table = next(tables, None)
    if table is None:
        return 0
    with written_whole(path) as temporary, pq.ParquetWriter(temporary, table.schema, **_options(task)) as writer:
        while table is not None:
            writer.write_table(table, row_group_size=group_rows)
            rows += table.num_rows
            table = next(tables, None)
    return rows


def _options(task: str) -> dict[str, Any]:
    """How every file is written."""
    return {
        "compression": "zstd",
        "use_dictionary": [*_REPEATED, *(name for name, kind in columns_of(task).items() if kind == pa.int32())],
        "write_page_checksum": True,
    }


def _is_ours(field: pa.Field, kinds: Mapping[str, pa.DataType]) -> bool:
    if field.name == "embedding":
        return bool(pa.types.is_null(field.type) or pa.types.is_fixed_size_list(field.type))
    return bool(field.type == kinds[field.name])


def _us(moment: Any) -> int:
    return int(pa.scalar(moment, FIXED_COLUMNS["at"]).value)


def write_parquet(table: pa.Table, path: Path, *, task: str) -> None:
    """Write a sorted table of a task's log; the file is there whole or not at all, also after a power cut."""
    _write([table], path, task, _GROUP_ROWS)


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
