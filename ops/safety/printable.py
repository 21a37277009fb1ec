r"""Text from outside as a terminal may show it: no control, no escape sequence, no change of direction.

A text may hold an escape sequence that clears the screen, writes the clipboard or makes a link, and characters that
turn the direction of the line around. All of them become visible: `\x1b`, `\u202e`. Nothing is lost, and nothing acts.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["json_text", "printable"]

_ACTING = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, escape and C1 among them; tab and line feed are layout
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb"  # hidden, bidirectional, separators
    "\ud800-\udfff"  # halves of pairs, which no terminal can be sent
    "\U000e0000-\U000e0fff"  # tags
    "]"
)
_JOINERS = frozenset("\u200c\u200d")


def printable(text: str, *, one_line: bool = False) -> str:
    r"""The text with everything visible that would act on a terminal.

    Joiners stay where they shape letters or an emoji, as in Persian and Hindi.

    >>> print(printable("\x1b]52;c;ZXZpbA==\x07 card\u202e"))
    \x1b]52;c;ZXZpbA==\x07 card\u202e
    >>> print(printable("one\ntwo", one_line=True))
    one\ntwo
    """
    shown = _ACTING.sub(lambda match: match[0] if _shapes(match) else _escaped(match[0]), text)
    return shown.replace("\n", "\\n").replace("\t", "\\t") if one_line else shown


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""Any value as JSON that reads back the same and acts on no terminal; letters of every language stay readable.

    A record becomes an object of its fields; what JSON has no form for, such as a time, becomes its text.

    >>> print(json_text({"é": "\x9b\u202e"}))
    {"é": "\u009b\u202e"}
    """
    text = json.dumps(value, default=_plain, ensure_ascii=False, indent=indent)
    # what acts can only stand inside a string; the layout's line feeds are none of it
    return _ACTING.sub(lambda match: _json_escaped(match[0]), text)


def _shapes(match: re.Match[str]) -> bool:
    """Whether it is a joiner, or its opposite, that stands where it is needed."""
    if match[0] not in _JOINERS:
        return False
    from perennial.continual.preparation.characters import shapes  # few texts have one, and few commands need the room

    before, after = match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1]
    return match.start() > 0 and shapes(before, after)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return dict(value) if isinstance(value, Mapping) else str(value)


def _escaped(character: str) -> str:
    if ord(character) <= 0xFF:
        return f"\\x{ord(character):02x}"
    return character.encode("ascii", "backslashreplace").decode("ascii")


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
