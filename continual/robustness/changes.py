"""What people do to a text without meaning something else, each as a function of the text and a generator."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from perennial.continual.robustness.words import LOOK_ALIKES, NEIGHBOURS, SYNONYMS, TRADITIONAL

__all__ = ["CHANGES", "Change", "with_synonyms", "with_typos"]

_WORD = re.compile(r"[^\W\d_]+")
_SYNONYM = re.compile("|".join(rf"\b{word}\b" if word.isascii() else word for word in sorted(SYNONYMS, key=len)[::-1]))
_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_SHORTEST = 4  # letters of a word in which a slip leaves the word to be recognised
_EMOJI = ("🙂", "🙏", "😡", "👍", "😭")
_SLIPS = 0.15  # of a text's long words


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that happens to texts; None where a text has nothing for it to change.

    >>> rng = np.random.default_rng(0)
    >>> CHANGES["upper case"].of("my card", rng), CHANGES["synonyms"].of("stop it", rng)
    ('MY CARD', 'halt it')
    """

    name: str
    told: str  # what was done, for a reader of the report
    make: Callable[[str, np.random.Generator], str]

    def of(self, text: str, rng: np.random.Generator) -> str | None:
        """The text as changed."""
        changed = self.make(text, rng)
        return changed if changed != text and changed.strip() else None


def with_typos(text: str, rng: np.random.Generator, *, share: float = _SLIPS) -> str:
    """The text with a slip in about `share` of its long words, and one at least: two letters of ASCII swapped, one left
    out, doubled, or hit beside. Of other scripts two characters are swapped.

    >>> with_typos("no", np.random.default_rng(0))
    'no'
    """
    words = [match for match in _WORD.finditer(text) if len(match[0]) >= _SHORTEST]
    if not words:
        return text
    count = max(1, round(share * len(words)))
    for place in sorted(rng.choice(len(words), size=count, replace=False).tolist(), reverse=True):
        start, end = words[place].span()
        text = text[:start] + _slipped(text[start:end], rng) + text[end:]
    return text


def _slipped(word: str, rng: np.random.Generator) -> str:
    """The first letter stays: people rarely miss it."""
    at = int(rng.integers(1, len(word) - 1))
    kind = int(rng.integers(4)) if word[at].lower() in NEIGHBOURS else 0
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    return word[:at] + str(rng.choice(list(NEIGHBOURS[word[at].lower()]))) + word[at + 1 :]


def with_synonyms(text: str) -> str:
    """The text with the words of the list replaced by others of the same meaning; only in lower case.

    >>> with_synonyms("stop it")
    'halt it'
    """
    return _SYNONYM.sub(lambda match: SYNONYMS[match[0]], text)


def _look_alikes(text: str, rng: np.random.Generator) -> str:
    """A third of the letters that have a look-alike, and one at least."""
    places = [place for place, letter in enumerate(text) if ord(letter) in LOOK_ALIKES]
    if not places:
        return text
    letters = list(text)
    for place in rng.choice(places, size=max(1, len(places) // 3), replace=False).tolist():
        letters[place] = letters[place].translate(LOOK_ALIKES)
    return "".join(letters)


def _spaces(text: str, rng: np.random.Generator) -> str:
    """One space lost, or in a text without any one put in."""
    places = [place for place, letter in enumerate(text) if letter == " "]
    if places:
        at = int(rng.choice(places))
        return text[:at] + text[at + 1 :]
    if len(text) < 2:
        return text
    at = int(rng.integers(1, len(text)))
    return f"{text[:at]} {text[at:]}"


def _emoji(text: str, rng: np.random.Generator) -> str:
    return f"{text} {_EMOJI[int(rng.integers(len(_EMOJI)))]}"


def _bare(text: str, _: np.random.Generator) -> str:
    return re.sub(r"[^\w\s]", "", text)


_ALL = (
    Change(name="typos", told="a slip of the keyboard in about one long word of seven", make=with_typos),
    Change(name="upper case", told="all letters in capitals", make=lambda text, _: text.upper()),
    Change(name="lower case", told="no capitals", make=lambda text, _: text.lower()),
    Change(name="no punctuation", told="signs left out", make=_bare),
    Change(name="white space", told="one space lost, or one too many where there are none", make=_spaces),
    Change(name="emoji", told="an emoji at the end", make=_emoji),
    Change(
        name="synonyms",
        told="words of a small list replaced by others of the same meaning",
        make=lambda text, _: with_synonyms(text),
    ),
    Change(name="look-alikes", told="a third of some letters as Cyrillic ones that look the same", make=_look_alikes),
    Change(
        name="full width",
        told="letters and digits in the full width of Chinese keyboards",
        make=lambda text, _: text.translate(_FULL_WIDTH),
    ),
    Change(
        name="traditional characters",
        told="common simplified Chinese characters in their traditional form",
        make=lambda text, _: text.translate(TRADITIONAL),
    ),
)
CHANGES: Mapping[str, Change] = MappingProxyType({change.name: change for change in _ALL})
