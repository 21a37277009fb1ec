"""Rules of a shop that hold for every list: which items are shown to nobody, or to nobody of a segment."""

import re
import unicodedata
from dataclasses import dataclass
from itertools import groupby

from perennial.continual.errors import DataError
from perennial.continual.preparation.characters import without_hidden

__all__ = ["ItemRule", "RuleText"]

_UNSPACED = re.compile(  # scripts that put no spaces between words, and Hangul, whose words end in particles
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
    r"\U00020000-\U0003ffff]"
)
_YEAR = re.compile(r"(?<![0-9a-z_])((?:1[89]|20)\d)\d(?![0-9a-z_])")
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])")  # inside a word: what is behind it is no word of its own
_SKINS = re.compile("[\U0001f3fb-\U0001f3ff]")
_NONE, _WORD, _SIGN = range(3)  # what a character is to a rule


class RuleText:
    """A text as rules read it: full-width and other forms of a letter are one, and a year also says its decade.

    >>> text = RuleText("最新恐怖电影 ＨＯＲＲＯＲ 👍🏽 (1995)")
    >>> [text.has(term) for term in ("恐怖", "horror", "👍", "1990s", "error")]
    [True, True, True, True, False]
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        read = _read(text)
        self._text = " ".join([read, *sorted({f"{decade}0s" for decade in _YEAR.findall(read)})])

    def has(self, term: str) -> bool:
        """Whether the term stands in it: as a whole word where its script has spaces, anywhere where it has none."""
        start = self._text.find(term)
        while start >= 0:
            end = start + len(term)
            if not (_joined(self._text, start - 1, term[0]) or _joined(self._text, end, term[-1])):
                return True
            start = self._text.find(term, start + 1)
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRule:
    """Items whose texts have one of these words are not shown; `segment` is whom it is about, nothing is everybody.

    A word of a script without spaces, such as Chinese, is met wherever its signs stand together, and so is an emoji.

    >>> rule = ItemRule.of("no horror", "Horror, gore", segment="children")
    >>> rule.words, rule.concerns("children"), rule.concerns("grown-ups")
    (('gore', 'horror'), True, False)
    >>> rule.leaves_out(RuleText("A horror film")), rule.leaves_out(RuleText("Horrors"))
    (True, False)
    """

    name: str
    words: tuple[str, ...]
    segment: str = ""

    @classmethod
    def of(cls, name: str, text: str, *, segment: str = "") -> "ItemRule":
        """The rule about the words and emoji of a text: a year is that year, and a decade is written out, as "1990s".

        Raises:
            DataError: it has no name, or the text no words.
        """
        read = _read(text)
        inner = {found.start() for found in _APOSTROPHE.finditer(read)}
        kinds = [_WORD if place in inner else _kind(character) for place, character in enumerate(read)]
        runs = groupby(range(len(read)), kinds.__getitem__)
        words = tuple(sorted({"".join(read[place] for place in run) for kind, run in runs if kind != _NONE}))
        if not name.strip() or not words:
            raise DataError(f"rule {name!r} is about the words {list(words)}; give a name, and one word at least")
        return cls(name=name, words=words, segment=segment)

    def concerns(self, segment: str) -> bool:
        """Whether it is about users of a segment."""
        return self.segment in {"", segment}

    def leaves_out(self, text: RuleText) -> bool:
        """Whether an item of this text is not shown."""
        return any(text.has(word) for word in self.words)


def _read(text: str) -> str:
    """One form of each letter, and no marks that are not seen."""
    plain = _SKINS.sub("", without_hidden(text, joiners=False)).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", plain).casefold())


def _kind(character: str) -> int:
    kind = unicodedata.category(character)
    if character == "_" or kind[0] in "LNM":  # a mark belongs to the letter before it
        return _WORD
    return _SIGN if kind == "So" else _NONE


def _joined(text: str, place: int, edge: str) -> bool:
    """Whether the character at a place goes on the word that ends or begins with `edge`."""
    if not 0 <= place < len(text) or _kind(edge) != _WORD or _UNSPACED.match(edge):
        return False
    return _kind(text[place]) == _WORD and _UNSPACED.match(text[place]) is None
