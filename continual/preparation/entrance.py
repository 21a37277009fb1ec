"""The one rule by which texts, labels, keys, times and names come in, whatever the entrance.

A value is brought into its form or refused; it is never kept in two forms. What comes out can be stored by every
database, is found again by the same rule, and passes the rule unchanged.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from perennial.continual.errors import DataError
from perennial.continual.preparation.characters import SURROGATE, has_visible, without_hidden
from perennial.continual.preparation.personal import deidentify
from perennial.continual.preparation.text import clean

__all__ = [
    "CLOCK_SKEW",
    "EARLIEST",
    "KEY_BYTES",
    "LABEL_CHARACTERS",
    "NAME_BYTES",
    "NOTE_CHARACTERS",
    "TEXT_BYTES",
    "AdmittedText",
    "admit_key",
    "admit_label",
    "admit_name",
    "admit_note",
    "admit_prediction_id",
    "admit_text",
    "admit_time",
    "is_spelling_of",
    "key_spellings",
    "shown",
]

TEXT_BYTES = 100_000  # of UTF-8; a model reads a few hundred words of it
LABEL_CHARACTERS = 200
KEY_BYTES = 256
NOTE_CHARACTERS = 500
NAME_BYTES = 100  # a model's name is part of file names, which end at 255 bytes
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
CLOCK_SKEW = timedelta(minutes=5)

_SHOWN_CHARACTERS = 40
_PREDICTION_ID = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[_-]*[A-Za-z0-9][A-Za-z0-9_-]*")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class AdmittedText:
    """A text as it may be kept; `redacted` tells whether personal data was taken out of it."""

    text: str
    redacted: bool


def shown(value: object) -> str:
    r"""A value as a message may quote it: in ASCII, on one line, and short.

    >>> print(shown("a\x00\ud800"))
    'a\x00\ud800'
    """
    if not isinstance(value, str):
        return type(value).__name__
    if len(value) <= _SHOWN_CHARACTERS:
        return ascii(value)
    return f"{value[: _SHOWN_CHARACTERS - 1]!a}... ({len(value)} characters)"


def admit_text(text: object, *, field: str = "text", most_bytes: int = TEXT_BYTES) -> AdmittedText:
    r"""A text as it may be kept: cleaned as training texts are, and without personal data.

    Raises:
        DataError: it is no text, holds half a surrogate pair, shows nothing, or is longer than `most_bytes` of UTF-8.

    >>> admit_text("my\x00 card\u200b, mail jo@example.org")
    AdmittedText(text='my card, mail [email]', redacted=True)
    """
    cleaned = clean(_whole(text, field, most_bytes))
    if not has_visible(cleaned):
        raise DataError(f"{field} is empty or holds nothing that can be seen; give it words, or drop the row")
    kept = deidentify(cleaned)
    while (again := clean(kept)) != kept:  # a placeholder may take the base of a combining character away
        kept = deidentify(again)
    return AdmittedText(_whole(kept, field, most_bytes), kept != cleaned)


def admit_label(label: object, *, field: str = "label") -> str:
    r"""A label in its one form: NFC, single spaces, nothing hidden; so twins that look alike become one label.

    Raises:
        DataError: it is no text, empty, invisible, too long, or holds control characters or half a surrogate pair.

    >>> admit_label(" re\u200bfund  caf\u0065\u0301 ")
    'refund café'
    """
    written = _plain(_whole(label, field, 4 * LABEL_CHARACTERS), field)
    kept = clean(written)
    if not has_visible(kept):
        raise DataError(f"{field} {shown(label)} is empty or holds nothing that can be seen; name the class")
    if len(kept) > LABEL_CHARACTERS:
        raise DataError(
            f"{field} {shown(label)} has {len(kept)} characters; at most {LABEL_CHARACTERS} are allowed, so shorten it"
        )
    return kept


def admit_key(key: object, *, field: str = "key", most_bytes: int = KEY_BYTES) -> str | None:
    r"""A caller's key in its one form, NFC without outer spaces, so that `erase` finds what was kept; blank is none.

    Raises:
        DataError: it is no text, too long, or holds control, hidden or bidirectional characters or half a pair.

    >>> admit_key(" caller-7 "), admit_key("  "), admit_key(None)
    ('caller-7', None, None)
    """
    if key is None:
        return None
    kept = unicodedata.normalize("NFC", _whole(key, field, most_bytes)).strip()
    if not kept:
        return None
    hidden = next((c for c in kept if unicodedata.category(c) == "Cc"), "") or _first_hidden(kept)
    if hidden:
        raise DataError(
            f"{field} {shown(key)} holds U+{ord(hidden):04X}, which cannot be seen; send the id in plain characters"
        )
    return _whole(kept, field, most_bytes)


def key_spellings(key: str) -> tuple[str, ...]:
    r"""Every spelling under which a key may have been kept: the one form, and those from before there was a rule.

    Empty for a blank key. For looking up and erasing, never for keeping.

    >>> key_spellings(" Ren\u00e9 ") == ("Ren\u00e9", " Ren\u00e9 ", "Rene\u0301")
    True
    """
    try:
        admitted = admit_key(key)
    except DataError:  # no entrance lets it in any more, but one may have done so
        admitted = key if _storable(key) else None
    if admitted is None:
        return ()
    return tuple(dict.fromkeys([admitted, key, unicodedata.normalize("NFD", admitted)]))


def is_spelling_of(kept: str, key: str) -> bool:
    r"""Whether a key that was kept is this one, but for outer spaces and the form of its accents.

    >>> is_spelling_of("\t Rene\u0301 ", "Ren\u00e9"), is_spelling_of("René B", "René")
    (True, False)
    """
    return _bare(kept) == _bare(key)


def _bare(key: str) -> str:
    return unicodedata.normalize("NFC", key).strip()


def admit_prediction_id(prediction_id: object, *, field: str = "prediction_id") -> str:
    """A prediction's id as the router gave it: 32 hexadecimal digits in lower case.

    Spaces around it, upper case and the dashes of a UUID are forgiven.

    Raises:
        DataError: it cannot be an id of any prediction.

    >>> admit_prediction_id(" 0199ABCD-0123-4567-89AB-0123456789AB ")
    '0199abcd0123456789ab0123456789ab'
    """
    kept = prediction_id.strip().lower() if isinstance(prediction_id, str) and len(prediction_id) <= 200 else ""
    if _UUID.fullmatch(kept):
        kept = kept.replace("-", "")
    if _PREDICTION_ID.fullmatch(kept) is None:
        raise DataError(
            f"{field} {shown(prediction_id)} is not of the form of an id (32 hexadecimal digits); send the "
            f"PREDICTION_ID that came with the answer"
        )
    return kept


def admit_time(
    at: object,
    *,
    now: datetime,
    field: str = "at",
    without_zone_is_utc: bool = False,
    earliest: datetime = EARLIEST,
) -> datetime:
    """The time at which a label was given, in UTC; none is `now`, and up to five minutes ahead is the skew of a clock.

    Raises:
        DataError: it is no ISO 8601 time, has no zone, or lies before `earliest`, in the future, or off the calendar.

    >>> noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    >>> admit_time("2026-01-31T13:02:00+01:00", now=noon) == noon
    True
    """
    now = now.astimezone(UTC)
    if at is None:
        return now
    moment = _moment(at, field)
    if moment.tzinfo is None:
        if not without_zone_is_utc:
            raise DataError(f"{field} {shown(str(at))} has no time zone; give UTC, e.g. {now:%Y-%m-%dT%H:%M:%SZ}")
        moment = moment.replace(tzinfo=UTC)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError as error:
        raise DataError(f"{field} {shown(str(at))} is beyond the calendar in UTC; {_bounds(now, earliest)}") from error
    if not earliest <= moment <= now + CLOCK_SKEW:
        raise DataError(f"{field} {shown(str(at))} is {_side(moment, earliest)}; {_bounds(now, earliest)}")
    return min(moment, now)


def admit_note(note: object, *, field: str = "reason") -> str:
    """A person's words for the record, on one line, without personal data; controls and hidden characters are left out.

    Raises:
        DataError: it is no text, holds half a surrogate pair, is blank, or is longer than 500 characters.

    >>> admit_note("too slow\\n since noon")
    'too slow since noon'
    """
    kept = deidentify(clean(_whole(note, field, 4 * NOTE_CHARACTERS)))
    if not has_visible(kept) or len(kept) > NOTE_CHARACTERS:
        raise DataError(f"{field} {shown(note)} has {len(kept)} characters; give 1 to {NOTE_CHARACTERS}")
    return kept


def admit_name(name: object, *, field: str = "model name") -> str:
    """A model's name, which becomes part of paths, addresses and names of jobs: ASCII letters, digits, `-` and `_`.

    Raises:
        DataError: it is empty, longer than 100 characters, or holds others.

    >>> admit_name("intent-2")
    'intent-2'
    """
    if not isinstance(name, str) or len(name) > NAME_BYTES or _NAME.fullmatch(name) is None:
        raise DataError(
            f"{field} {shown(name)} is not allowed; it must be 1 to {NAME_BYTES} letters, digits, '-' and '_' of ASCII"
        )
    return name


def _whole(value: object, field: str, most_bytes: int) -> str:
    """The value, where it is text that UTF-8 can hold and that is not too long."""
    if not isinstance(value, str):
        raise DataError(f"{field} is {shown(value)}; it must be text")
    half = SURROGATE.search(value)
    if half is not None:
        raise DataError(
            f"{field}: character {half.start()} is U+{ord(half[0]):04X}, half of a surrogate pair; send UTF-8 text"
        )
    size = len(value) if value.isascii() else len(value.encode())
    if size > most_bytes:
        raise DataError(f"{field} has {size} bytes; at most {most_bytes} are allowed, so shorten it")
    return value


def _storable(value: str) -> bool:
    return "\0" not in value and SURROGATE.search(value) is None


def _plain(value: str, field: str) -> str:
    """The value, where it holds no control character; white space is none."""
    control = next((c for c in value if unicodedata.category(c) == "Cc" and not c.isspace()), None)
    if control is not None:
        raise DataError(f"{field} {shown(value)} holds the control U+{ord(control):04X}; send a name without it")
    return value


def _first_hidden(key: str) -> str:
    """The first character of a key that a reader could not see; nothing where all can be seen."""
    kept = without_hidden(key)
    if kept != key:
        return next(c for place, c in enumerate(key) if kept[place : place + 1] != c)
    return "" if has_visible(key) else key[0]


def _moment(at: object, field: str) -> datetime:
    if isinstance(at, datetime):
        return at
    try:
        if isinstance(at, str) and len(at) <= NAME_BYTES:
            return datetime.fromisoformat(at.strip())
    except ValueError:
        pass
    raise DataError(
        f"{field} {at if isinstance(at, float) else shown(at)} is no time; "
        f"write ISO 8601, e.g. 2026-01-31T12:00:00+00:00"
    )


def _side(moment: datetime, earliest: datetime) -> str:
    return f"before {earliest.year}" if moment < earliest else "in the future"


def _bounds(now: datetime, earliest: datetime) -> str:
    return f"give a time between {earliest:%Y-%m-%d} and now ({now:%Y-%m-%dT%H:%M:%SZ})"
