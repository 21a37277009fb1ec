"""Events and items out of the files that people have, by the one reader of tables."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking.events import Event, Item, Signal, event_of
from perennial.continual.preparation import (
    FileReading,
    Role,
    Table,
    admit_key,
    admit_time,
    clean,
    read_table,
    refuse_rows,
    shown,
)

__all__ = ["EARLIEST", "EventFile", "admit_item", "read_event_file", "read_item_file"]

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # histories of what people liked are older than labels
_NOTHING_STATED = FileReading()
_EVENTS = (
    Role("user", ("user_id", "userid", "customer", "customer_id")),
    Role("item", ("item_id", "itemid", "movieid", "product", "product_id")),
    Role("at", ("timestamp", "ts", "time")),
    Role("signal", ("event",)),
    Role("value"),
    Role("rating", ("stars",)),
    Role("dwell", ("dwell_s", "seconds")),
    Role("segment"),
)
_ITEMS = (
    Role("item", ("name", "item_id", "itemid", "movieid", "product", "product_id")),
    Role("text", ("title", "description")),
    Role("tags", ("genres", "categories", "keywords")),
    Role("language"),
    Role("offered_from"),
    Role("offered_until"),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 1e11  # as seconds it would be the year 5138
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFile:
    """What users did, and the segment of users that a file gives some of them."""

    events: tuple[Event, ...]
    segments: Mapping[str, str] = field(default_factory=dict)


def read_event_file(path: Path, *, reading: FileReading = _NOTHING_STATED, now: datetime | None = None) -> EventFile:
    """The events of a file with `user`, `item` and `at` (ISO 8601, or seconds since 1970; without a zone it is UTC).

    What the user did is `signal` (click, rating, skip, dwell) with its `value`; or `rating`, or `dwell`, as a column of
    its own; else a click. `segment` may name a part of all users.

    Raises:
        DataError, DependencyUnreachable: see `read_table`.
        RowsRefused: rows are wrong; it names each line and its cause.
    """
    table = read_table(path, _EVENTS, reading)
    table.require(("user", "item", "at"))
    moment = now or datetime.now(UTC)
    segments: dict[str, str] = {}

    def event(fields: Mapping[str, str]) -> Event:
        made = _event(fields, moment)
        if segment := admit_key(fields.get("segment"), field="segment"):
            segments[made.user] = segment
        return made

    return EventFile(events=_all(table, event), segments=segments)


def read_item_file(path: Path, *, reading: FileReading = _NOTHING_STATED) -> tuple[Item, ...]:
    """The items of a file with `item`, and where known `text`, `tags`, `language`, `offered_from`, `offered_until`.

    Raises:
        DataError, DependencyUnreachable: see `read_table`; or an item comes twice.
        RowsRefused: rows are wrong; it names each line and its cause.
    """
    table = read_table(path, _ITEMS, reading)
    table.require(("item",))
    items = _all(table, _item)
    times = Counter(item.name for item in items)
    if len(times) != len(items):
        twice = max(times, key=times.__getitem__)
        raise DataError(f"{table.source} has {len(items)} rows of {len(times)} items; {shown(twice)} comes twice")
    if not items:
        raise DataError(f"{table.source} has no items; give at least one")
    return items


def admit_item(raw: object) -> str:
    """An item's name as it is kept, by the rule of keys.

    Raises:
        DataError: it is none.

    >>> admit_item(" film 3 ")
    'film 3'
    """
    name = admit_key(raw, field="item")
    if name is None:
        raise DataError("item is empty; name one")
    return name


def _all(table: Table, made: Callable[[Mapping[str, str]], T]) -> tuple[T, ...]:
    found, bad = table.admitted(lambda row: made(row.fields))
    refuse_rows(table, bad)
    return tuple(found)


def _event(fields: Mapping[str, str], now: datetime) -> Event:
    user = admit_key(fields.get("user"), field="user")
    if user is None:
        raise DataError("user is empty; name one")
    signal, value = _signal(fields)
    at = _timed(fields.get("at", ""), "at")
    if at is None:
        raise DataError("at is empty; say when the user did it")
    known = admit_time(at, now=now, without_zone_is_utc=True, earliest=EARLIEST)
    return event_of(user, admit_item(fields.get("item")), known, signal, value)


def _signal(fields: Mapping[str, str]) -> tuple[Signal, float | None]:
    """What the user did: the row's own signal, or what its columns are."""
    if named := fields.get("signal"):
        try:
            signal = Signal(named.casefold())
        except ValueError:
            raise DataError(f"signal is {shown(named)}; use one of {', '.join(Signal)}") from None
        return signal, _number(fields.get("value") or fields.get(signal.value), signal.value)
    for signal in (Signal.RATING, Signal.DWELL):
        if text := fields.get(signal.value):
            return signal, _number(text, signal.value)
    return Signal.CLICK, None


def _number(text: str | None, field: str) -> float | None:
    try:
        return None if text is None or not text else float(text)
    except ValueError:
        raise DataError(f"{field} is {shown(text)}; give a number") from None


def _item(fields: Mapping[str, str]) -> Item:
    words = " ".join(field for field in (fields.get("text"), fields.get("tags")) if field)
    return Item(
        name=admit_item(fields.get("item")),
        text=clean(words),
        language=clean(fields.get("language", "")),
        offered_from=_timed(fields.get("offered_from", ""), "offered_from"),
        offered_until=_timed(fields.get("offered_until", ""), "offered_until"),
    )


def _timed(text: str, field: str) -> datetime | None:
    """A time of a file: ISO 8601, or a number of seconds or milliseconds since 1970."""
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        try:
            return _EPOCH + timedelta(seconds=number / 1e3 if abs(number) >= _MILLISECONDS_FROM else number)
        except (OverflowError, ValueError):
            raise DataError(f"{field} is {shown(text)}; give seconds since 1970") from None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"{field} is {shown(text)}; write ISO 8601, e.g. 2026-01-31T12:00:00+00:00") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
