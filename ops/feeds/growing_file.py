"""A file that grows, JSON lines or CSV: its new whole rows, from where it was left."""

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from perennial.continual.errors import DataError, DependencyUnreachable
from perennial.ops.feeds.feed_item import FeedItem, FeedPart, item_of_row

__all__ = ["read_new_rows"]

_LONGEST_LINE = 1_000_000


def read_new_rows(path: Path, mark: str, *, now: datetime, most_bytes: int, most_items: int) -> FeedPart:
    """At most so many rows after the mark; a last line without an end waits until it has one.

    A file that became shorter, or that another one took the place of, is read from its beginning. A row is
    JSON, or CSV after a first line of names: `text` and where known `source`, `published_at`, `symbols` and `id`.

    Raises:
        DependencyUnreachable: it is not there or cannot be read.
        DataError: a CSV file has no column `text`.
    """
    try:
        with path.open("rb") as file:
            place = _Place.read(mark, path)
            if not place.names and path.suffix == ".csv":
                names, end = _line_after(file, 0)
                if end < 0:
                    return FeedPart(items=(), mark="")
                place.names, place.offset = next(csv.reader([names])), max(end, place.offset)
                if "text" not in place.names:
                    raise DataError(f"feed file {path} has the columns {place.names}; it needs one called text")
            rows = list(_lines(file, place, most_bytes, most_items))
    except OSError as exc:
        raise DependencyUnreachable(f"feed file {path} cannot be read ({exc}); see that it is there") from exc
    items = [_item(line, place.names, now) for line in rows if line.strip()]
    good = [item for item in items if item is not None]
    return FeedPart(items=tuple(good), mark=place.written(), refused=len(items) - len(good))


class _Place:
    """Where a file was left: which file, how far, and the names of its columns."""

    def __init__(self, inode: int, offset: int, names: list[str]) -> None:
        self.inode, self.offset, self.names = inode, offset, names

    @classmethod
    def read(cls, mark: str, path: Path) -> "_Place":
        found = path.stat()
        if mark:
            kept = json.loads(mark)
            if kept["inode"] == found.st_ino and kept["offset"] <= found.st_size:
                return cls(kept["inode"], kept["offset"], kept["names"])
        return cls(found.st_ino, 0, [])

    def written(self) -> str:
        return json.dumps({"inode": self.inode, "offset": self.offset, "names": self.names})


def _lines(file: Any, place: _Place, most_bytes: int, most_items: int) -> Iterator[str]:
    read = 0
    for _ in range(most_items):
        line, end = _line_after(file, place.offset)
        if end < 0 or read > most_bytes:
            return
        read += end - place.offset
        place.offset = end
        yield line


def _line_after(file: Any, offset: int) -> tuple[str, int]:
    """The line that begins there and where the next one does; -1 where it has no end yet."""
    file.seek(offset)
    raw = file.readline(_LONGEST_LINE)
    if not raw.endswith(b"\n") and len(raw) < _LONGEST_LINE:
        return "", -1
    return raw.decode("utf-8", errors="replace"), offset + len(raw)


def _item(line: str, names: list[str], now: datetime) -> FeedItem | None:
    """The row of a line; None where it is none."""
    try:
        row = dict(zip(names, next(csv.reader([line])), strict=True)) if names else json.loads(line)
        return item_of_row(row, now)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError, DataError):
        return None
