"""The headlines that were answered, and the events that they make. Routers write them; the watch itself is pure.

One SQLite file a model, beside all versions. A watch is restored from its rows, so that every router has the same one,
after a swap and after a restart too.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perennial.continual.events import Event, EventWatch, Item, Phase, Sighting, WatchPlan, tokens_of, words_of
from perennial.ops.store.alerts import LAST_NUMBER, raise_alerts, standing_alert
from perennial.ops.store.headline_tables import HEADLINE_TABLES, keep_setting, plan_parts, read_plan, setting
from perennial.ops.store.private_file import PrivateFile, moment, stamp

__all__ = ["EventRow", "Headlines", "Noted", "Observed"]

_KEPT = "number, at, source, words, tokens, tone, encoder, place, copy_of, score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One answered headline, without personal data. `scores` are the probabilities of the sentiments."""

    prediction_id: str
    at: datetime
    source: str
    key: str
    text: str
    label: str
    scores: Mapping[str, float]
    opinions: Mapping[str, str] = field(default_factory=dict)
    encoder: str = ""
    place: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What a headline was found to belong to; empty where it is nothing in particular."""

    event: str = ""
    phase: str = ""
    alert: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event with its phase now, and its latest headlines as (time, source, text)."""

    event: Event
    phase: Phase
    headlines: tuple[tuple[datetime, str, str], ...]


class Headlines:
    """A model's headlines. Safe to share between threads; several processes may have the file open.

    Args:
        path: the file; a write makes it where it is missing.
        wait_s: the longest that a call waits for a lock of another process.
    """

    def __init__(self, path: Path, *, wait_s: float = 10.0) -> None:
        self.file = PrivateFile(path, tables=HEADLINE_TABLES, holds="the headlines", wait_s=wait_s)
        self._watch: EventWatch | None = None
        self._plan = WatchPlan()
        self._of: tuple[str, ...] = ()  # what the watch was made by
        self._seen = 0

    def close(self) -> None:
        """Close the file, where it is open."""
        self.file.close()

    def note(self, observed: Sequence[Observed]) -> list[Noted]:
        """Remember headlines in order, and tell what each belongs to.

        Raises:
            DependencyUnreachable: the file cannot be written; nothing of them is remembered.
        """
        try:
            with self.file.writing() as connection:
                watch = self._caught_up(connection)
                noted = [self._note(connection, watch, headline) for headline in observed]
                _close_others(connection, watch)
                return noted
        except BaseException:
            self._watch = None  # it may have seen what the file does not hold
            raise

    def configure(self, plan: WatchPlan) -> bool:
        """Watch by this plan from now on, in every router; returns whether it is another one than before."""
        written = json.dumps(plan.to_record(), sort_keys=True)
        with self.file.writing() as connection:
            if setting(connection, "plan") == written:
                return False
            keep_setting(connection, "plan", written)
            return True

    def limit_by(self, limit: float) -> None:
        """Watch by the limit that a calibration found."""
        with self.file.writing() as connection:
            keep_setting(connection, "limit", repr(limit))

    def plan(self) -> WatchPlan:
        """What is watched for."""
        with self.file.reading(create=True) as connection:
            return read_plan(connection)

    def items(self, *, last: int) -> list[Item]:
        """The latest originals as the watch sees them, oldest first."""
        with self.file.reading(create=True) as connection:
            return _items(connection, last=last)

    def events(
        self, *, now: datetime, last: int = 50, headlines: int = 5, before: tuple[datetime, str] | None = None
    ) -> list[EventRow]:
        """The latest events, the newest first; with `before`, those behind the one of this opening and name."""
        opened, name = (LAST_NUMBER, "") if before is None else (stamp(before[0]), before[1])
        with self.file.reading(create=True) as connection:
            quiet = read_plan(connection).events.quiet
            rows = connection.execute(
                "SELECT record FROM event WHERE opened_at < ? OR (opened_at = ? AND name > ?) "
                "ORDER BY opened_at DESC, name LIMIT ?",
                (opened, opened, name, last),
            )
            found = [Event.from_record(json.loads(record)) for (record,) in rows.fetchall()]
            return [
                EventRow(
                    event=event,
                    phase=event.phase(now, quiet=quiet),
                    headlines=_headlines_of(connection, event.name, headlines),
                )
                for event in found
            ]

    def held(self, key: str) -> int:
        """How many headlines came with a key."""
        with self.file.reading(create=True) as connection:
            (count,) = connection.execute("SELECT count(*) FROM item WHERE key = ?", (key,)).fetchone()
            return int(count)

    def erase(self, key: str) -> int:
        """Forget the headlines that came with a key, also in what the file leaves free; returns how many."""
        return self._delete("key = ?", key)

    def prune(self, *, before: datetime, keep: int) -> int:
        """Forget headlines older than this; the newest `keep` stay, for the watch is made of them."""
        limit = "number <= (SELECT coalesce(max(number), 0) - ? FROM item) AND at < ?"
        return self._delete(limit, keep, stamp(before))

    def _delete(self, condition: str, *values: Any) -> int:
        with self.file.writing() as connection:
            gone = connection.execute(f"DELETE FROM item WHERE {condition}", values).rowcount
            if gone:
                keep_setting(connection, "generation", str(int(setting(connection, "generation") or 0) + 1))
        if gone:
            self.file.wipe()
        return gone

    def _caught_up(self, connection: sqlite3.Connection) -> EventWatch:
        """The watch with everything that other routers wrote."""
        of = plan_parts(connection)
        if self._watch is None or of != self._of:
            self._plan, self._of = read_plan(connection), of
            self._watch = EventWatch(self._plan.events)
            seen, items = 0, _items(connection, last=self._watch.kept_items)
        else:
            seen, items = self._seen, _items(connection, after=self._seen)
        for item in items:
            self._watch.recall(item)
        if items or not seen:
            rows = connection.execute("SELECT record FROM event WHERE open ORDER BY opened_at, name").fetchall()
            members = connection.execute(
                "SELECT item.number, event.name FROM event JOIN item ON item.event = event.name WHERE event.open"
            )
            self._watch.reopen((Event.from_record(json.loads(record)) for (record,) in rows), dict(members.fetchall()))
        self._seen = max([seen, *(item.number for item in items)])
        return self._watch

    def _note(self, connection: sqlite3.Connection, watch: EventWatch, headline: Observed) -> Noted:
        item = self._item(connection, headline)
        sighting = watch.see(item)
        self._seen = item.number
        event = sighting.event
        connection.execute(
            "UPDATE item SET copy_of = ?, event = ?, score = ? WHERE number = ?",
            (sighting.item.copy_of, "" if event is None else event.name, sighting.surprise.own, item.number),
        )
        if event is not None:
            _save(connection, sighting, event)
        raise_alerts(connection, self._plan, sighting, headline.opinions or {"": headline.label})
        return Noted(
            event="" if event is None else event.name,
            phase="" if sighting.phase is None else sighting.phase.value,
            alert=standing_alert(connection, item.number, "" if event is None else event.name),
        )

    def _item(self, connection: sqlite3.Connection, headline: Observed) -> Item:
        """The headline as the watch sees it, and as it will see it again: places in half precision."""
        words, tokens = words_of(headline.text), tokens_of(headline.text)
        place = None if headline.place is None else headline.place.astype(np.float16)
        tone = self._plan.tone(headline.scores)
        number = connection.execute(
            "INSERT INTO item (prediction_id, at, source, key, text, label, opinions, words, tokens, tone, encoder, "
            "place, event, score) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0)",
            (
                headline.prediction_id,
                stamp(headline.at),
                headline.source,
                headline.key,
                headline.text,
                headline.label,
                json.dumps(dict(headline.opinions), ensure_ascii=False),
                json.dumps(sorted(words), ensure_ascii=False),
                json.dumps(sorted(tokens), ensure_ascii=False),
                tone,
                headline.encoder,
                None if place is None else place.tobytes(),
            ),
        ).lastrowid
        return Item(
            number=number or 0,
            at=headline.at,
            source=headline.source,
            words=words,
            tokens=tokens,
            tone=tone,
            encoder=headline.encoder,
            place=None if place is None else place.astype(np.float32),
        )


def _save(connection: sqlite3.Connection, sighting: Sighting, event: Event) -> None:
    connection.execute(
        "INSERT INTO event (name, opened_at, record, open) VALUES (?, ?, ?, 1) "
        "ON CONFLICT (name) DO UPDATE SET record = excluded.record",
        (event.name, stamp(event.opened_at), json.dumps(event.to_record(), ensure_ascii=False)),
    )
    connection.executemany(
        "UPDATE item SET event = ? WHERE number = ?", [(event.name, number) for number in sighting.opened]
    )


def _close_others(connection: sqlite3.Connection, watch: EventWatch) -> None:
    names = [event.name for event in watch.events()]
    marks = ", ".join("?" * len(names))
    connection.execute(f"UPDATE event SET open = 0 WHERE open AND name NOT IN ({marks})", names)


def _items(connection: sqlite3.Connection, *, last: int = 0, after: int = -1) -> list[Item]:
    """Headlines, oldest first: the last originals, or all after a number."""
    if after >= 0:
        rows = connection.execute(f"SELECT {_KEPT} FROM item WHERE number > ? ORDER BY number", (after,)).fetchall()
    else:
        latest = f"SELECT {_KEPT} FROM item WHERE copy_of IS NULL ORDER BY number DESC LIMIT ?"
        rows = connection.execute(latest, (last,)).fetchall()[::-1]
    return [_read(row) for row in rows]


def _read(row: Sequence[Any]) -> Item:
    number, at, source, words, tokens, tone, encoder, place, copy_of, surprise = row
    return Item(
        number=number,
        at=moment(at),
        source=source,
        words=frozenset(json.loads(words)),
        tokens=frozenset(json.loads(tokens)),
        tone=tone,
        encoder=encoder,
        place=None if place is None else np.frombuffer(place, dtype=np.float16).astype(np.float32),
        copy_of=copy_of,
        surprise=surprise,
    )


def _headlines_of(connection: sqlite3.Connection, event: str, most: int) -> tuple[tuple[datetime, str, str], ...]:
    rows = connection.execute(
        "SELECT at, source, text FROM item WHERE event = ? AND copy_of IS NULL ORDER BY number DESC LIMIT ?",
        (event, most),
    ).fetchall()
    return tuple((moment(at), source, text) for at, source, text in rows)
