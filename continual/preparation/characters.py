"""Which characters of a text can be seen, which steer others, and which only hide."""

import re
import unicodedata

__all__ = ["SURROGATE", "has_visible", "shapes", "without_hidden"]

SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair: no UTF-8, and no database, can hold it

# Unicode's Default_Ignorable_Code_Point, the blank Braille cell and the interlinear marks: shown as nothing at all.
_NOT_SHOWN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Of these, the ones that never change what a text says: zero-width spaces, marks of direction, unused controls.
_HIDDEN = frozenset(
    map(
        chr,
        (
            *(0x00AD, 0x061C, 0x200B, 0x200E, 0x200F, 0xFEFF, 0xE0001),
            *range(0x202A, 0x202F),
            *range(0x2060, 0x2070),
            *range(0xFFF0, 0xFFFC),
        ),
    )
)
_JOINERS = frozenset("\u200c\u200d")
_MAY_HIDE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\U000e0000-\U000e007f]")
_FLAG = "\U0001f3f4"  # the black flag, which tags turn into the flag of a region
_VIRAMA = 9  # canonical combining class of the sign that takes a vowel away
_SHAPED = ((0x0530, 0x2000), (0xA800, 0xAC00), (0xFB1D, 0xFE00), (0xFE70, 0xFEFF), (0x10A00, 0x12000))
_PICTURED = ((0x2190, 0x2C00), (0xFE00, 0xFE10), (0x1F000, 0x1FB00), (0xE0020, 0xE0080))
_JOINED = (*_SHAPED, *_PICTURED)
_UNSEEN_KINDS = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})


def has_visible(text: str) -> bool:
    r"""Whether a reader would see anything of the text.

    >>> has_visible("\u200b \u3164\ufe0f"), has_visible("?")
    (False, True)
    """
    return any(
        unicodedata.category(character) not in _UNSEEN_KINDS and _NOT_SHOWN.match(character) is None
        for character in text
    )


def without_hidden(text: str, *, joiners: bool = True) -> str:
    r"""The text without characters that are not shown and say nothing.

    Zero-width joiners and non-joiners stay where they shape a word or an emoji, tags where they make a flag, and
    variation selectors always. With `joiners=False` those go too: for comparing, never for keeping.

    >>> without_hidden("re\u200bfund\u200d"), without_hidden("\u0645\u06cc\u200c\u062e") == "\u0645\u06cc\u200c\u062e"
    ('refund', True)
    """
    if not joiners:
        return _NOT_SHOWN.sub("", text)
    if _MAY_HIDE.search(text) is None:
        return text
    kept: list[str] = []
    for place, character in enumerate(text):
        before = kept[-1] if kept else ""
        if character in _HIDDEN:
            continue
        if character in _JOINERS and not shapes(before, text[place + 1 : place + 2]):
            continue
        if "\U000e0020" <= character <= "\U000e007f" and before != _FLAG and not "\U000e0020" <= before <= "\U000e007f":
            continue
        kept.append(character)
    return "".join(kept)


def shapes(before: str, after: str) -> bool:
    """Whether a joiner between these two characters changes how they look."""
    if not before or before in _JOINERS:
        return False
    if unicodedata.combining(before) == _VIRAMA:
        return True
    return bool(after) and _in(before, _JOINED) and _in(after, _JOINED)


def _in(character: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= ord(character) < end for first, end in ranges)
