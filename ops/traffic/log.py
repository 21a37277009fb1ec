"""Reads a model's traffic log while others append to it, rotate it and compact it."""

import threading
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from perennial.continual.errors import DataError, DependencyUnreachable
from perennial.continual.task import PREDICTION, ColumnKind
from perennial.continual.tasks import DEFAULT_TASK, task_named
from perennial.ops.prediction_ids import id_time_us
from perennial.ops.traffic import compaction, discarding, upkeep
from perennial.ops.traffic.catalogue import Catalogue, LogFile
from perennial.ops.traffic.columns import FIXED_COLUMNS, columns_of, conform, in_order
from perennial.ops.traffic.formats import FileFormat
from perennial.ops.traffic.lost_rows import LostRows, lost_rows
from perennial.ops.traffic.parquet import ParquetRows
from perennial.ops.traffic.quarantine import DamagedFile, Quarantined, quarantined
from perennial.ops.traffic.segment import LIVE, PARQUET, SEALED, Stream, seal

__all__ = ["TrafficLog"]

_T = TypeVar("_T")
_TRIES = 100
_STREAM_BYTES = 16 * 2**20  # of rows are kept, so that a tail read parses only what is new
_FOOTERS = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    since: datetime | None
    until: datetime | None
    version: int | None
    names: tuple[str, ...]

    def wants(self, file: LogFile) -> bool:
        return (self.since is None or file.last_us >= _us(self.since)) and (
            self.until is None or file.first_us < _us(self.until)
        )

    def keep(self, table: pa.Table) -> pa.Table:
        """The table's rows and columns that the query asks for; `at` and `prediction_id` always."""
        mask: pa.ChunkedArray | None = None
        for test in self._tests(table):
            mask = test if mask is None else pc.and_(mask, test)
        table = table.select([name for name in self.names if name in table.column_names])
        return table if mask is None else table.filter(mask)

    def _tests(self, table: pa.Table) -> list[pa.ChunkedArray]:
        tests = []
        if self.since is not None:
            tests.append(pc.greater_equal(table["at"], _moment(self.since)))
        if self.until is not None:
            tests.append(pc.less(table["at"], _moment(self.until)))
        if self.version is not None:
            tests.append(pc.equal(table["version"], self.version))
        return tests


class TrafficLog:
    """One model's answered requests. Safe to share between threads; any number of processes may read and maintain it.

    Each row that a writer flushed before the call is seen exactly once, whatever was killed when. A missing folder is
    an empty log. `task` says which columns the log has; without it the log's files do, and an empty log is of texts.
    """

    def __init__(self, root: Path, *, task: str | None = None) -> None:
        self._root, self._task = Path(root), task
        self._guard = threading.Lock()
        self._streams: OrderedDict[str, Stream] = OrderedDict()
        self._held = 0  # bytes of rows in them
        self._damaged: dict[Path, tuple[int, int]] = {}  # inode and time of change of what could not be set aside yet
        self._footers: OrderedDict[tuple[Path, int, int], ParquetRows] = OrderedDict()

    @property
    def task(self) -> str:
        """The task whose columns the log has.

        Raises:
            DependencyUnreachable: the files kept changing under the reader.
        """
        return self._steadily(self._known_task)

    def read(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        last: int | None = None,
        first: int | None = None,
    ) -> pa.Table:
        """The rows logged at or after `since` and before `until`, sorted by (at, prediction_id).

        `last` keeps the newest that the other arguments leave, and `first` the oldest; either reads only as far as it
        takes. Files outside the times asked for stay closed. Rows whose embedding has another dimension than the
        newest have a null there.

        Raises:
            DataError: a column is unknown, a time has no zone, `last` or `first` is negative, or both are given.
            DependencyUnreachable: the files kept changing under the reader.
        """
        _check_times(since, until)
        wanted = self._columns(columns)
        if last is not None and last < 0:
            raise DataError(f"the last {last} rows were asked for; ask for 0 or more")
        if first is not None and (first < 0 or last is not None):
            raise DataError(f"the first {first} rows were asked for, and the last {last}; ask for one, 0 or more")
        names = tuple(dict.fromkeys([*wanted, "at", "prediction_id"]))
        query = _Query(since=since, until=until, version=version, names=names)
        if first is not None:
            return self._steadily(lambda: self._collect(query, first, newest=False)).slice(0, first).select(wanted)
        table = self._steadily(lambda: self._collect(query, last))
        return (table if last is None else table.slice(max(0, table.num_rows - last))).select(wanted)

    def lookup(self, prediction_ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows with these prediction ids, sorted by (at, prediction_id); unknown ids have none.

        The time in an id says which files may hold it; only those are opened.

        Raises:
            DataError: a column is unknown.
            DependencyUnreachable: the files kept changing under the reader.
        """
        wanted = self._columns(columns)
        names = tuple(dict.fromkeys([*wanted, "at", "prediction_id"]))
        ids = {name: moment for name in prediction_ids if (moment := id_time_us(name)) is not None}
        return self._steadily(lambda: self._find(ids, names)).select(wanted)

    def count(self) -> int:
        """How many rows the log holds."""
        return self._steadily(lambda: sum(self._rows_of(file) for file in self._catalogue().files))

    def lost(self) -> LostRows:
        """Rows that were answered and never reached the log."""
        return lost_rows(self._root)

    def compact(self, min_age_s: float = 0.0) -> int:
        """Move sealed rows into Parquet; returns how many rows moved.

        Streams of writers that are gone, or that were left untouched for ten minutes, are sealed first. Streams
        written to less than `min_age_s` ago wait. Also finishes what a killed compaction began, and joins small files.
        """
        return compaction.compact(self._root, min_age_s=min_age_s)

    def bar(self, key: str, at: datetime) -> pa.Table:
        """Let no row of the key from before `at` into the log any more, whoever still holds one in memory.

        Returns prediction id and what was asked of every row that carries the key now; `erase` removes them.

        Raises:
            DependencyUnreachable: a live stream's writer kept it locked.
        """
        _check_times(at)
        with discarding.barred(self._root, key, at):
            return self.rows_of(key)

    def distinct_keys(self) -> frozenset[str]:
        """Every key that a row carries. Reads the keys of the whole log."""
        keys = pc.unique(self.read(columns=["key"])["key"]).to_pylist()
        return frozenset(key for key in keys if key is not None)

    def rows_of(self, key: str) -> pa.Table:
        """Prediction id and what was asked of every row that carries the key. Reads the keys of the whole log."""
        kinds = task_named(self.task).log_columns.items()
        inputs = [name for name, kind in kinds if kind is ColumnKind.TEXT and name != PREDICTION]
        wanted = ["prediction_id", *inputs]
        return self._steadily(lambda: self._carrying(key, [*wanted, "at"])).select(wanted)

    def erase(self, key: str) -> int:
        """Remove every row that was logged with this key before the call; returns how many. `bar` the key first.

        Raises:
            DependencyUnreachable: a live stream's writer kept it locked.
        """
        return discarding.discard_key(self._root, key)

    def prune(self, older_than: datetime) -> int:
        """Remove the rows logged before `older_than`; returns how many.

        Raises:
            DataError: the time has no zone.
            DependencyUnreachable: a live stream's writer kept it locked.
        """
        _check_times(older_than)
        return discarding.discard_before(self._root, _us(older_than))

    def _steadily(self, attempt: Callable[[], _T]) -> _T:
        """Repeat a reading whose list of files went out of date."""
        count = 0
        while count < _TRIES:
            try:
                return attempt()
            except FileNotFoundError:
                time.sleep(min(0.02, 0.0005 * count))
                count += 1
            except DamagedFile as exc:  # the next try is without it
                self._put_aside(exc)
        raise DependencyUnreachable(
            f"the traffic log in {self._root} changed during each of {_TRIES} readings; see what keeps rewriting it"
        )

    def _put_aside(self, damaged: DamagedFile) -> None:
        """Set a damaged file aside, or while that cannot be done read on without it."""
        path = damaged.path
        try:
            status = path.stat()
        except FileNotFoundError:
            return
        seen = (status.st_ino, status.st_mtime_ns)
        with self._guard:
            self._damaged[path] = seen
            self._streams.pop(path.stem.split("-", 2)[-1] if path.parent.name != LIVE else path.stem, None)
        with suppress(OSError):  # a disk that takes nothing, or a reader without rights
            upkeep.put_aside(self._root, path, damaged.cause, seen)

    def _is_whole(self, file: LogFile) -> bool:
        """Whether the file is not known to be damaged; one that was replaced since is whole again."""
        with self._guard:
            seen = self._damaged.get(file.path)
        if seen is None:
            return True
        try:
            status = file.path.stat()
        except FileNotFoundError:
            status = None
        if status is not None and (status.st_ino, status.st_mtime_ns) == seen:
            return False
        with self._guard:
            self._damaged.pop(file.path, None)
        return True

    def quarantined(self) -> tuple[Quarantined, ...]:
        """What was set aside because it could not be read, oldest first."""
        return quarantined(self._root)

    def drop_quarantined(self, names: Collection[str]) -> tuple[str, ...]:
        """Delete what was set aside under these names; returns those that are gone now."""
        return upkeep.drop_quarantined(self._root, names)

    def _catalogue(self) -> Catalogue:
        """The files now; rows kept of streams that are gone, because they were compacted, are let go."""
        catalogue = Catalogue.of(self._root)
        present = {file.stem for file in (*catalogue.live, *catalogue.sealed)}
        with self._guard:
            for stem in [stem for stem in self._streams if stem not in present]:
                self._held -= self._streams.pop(stem).counted
        if not self._damaged:
            return catalogue
        parts = {name: tuple(filter(self._is_whole, getattr(catalogue, name))) for name in (LIVE, SEALED, PARQUET)}
        return Catalogue(live=parts[LIVE], sealed=parts[SEALED], parquet=parts[PARQUET])

    def _collect(self, query: _Query, most: int | None, *, newest: bool = True) -> pa.Table:
        """The rows that are asked for, or of the newest or the oldest of them at least so many."""
        catalogue = self._catalogue()
        tables = [query.keep(rows) for file in catalogue.live if (rows := self._stream(file)) is not None]
        at_hand = sum(table.num_rows for table in tables)
        older = [file for file in (*catalogue.sealed, *catalogue.parquet) if query.wants(file)]
        for file in sorted(older, key=lambda file: -file.last_us if newest else file.first_us):
            if most is not None and at_hand >= most and not _may_hold(file, tables, most, newest=newest):
                break
            for rows in self._pieces(file, query, most, newest=newest):
                tables.append(query.keep(rows))
                at_hand += tables[-1].num_rows
        return in_order(conform(_oldest_first(tables), query.names, self._known_task()))

    def _pieces(self, file: LogFile, query: _Query, most: int | None, *, newest: bool) -> Sequence[pa.Table]:
        """The file's rows, all of them or in pieces, the newest or the oldest first, until there are enough."""
        if file.folder != PARQUET:
            rows = self._stream(file)
            return [] if rows is None else [rows]
        names = (*query.names, *(["version"] if query.version is not None else []))
        since, until = (None if moment is None else _us(moment) for moment in (query.since, query.until))
        parquet = self._parquet(file)
        groups = parquet.groups(since_us=since, until_us=until, version=query.version)
        if most is None:
            return [parquet.read(groups, names)]
        pieces: list[pa.Table] = []
        count = 0
        for group in reversed(groups) if newest else groups:  # a file is sorted by time: the newest rows come last
            pieces.append(parquet.read([group], names))
            count += query.keep(pieces[-1]).num_rows
            if count >= most:
                break
        return pieces

    def _find(self, ids: dict[str, int], names: tuple[str, ...]) -> pa.Table:
        tables, ordered = [], sorted(ids, key=ids.__getitem__)
        moments = [ids[name] for name in ordered]
        for file in self._catalogue().files:
            here = ordered[bisect_left(moments, file.first_us) : bisect_right(moments, file.last_us)]
            if not here:
                continue
            if file.folder == PARQUET:
                tables.append(self._parquet(file).find(here, names))
            elif (rows := self._stream(file)) is not None:
                wanted = pa.array(here, type=pa.string())
                tables.append(rows.filter(pc.is_in(rows["prediction_id"], wanted)).select(names))
        return in_order(conform(_oldest_first(tables), names, self._known_task()))

    def _carrying(self, key: str, names: list[str]) -> pa.Table:
        tables = []
        for file in self._catalogue().files:
            if file.folder == PARQUET:
                tables.append(self._parquet(file).find_key(key, names))
            elif (rows := self._stream(file)) is not None:
                tables.append(rows.filter(pc.equal(rows["key"], key)).select(names))
        return in_order(conform(_oldest_first(tables), names, self._known_task()))

    def _columns(self, names: Sequence[str] | None) -> list[str]:
        every = [*columns_of(self._steadily(self._known_task)), "embedding"]
        unknown = sorted(set(names or ()) - set(every))
        if unknown:
            raise DataError(f"the traffic log has no columns {unknown}; it has {every}")
        return every if names is None else list(names)

    def _known_task(self) -> str:
        """The log's task; what the files say of it is read once."""
        if self._task is None:
            for file in self._catalogue().files:
                if file.folder == PARQUET:
                    self._task = self._parquet(file).format.task
                elif (rows := self._stream(file)) is not None:
                    self._task = FileFormat.of(rows.schema.metadata).task
                if self._task is not None:
                    break
        return self._task or DEFAULT_TASK

    def _rows_of(self, file: LogFile) -> int:
        if file.folder == PARQUET:
            return self._parquet(file).rows
        rows = self._stream(file)
        return 0 if rows is None else int(rows.num_rows)

    def _stream(self, file: LogFile) -> pa.Table | None:
        with self._guard:
            stream = self._streams.setdefault(file.stem, Stream())
            self._streams.move_to_end(file.stem)
        rows = stream.read(file.path)
        if stream.damage and file.folder == LIVE:
            with suppress(OSError):
                seal(file.path, 0.0)  # which keeps what is readable; its writer opens another
        with self._guard:
            if self._streams.get(file.stem) is stream:
                self._held += stream.size - stream.counted
                stream.counted = stream.size
            while self._held > _STREAM_BYTES and len(self._streams) > 1:
                self._held -= self._streams.popitem(last=False)[1].counted
        return rows

    def _parquet(self, file: LogFile) -> ParquetRows:
        status = file.path.stat()
        name = (file.path, status.st_ino, status.st_mtime_ns)
        with self._guard:
            known = self._footers.get(name)
        if known is None:
            known = ParquetRows.of(file.path)
            with self._guard:
                self._footers[name] = known
                while len(self._footers) > _FOOTERS:
                    self._footers.popitem(last=False)
        return known


def _check_times(*moments: datetime | None) -> None:
    for moment in moments:
        if moment is not None and moment.tzinfo is None:
            raise DataError(f"the time {moment.isoformat()} has no time zone; give UTC, e.g. {moment}+00:00")


def _us(moment: datetime) -> int:
    return int(_moment(moment).value)


def _moment(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment.astimezone(UTC), FIXED_COLUMNS["at"])


def _may_hold(file: LogFile, tables: Sequence[pa.Table], most: int, *, newest: bool) -> bool:
    """Whether a file may hold some of the newest or of the oldest rows, where so many are at hand."""
    if most == 0:
        return False
    times = pa.chunked_array([chunk for table in tables for chunk in table["at"].chunks], type=FIXED_COLUMNS["at"])
    ranked = pc.array_sort_indices(times, order="descending" if newest else "ascending")
    last_us = int(times[ranked[most - 1].as_py()].value)
    return file.last_us >= last_us if newest else file.first_us <= last_us


def _oldest_first(tables: Sequence[pa.Table]) -> list[pa.Table]:
    filled = [table for table in tables if table.num_rows]
    return sorted(filled, key=lambda table: pc.max(table["at"]).value)
