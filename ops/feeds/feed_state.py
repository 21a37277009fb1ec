"""Where each feed was left: what is known already, what waits to be asked, and where to go on."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from perennial.ops.feeds.feed_item import FeedItem, FeedPart
from perennial.ops.store.private_file import PrivateFile, stamp

__all__ = ["FeedState"]

_TABLES = """
CREATE TABLE IF NOT EXISTS mark (feed TEXT PRIMARY KEY, mark TEXT NOT NULL, title TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS known (feed TEXT NOT NULL, item TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (feed, item))
WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (number INTEGER PRIMARY KEY AUTOINCREMENT, feed TEXT NOT NULL, item TEXT NOT NULL);
"""
_KNOWN = 20_000  # items of a feed by which repetitions are known


class FeedState:
    """A model's feeds. What was taken in is asked at least once, also when the process ends in between."""

    def __init__(self, path: Path) -> None:
        self._file = PrivateFile(path, tables=_TABLES, holds="the places of the feeds")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def mark(self, feed: str) -> tuple[str, str]:
        """Where to go on, and how the feed calls itself; empty at first."""
        with self._file.reading(create=True) as connection:
            row = connection.execute("SELECT mark, title FROM mark WHERE feed = ?", (feed,)).fetchone()
            return ("", "") if row is None else (str(row[0]), str(row[1]))

    def take(self, feed: str, part: FeedPart, *, at: datetime) -> int:
        """Have new items wait, and go on after them next time; returns how many were new."""
        new = 0
        with self._file.writing() as connection:
            for item in part.items:
                known = connection.execute(
                    "INSERT OR IGNORE INTO known VALUES (?, ?, ?)", (feed, item.key, stamp(at))
                ).rowcount
                if known:
                    connection.execute("INSERT INTO waiting (feed, item) VALUES (?, ?)", (feed, item.written()))
                    new += 1
            connection.execute("INSERT OR REPLACE INTO mark VALUES (?, ?, ?)", (feed, part.mark, part.title))
            connection.execute(
                "DELETE FROM known WHERE feed = ?1 AND item IN "
                "(SELECT item FROM known WHERE feed = ?1 ORDER BY at DESC, item LIMIT -1 OFFSET ?2)",
                (feed, _KNOWN),
            )
        return new

    def waiting(self, feed: str, *, most: int) -> list[tuple[int, FeedItem]]:
        """The oldest items that were not answered yet."""
        with self._file.reading(create=True) as connection:
            rows = connection.execute(
                "SELECT number, item FROM waiting WHERE feed = ? ORDER BY number LIMIT ?", (feed, most)
            ).fetchall()
            return [(number, FeedItem.read(item)) for number, item in rows]

    def answered(self, numbers: Sequence[int]) -> None:
        """These need not be asked any more."""
        with self._file.writing() as connection:
            connection.executemany("DELETE FROM waiting WHERE number = ?", [(number,) for number in numbers])
