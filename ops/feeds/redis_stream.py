"""A stream of a Redis server: its new entries, from where it was left."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from perennial.continual.errors import DataError, DependencyUnreachable
from perennial.ops.feeds.feed_item import FeedItem, FeedPart, item_of_row

__all__ = ["read_stream"]

_BEGINNING = "0-0"
_NEEDED = "pip install 'perennial-serving[redis]'"


def read_stream(
    url: str, stream: str, mark: str, *, now: datetime, timeout_s: float, most_items: int, secret: str = ""
) -> FeedPart:
    """At most so many entries after the mark, which is the identifier of the last one that was read.

    Nothing is taken off the stream, so that a reader that ended in between goes on from its mark; what the publisher
    has trimmed meanwhile is gone. An entry has the fields of a row: `text` and where known `id`, `source`,
    `published_at` and `symbols`.

    Args:
        url: `redis://host:port/database`, or `rediss://` over TLS.
        stream: its key.
        mark: of the last part; empty at first.
        now: no entry may be published after it.
        timeout_s: for the connection, and for the answer.
        most_items: of one part.
        secret: the server's password, where it asks for one.

    Raises:
        DependencyUnreachable: nobody answers, or not as Redis does; or the package `redis` is missing.
        DataError: the key holds something that is no stream, or the address is none.
    """
    try:
        import redis
    except ImportError as exc:
        raise DependencyUnreachable(f"a feed by Redis needs the package redis; {_NEEDED}") from exc
    try:
        client = redis.Redis.from_url(
            url, password=secret or None, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, protocol=2
        )
        with client:
            read: Any = client.xread({stream: mark or _BEGINNING}, count=most_items)
    except redis.ResponseError as exc:
        raise DataError(f"feed stream {stream!r} cannot be read ({exc}); see that this key holds a stream") from exc
    except ValueError as exc:
        raise DataError(f"feed address is none of Redis ({exc}); write redis://host:6379/0") from exc
    except redis.RedisError as exc:
        raise DependencyUnreachable(f"feed stream {stream!r} cannot be read ({exc}); see that Redis runs") from exc
    entries = [entry for _, found in read for entry in found]
    items = [_item(fields, now) for _, fields in entries]
    good = [item for item in items if item is not None]
    last = entries[-1][0].decode() if entries else mark
    return FeedPart(items=tuple(good), mark=last, refused=len(items) - len(good))


def _item(fields: Mapping[bytes, bytes], now: datetime) -> FeedItem | None:
    """The item of an entry; None where it is none."""
    row = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}
    try:
        return item_of_row(row, now)
    except (KeyError, ValueError, DataError):
        return None
