"""What is known of each user of a ranking now, and of the shop: the next answer is made from it.

One SQLite file a model. Routers read it at every request and never wait for a writer (write-ahead log); feedback
writes it. Nothing here is learnt: a training reads the ledger.
"""

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from perennial.continual.learning.ranking import Event, ItemRule, Profile
from perennial.ops.store.private_file import PrivateFile, moment, stamp

__all__ = ["MOST_EVENTS", "UserEvents"]

MOST_EVENTS = 1_000  # of a user; older ones give way
_TABLES = """
CREATE TABLE IF NOT EXISTS event (
    user TEXT NOT NULL, item TEXT NOT NULL, at INTEGER NOT NULL, liked REAL NOT NULL, PRIMARY KEY (user, item)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocked (user TEXT NOT NULL, item TEXT NOT NULL, PRIMARY KEY (user, item)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS wanted (
    user TEXT NOT NULL, word TEXT NOT NULL, weight REAL NOT NULL, PRIMARY KEY (user, word)
) WITHOUT ROWID;
"""
_WITHDRAWN = "CREATE TABLE IF NOT EXISTS withdrawn (item TEXT PRIMARY KEY) WITHOUT ROWID"  # since the first item was
_RULE = "CREATE TABLE IF NOT EXISTS rule (name TEXT PRIMARY KEY, words TEXT, segment TEXT) WITHOUT ROWID"  # likewise
_ADD = """
INSERT INTO event VALUES (?, ?, ?, ?) ON CONFLICT (user, item) DO UPDATE SET at = excluded.at, liked = excluded.liked
WHERE (excluded.at, excluded.liked) > (event.at, event.liked)
"""
_TRIM = """
DELETE FROM event WHERE user = :user AND (at, item) < (
    SELECT at, item FROM event WHERE user = :user ORDER BY at DESC, item DESC LIMIT 1 OFFSET :kept
)
"""


class UserEvents:
    """The state of a model's users. Safe to share between threads; several processes may have it open.

    Args:
        path: the file; `write` makes it, readable by its owner alone, where it is missing.
        most_events: kept of a user, the latest ones.
        wait_s: the longest that a call waits for a lock of another process.
    """

    def __init__(self, path: Path, *, most_events: int = MOST_EVENTS, wait_s: float = 10.0) -> None:
        self._file = PrivateFile(path, tables=_TABLES, holds="the users' events", wait_s=wait_s)
        self._most = most_events

    def __enter__(self) -> "UserEvents":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, where it is open."""
        self._file.close()

    def add(self, events: Iterable[Event]) -> int:
        """Remember events; one older than what is known of its user and item changes nothing. Returns the changes.

        Raises:
            DependencyUnreachable: the file cannot be written.
        """
        rows = [(event.user, event.item, stamp(event.at), event.liked) for event in events]
        with self._file.writing() as connection:
            before = connection.total_changes
            connection.executemany(_ADD, rows)
            changes = connection.total_changes - before
            for user in {row[0] for row in rows}:
                connection.execute(_TRIM, {"user": user, "kept": self._most - 1})
        return changes

    def block(self, user: str, item: str, *, blocked: bool = True) -> None:
        """Never show an item to a user, or show it again."""
        with self._file.writing() as connection:
            connection.execute("DELETE FROM blocked WHERE user = ? AND item = ?", (user, item))
            if blocked:
                connection.execute("INSERT INTO blocked VALUES (?, ?)", (user, item))

    def want(self, user: str, text: str, weight: float) -> None:
        """Show a user more (above 0) or less (below 0) of the words of a text; 0 forgets them."""
        with self._file.writing() as connection:
            wanted = _profile(connection, user, None).want(text, weight).wanted
            connection.execute("DELETE FROM wanted WHERE user = ?", (user,))
            connection.executemany("INSERT INTO wanted VALUES (?, ?, ?)", [(user, *pair) for pair in wanted.items()])

    def withdraw(self, items: Iterable[str], *, withdrawn: bool = True) -> None:
        """Show items to nobody from now on, or show them again; one that is so already stays so."""
        rows = [(item,) for item in items]
        with self._file.writing() as connection:
            connection.execute(_WITHDRAWN)
            connection.executemany("DELETE FROM withdrawn WHERE item = ?", rows)
            if withdrawn:
                connection.executemany("INSERT OR IGNORE INTO withdrawn VALUES (?)", rows)

    def withdrawn(self) -> frozenset[str]:
        """Items that nobody is shown.

        Raises:
            DependencyUnreachable: the file is missing or cannot be read.
        """
        with self._file.reading() as connection:
            return _withdrawn(connection)

    def state_rule(self, rule: ItemRule) -> ItemRule | None:
        """Let a rule hold from now on, in place of one of the same name, which is returned."""
        with self._file.writing() as connection:
            connection.execute(_RULE)
            before = _rule_named(connection, rule.name)
            row = (rule.name, json.dumps(rule.words), rule.segment)
            connection.execute("INSERT OR REPLACE INTO rule VALUES (?, ?, ?)", row)
        return before

    def drop_rule(self, name: str) -> ItemRule | None:
        """Let a rule hold no more, and return it; None where there is none."""
        with self._file.writing() as connection:
            connection.execute(_RULE)
            before = _rule_named(connection, name)
            connection.execute("DELETE FROM rule WHERE name = ?", (name,))
        return before

    def rules(self) -> tuple[ItemRule, ...]:
        """Those that hold, by name.

        Raises:
            DependencyUnreachable: the file is missing or cannot be read.
        """
        with self._file.reading() as connection:
            return _rules(connection)

    def profile(self, user: str, *, before: datetime | None = None) -> Profile:
        """What is known of a user, at a time or now; nothing of somebody unknown.

        Raises:
            DependencyUnreachable: the file is missing or cannot be read.
        """
        with self._file.reading() as connection:
            return _profile(connection, user, before)

    def users(self) -> tuple[str, ...]:
        """Everybody of whom something is known, sorted."""
        with self._file.reading() as connection:
            found = connection.execute(
                "SELECT user FROM event UNION SELECT user FROM blocked UNION SELECT user FROM wanted"
            )
            return tuple(sorted(user for (user,) in found))

    def erase(self, user: str) -> int:
        """Forget a user, also in what the file leaves free; returns how many events they had."""
        with self._file.writing() as connection:
            erased = connection.execute("DELETE FROM event WHERE user = ?", (user,)).rowcount
            for table in ("blocked", "wanted"):
                connection.execute(f"DELETE FROM {table} WHERE user = ?", (user,))
        self._file.wipe()
        return erased


def _profile(connection: sqlite3.Connection, user: str, before: datetime | None) -> Profile:
    limit = (1 << 62) if before is None else stamp(before)
    events = connection.execute(
        "SELECT item, at, liked FROM event WHERE user = ? AND at < ? ORDER BY at, item", (user, limit)
    ).fetchall()
    blocked = connection.execute("SELECT item FROM blocked WHERE user = ?", (user,)).fetchall()
    wanted = connection.execute("SELECT word, weight FROM wanted WHERE user = ?", (user,)).fetchall()
    return Profile(
        user=user,
        events=tuple(Event(user=user, item=item, at=moment(at), liked=liked) for item, at, liked in events),
        blocked=frozenset(item for (item,) in blocked),
        wanted=dict(wanted),
        withdrawn=_withdrawn(connection),
        rules=_rules(connection),
    )


def _withdrawn(connection: sqlite3.Connection) -> frozenset[str]:
    """Items that nobody is shown."""
    return frozenset(item for (item,) in _rows(connection, "SELECT item FROM withdrawn"))


def _rule_named(connection: sqlite3.Connection, name: str) -> ItemRule | None:
    return next((rule for rule in _rules(connection) if rule.name == name), None)


def _rules(connection: sqlite3.Connection) -> tuple[ItemRule, ...]:
    rows = _rows(connection, "SELECT name, words, segment FROM rule ORDER BY name")
    return tuple(ItemRule(name=name, words=tuple(json.loads(words)), segment=segment) for name, words, segment in rows)


def _rows(connection: sqlite3.Connection, query: str) -> list[tuple[str, ...]]:
    """Of a table that is not there before its first row."""
    try:
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError as exc:
        if "no such table" in str(exc):
            return []
        raise
