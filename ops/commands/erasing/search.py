"""Looks for what was erased in every file of a workspace and in its ledger, and says what it could not look at."""

import gzip
import logging
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from perennial.continual.errors import PerennialError
from perennial.continual.tasks import task_named
from perennial.ops.commands.erasing.needles import Needles
from perennial.ops.parts import Parts
from perennial.ops.safety.sqlite_files import opened
from perennial.ops.traffic.formats import FileFormat
from perennial.ops.traffic.parquet import ParquetRows
from perennial.ops.traffic.quarantine import QUARANTINE
from perennial.ops.traffic.segment import Stream

__all__ = [
    "NOT_REACHED",
    "SearchReport",
    "Sought",
    "Trace",
    "beginnings_of",
    "needles_for",
    "parquet_columns",
    "search",
    "text_columns",
]

logger = logging.getLogger(__name__)
NOT_REACHED = (
    "backups and snapshots of disks and databases",
    "files that were exported, copied or imported from outside the workspace",
    "a PostgreSQL server's own files: write-ahead log, replicas, pages not yet vacuumed",
    "other programs: logs of callers and proxies, messages that were sent, whatever read the traffic log",
    "embeddings in backups of caches, and what a tuned encoder may have kept in its weights",
)
_SHORTEST_TEXT = 12  # characters; a shorter text may be anybody's
_SHORTEST_KEY = 6
_BEGINNING = 16  # characters
_MOST_BYTES = 4 * 2**30  # of one file; a larger one is named as not searched
_ROWS = 65_536
_WHOSE = ("key", "prediction_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What was erased of a person."""

    keys: frozenset[str]
    prediction_ids: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()

    def joined(self, other: "Sought") -> "Sought":
        """Both together."""
        return Sought(
            keys=self.keys | other.keys,
            prediction_ids=self.prediction_ids | other.prediction_ids,
            texts=self.texts | other.texts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Where something is left, and what kind of thing, e.g. a text, a key or a prediction id. It is never quoted."""

    place: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport:
    """What a search found. `left` is what an operator must see to; `not_searched` are files with the reason.

    `common_texts` were not sought: somebody else sent them too, or they are too short to be anybody's own.
    """

    files: int
    megabytes: float
    texts: int
    common_texts: int
    left: tuple[Trace, ...]
    not_searched: tuple[str, ...]
    not_reached: tuple[str, ...] = NOT_REACHED


def search(parts: Parts, sought: Sought, *, leave_out: Collection[Path] = ()) -> SearchReport:
    """Search the ledger and every file under the state folder and the repository. Reads each file once.

    A text is sought when it has at least 12 characters and stands in nobody else's row of the ledger or of a traffic
    log. A key counts as a whole word, and in rows alone when it is shorter than 6 characters.
    """
    own = {text for text in sought.texts if len(text) >= _SHORTEST_TEXT}
    own -= _others(parts, sought, own)
    kinds = {**dict.fromkeys(own, "text"), **dict.fromkeys(sought.prediction_ids, "prediction id")}
    kinds |= dict.fromkeys(sought.keys, "key")
    needles = needles_for(replace(sought, texts=frozenset(own)))
    searched = _Files(kinds, needles, {path.resolve() for path in leave_out})
    for root in (parts.workspace.state, parts.workspace.repository):
        searched.walk(root)
    left = [*_in_ledger(parts, kinds, needles), *searched.left]
    return SearchReport(
        files=searched.files,
        megabytes=round(searched.size / 1e6, 1),
        texts=len(own),
        common_texts=len(sought.texts) - len(own),
        left=tuple(sorted(left, key=lambda trace: trace.place)),
        not_searched=tuple(searched.not_searched),
    )


def needles_for(sought: Sought) -> Needles:
    """What is looked for in bytes: long texts, prediction ids, and long keys as whole words."""
    texts = [text for text in sought.texts if len(text) >= _SHORTEST_TEXT]
    long_keys = [key for key in sought.keys if len(key) >= _SHORTEST_KEY]
    return Needles([*texts, *sought.prediction_ids], whole_words=long_keys)


def beginnings_of(sought: Sought) -> Needles:
    """How everything that was erased begins: in a database's page, what was written later covers the end first."""
    everything = sought.keys | sought.prediction_ids | sought.texts
    return Needles(value[:_BEGINNING] for value in everything)


class _Files:
    """One pass over folders."""

    def __init__(self, kinds: dict[str, str], needles: Needles, leave_out: Collection[Path]) -> None:
        self._kinds, self._needles, self._leave_out = kinds, needles, leave_out
        self.files = self.size = 0
        self.left: list[Trace] = []
        self.not_searched: list[str] = []

    def walk(self, root: Path) -> None:
        """Look at every file below."""
        for folder, _, names in os.walk(root):
            for name in sorted(names):
                path = Path(folder) / name
                if path.resolve() not in self._leave_out:
                    self._look(path)

    def _look(self, path: Path) -> None:
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                self.not_searched.append(f"{path}: not a plain file")
                return
            if status.st_size > _MOST_BYTES:
                self.not_searched.append(f"{path}: larger than {_MOST_BYTES >> 30} GiB")
                return
            found = self._found(path)
        except FileNotFoundError:
            return  # rotated, compacted or pruned meanwhile
        except (OSError, ValueError, EOFError, PerennialError, MemoryError) as exc:
            if QUARANTINE in path.parts:  # a damaged file holds whose rows it holds
                self.left.append(Trace(place=str(path), kinds=("unreadable rows",)))
            self.not_searched.append(f"{path}: {type(exc).__name__}: cannot be read as what it is named")
            logger.warning("erasure.not_searched", extra={"path": str(path), "reason": type(exc).__name__})
            return
        self.files += 1
        self.size += status.st_size
        if found:
            self.left.append(Trace(place=str(path), kinds=_kinds(found, self._kinds)))

    def _found(self, path: Path) -> set[str]:
        if path.name.endswith("-shm"):  # numbers of pages alone; SQLite's locks on it would end with a close
            return set()
        if path.suffix == ".parquet":
            return self._in_columns(parquet_columns(path))
        if path.suffix == ".arrows":
            return self._in_stream(path)
        if path.suffix == ".npz":
            return self._in_arrays(path)
        if ".embeddings" in path.suffixes:
            return self._in_cache(path)
        with _opened(path) as file:
            return self._needles.found_in(file)

    def _in_cache(self, path: Path) -> set[str]:
        """Texts that an embedding is kept of; the file holds them as hashes alone."""
        from perennial.continual.learning.embedding_cache import texts_held

        return texts_held(path, (value for value, kind in self._kinds.items() if kind == "text"))

    def _in_columns(self, columns: Iterable[list[Any]]) -> set[str]:
        """A cell that is what was erased; a longer one that holds it is somebody else's."""
        found: set[str] = set()
        for cells in columns:
            found |= self._kinds.keys() & {cell for cell in cells if isinstance(cell, str)}
        return found

    def _in_stream(self, path: Path) -> set[str]:
        stream = Stream()
        rows = stream.read(path)
        found = set() if rows is None else self._in_columns(rows[name].to_pylist() for name in text_columns(rows))
        with path.open("rb") as file:  # a torn end, which no reader shows
            file.seek(stream.size)
            return found | self._needles.found_in(file)

    def _in_arrays(self, path: Path) -> set[str]:
        found: set[str] = set()
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                values = arrays[name]
                if values.dtype.kind == "U":
                    found |= self._needles.found_in_texts(values.ravel().tolist())
                elif values.dtype.kind in "SV" or values.dtype == np.uint8:
                    found |= self._needles.found_in_bytes(values.tobytes())
        return found


def _kinds(found: Iterable[str], kinds: dict[str, str]) -> tuple[str, ...]:
    return tuple(sorted({kinds[value] for value in found}))


def parquet_columns(path: Path) -> Iterator[list[Any]]:
    """The columns of text in a Parquet file, some rows at a time.

    Raises:
        ValueError: it is damaged; OSError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pa.OSFile(str(path)) as source, pq.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size=_ROWS, columns=text_columns(file.schema_arrow)):
                for column in batch.columns:
                    yield column.to_pylist()
    except pa.ArrowException as exc:
        raise ValueError(str(exc)) from exc


def text_columns(rows: Any) -> list[str]:
    """The names of a table's or a schema's columns of text."""
    import pyarrow as pa

    fields = getattr(rows, "schema", rows)
    return [field.name for field in fields if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]


def _opened(path: Path) -> IO[bytes]:
    with opened(path) as file:
        head = file.read(4)
    if head[:2] == b"\x1f\x8b":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if head == b"\x28\xb5\x2f\xfd":
        import pyarrow as pa

        return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")  # type: ignore[no-any-return]
    return opened(path)


def _others(parts: Parts, sought: Sought, texts: set[str]) -> set[str]:
    """Texts that stand in somebody else's rows too, alone or inside a longer one; so finding them proves nothing."""
    needles = Needles(texts)
    shared: set[str] = set()
    for row in parts.ledger.models():
        shared |= needles.found_in_texts(parts.ledger.texts_of_others(row.name, sought.keys, sought.prediction_ids))
        for path in parts.workspace.traffic(row.name).glob("*/*"):
            try:
                for table, asked in _traffic_rows(path):
                    for name in asked:
                        theirs = zip(*(table[column].to_pylist() for column in (name, *_WHOSE)), strict=True)
                        mine = sought.keys, sought.prediction_ids
                        shared |= needles.found_in_texts(
                            text for text, key, row in theirs if key not in mine[0] and row not in mine[1]
                        )
            except (OSError, ValueError, PerennialError):
                continue  # the pass over all files names it
    return shared


def _traffic_rows(path: Path) -> Iterator[tuple[Any, Sequence[str]]]:
    """The rows of one file, some at a time, with the columns that hold free text."""
    if path.suffix == ".parquet":
        file = ParquetRows.of(path)
        asked = task_named(file.format.task).text_columns
        for group in range(file.footer.num_row_groups):
            yield file.read([group], [*asked, *_WHOSE]), asked
    elif path.suffix == ".arrows" and (rows := Stream().read(path)) is not None:
        yield rows, task_named(FileFormat.of(rows.schema.metadata).task).text_columns


def _in_ledger(parts: Parts, kinds: dict[str, str], needles: Needles) -> list[Trace]:
    joined: dict[str, set[str]] = {}
    for place, cell in parts.ledger.cells(set(kinds)):
        found = {cell} if cell in kinds else needles.found_in_texts([cell])
        if found:
            joined.setdefault(f"ledger {place}", set()).update(found)
    return [Trace(place=place, kinds=_kinds(found, kinds)) for place, found in joined.items()]
