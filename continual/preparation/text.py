"""Cleaning, comparing and splitting texts by what they say."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from perennial.continual.identity import number_of, split_by
from perennial.continual.preparation.characters import without_hidden
from perennial.continual.records import Example, Split

__all__ = ["Contradiction", "Deduplicated", "clean", "deduplicate", "fold_width", "normalise", "row_hash", "split_of"]

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # signs, digits and letters of ASCII in full width
_LETTER = r"[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]"  # or digit
_SIGN = r"[\uff02-\uff07\uff0a\uff0b\uff0d-\uff0f\uff1c-\uff1e\uff20\uff3b-\uff40\uff5b-\uff5d]"  # but for Chinese ones
_FOLDED = re.compile(f"(?<={_LETTER}){_SIGN}(?={_LETTER})|{_LETTER}+")


def clean(text: str) -> str:
    r"""The text as a model should see it: NFC, no control or hidden characters, single spaces; case is kept.

    >>> clean("  My\tcard\u200b\n was  lost\x00 ")
    'My card was lost'
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    while (again := _cleaned(text)) != text:  # what leaves may bring together what composes, or hides, anew
        text = again
    return text


def _cleaned(text: str) -> str:
    composed = unicodedata.normalize("NFC", text)
    kept = "".join(_visible(character) for character in composed)
    return " ".join(unicodedata.normalize("NFC", without_hidden(kept)).split())


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) in {"Cc", "Cs"} else character


def fold_width(text: str) -> str:
    """The text with letters and digits of full width, which Chinese and Japanese keyboards write, as those of ASCII.

    A sign is folded between two of them alone, as in an address or a number. Chinese punctuation stays everywhere.
    Nothing else of NFKC is done, which would also take superscripts, fractions and ligatures apart.

    >>> fold_width("ＡＰＰ，１２．５％"), fold_width("好，很好！")
    ('APP，12.5％', '好，很好！')
    """
    return text if text.isascii() else _FOLDED.sub(lambda match: match[0].translate(_WIDE), text)


def normalise(text: str) -> str:
    """The form under which two texts count as the same row; for hashing and comparing, never for a model.

    >>> normalise("My CARD  was lost") == normalise("my card was lost ")
    True
    """
    return clean(unicodedata.normalize("NFKC", clean(text)).casefold())


def row_hash(text: str, *, salt: str = "") -> int:
    """A stable 64-bit number for the normalised text; the same on every machine and in every process."""
    return number_of(normalise(text).encode(), salt=salt)


def split_of(text: str, *, holdout_share: float = 0.1, salt: str = "") -> Split:
    """What a row may be used for, decided by its normalised text alone.

    A repeated text can therefore never be in both splits; growing `holdout_share` only moves rows into the hold-out.

    Raises:
        ConfigurationError: `holdout_share` is outside [0, 1].

    >>> split_of("my card was lost") is split_of("My card  was LOST")
    True
    >>> split_of("anything", holdout_share=1.0).value
    'holdout'
    """
    return split_by(normalise(text).encode(), holdout_share=holdout_share, salt=salt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """One text that came with more than one label.

    >>> Contradiction(text="card lost", kept="lost_card", dropped=("fee",)).kept
    'lost_card'
    """

    text: str
    kept: str
    dropped: tuple[str, ...]  # sorted, without the kept one


@dataclass(frozen=True, slots=True, kw_only=True)
class Deduplicated:
    """Rows without repeats, and what the repeats disagreed on.

    >>> Deduplicated(examples=(), contradictions=(), repeats=0).repeats
    0
    """

    examples: tuple[Example, ...]
    contradictions: tuple[Contradiction, ...]
    repeats: int  # rows that were left out


def deduplicate(examples: Iterable[Example]) -> Deduplicated:
    """One row per normalised text: the newest one; on equal times the later in the input.

    Rows keep the place at which their text was first seen.

    >>> from datetime import datetime, timezone
    >>> old = Example(text="Card lost", label="fee", at=datetime(2026, 1, 1, tzinfo=timezone.utc))
    >>> new = Example(text="card  lost", label="lost_card", at=datetime(2026, 1, 2, tzinfo=timezone.utc))
    >>> deduplicated = deduplicate([new, old])
    >>> [row.label for row in deduplicated.examples], deduplicated.contradictions[0].dropped
    (['lost_card'], ('fee',))
    """
    newest: dict[str, Example] = {}
    labels: dict[str, set[str]] = {}
    rows = 0
    for example in examples:
        rows += 1
        text = normalise(example.text)
        labels.setdefault(text, set()).add(example.label)
        kept = newest.get(text)
        if kept is None or example.at >= kept.at:
            newest[text] = example
    contradictions = tuple(
        Contradiction(
            text=newest[text].text, kept=newest[text].label, dropped=tuple(sorted(seen - {newest[text].label}))
        )
        for text, seen in labels.items()
        if len(seen) > 1
    )
    return Deduplicated(examples=tuple(newest.values()), contradictions=contradictions, repeats=rows - len(newest))
