"""Rules of a shop that hold for every list: which items are shown to nobody, or to nobody of a segment."""

from dataclasses import dataclass

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking.item_texts import spelt_words

__all__ = ["ItemRule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRule:
    """Items whose texts have one of these words are not shown; `segment` is whom it is about, nothing is everybody.

    >>> rule = ItemRule.of("no horror", "Horror, gore", segment="children")
    >>> rule.words, rule.concerns("children"), rule.concerns("grown-ups")
    (('gore', 'horror'), True, False)
    """

    name: str
    words: tuple[str, ...]
    segment: str = ""

    @classmethod
    def of(cls, name: str, text: str, *, segment: str = "") -> "ItemRule":
        """The rule about the words of a text: a year is that year, and a decade is written out, as "1990s".

        Raises:
            DataError: it has no name, or the text no words.
        """
        words = tuple(sorted(set(spelt_words(text))))
        if not name.strip() or not words:
            raise DataError(f"rule {name!r} is about the words {list(words)}; give a name, and one word at least")
        return cls(name=name, words=words, segment=segment)

    def concerns(self, segment: str) -> bool:
        """Whether it is about users of a segment."""
        return self.segment in {"", segment}
