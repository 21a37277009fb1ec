"""RSS and Atom documents: items out of bytes that somebody else wrote."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from html import unescape
from re import compile as pattern
from xml.etree.ElementTree import Element

from perennial.continual.errors import DataError
from perennial.continual.preparation import clean
from perennial.continual.preparation.characters import has_visible
from perennial.ops.feeds.feed_item import FeedItem, FeedPart

__all__ = ["read_document"]

_TAG = pattern(r"<[^<>]{0,500}>")
_MOST_ITEMS, _MOST_CHARACTERS = 1_000, 2_000
_AHEAD = timedelta(minutes=4)
_EARLIEST = datetime(2000, 1, 2, tzinfo=UTC)


def read_document(body: bytes, *, now: datetime) -> FeedPart:
    """The items of an RSS (0.9 to 2.0) or Atom document, the oldest first; those without a title are refused.

    Entities and document types, with which a small file may grow without end or read others, are refused.

    Raises:
        DataError: it is neither, or not well-formed, or declares what it must not.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root = fromstring(body, forbid_dtd=True)
    except DefusedXmlException as exc:
        raise DataError(
            f"the feed declares entities or a document type ({type(exc).__name__}), which is not read"
        ) from exc
    except (ParseError, ValueError, LookupError) as exc:
        raise DataError(f"the feed is no well-formed XML ({exc}); see that the address is that of the feed") from exc
    if _name(root) not in {"rss", "RDF", "feed"}:
        raise DataError(f"the feed's document is {_name(root)[:40]!r}; RSS and Atom are read")
    entries = [element for element in root.iter() if _name(element) in {"item", "entry"}][:_MOST_ITEMS]
    items = [_item(entry, now) for entry in entries]
    good = [item for item in items if item is not None]
    channel = next((element for element in root.iter() if _name(element) == "channel"), root)
    return FeedPart(items=tuple(good[::-1]), mark="", refused=len(items) - len(good), title=_text(channel, "title"))


def _item(entry: Element, now: datetime) -> FeedItem | None:
    title = _text(entry, "title")
    if not has_visible(title):
        return None
    link = next((child.get("href") or child.text or "" for child in entry if _name(child) == "link"), "")
    return FeedItem(
        text=title,
        identity=_raw(entry, "guid") or _raw(entry, "id") or link.strip() or title,
        source=_text(entry, "source"),
        published_at=next(_times(entry, now), ""),
    )


def _times(entry: Element, now: datetime) -> Iterator[str]:
    """The time of an entry, where it tells one that can be; a clock may be ahead, but not by much."""
    for name in ("pubDate", "published", "date", "updated"):
        written = _raw(entry, name)
        if not written:
            continue
        try:
            at = datetime.fromisoformat(written) if written[:4].isdigit() else parsedate_to_datetime(written)
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, OverflowError):
            continue
        if _EARLIEST <= at <= now + _AHEAD:
            yield at.isoformat()


def _raw(entry: Element, name: str) -> str:
    return next(((child.text or "").strip() for child in entry if _name(child) == name), "")[:_MOST_CHARACTERS]


def _text(entry: Element, name: str) -> str:
    """A child's text, without markup that was written as text."""
    child = next((child for child in entry if _name(child) == name), None)
    if child is None:
        return ""
    whole = "".join(child.itertext())[: 4 * _MOST_CHARACTERS]
    return clean(unescape(_TAG.sub(" ", unescape(whole))))[:_MOST_CHARACTERS].strip()


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]
