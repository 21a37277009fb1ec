"""Scripts of letters: what a text is written in, by the names that Unicode gives to its characters."""

import unicodedata
from functools import lru_cache

__all__ = ["SCRIPTS", "script_of", "scripts_of"]

SCRIPTS = (
    "arabic", "armenian", "bengali", "cyrillic", "devanagari", "ethiopic", "georgian", "greek", "gujarati", "gurmukhi",
    "han", "hangul", "hebrew", "kana", "kannada", "khmer", "lao", "latin", "malayalam", "myanmar", "oriya", "sinhala",
    "tamil", "telugu", "thai",
)  # fmt: skip
"""Those that the multilingual encoder has words of."""

_CALLED = {"cjk": "han", "ideographic": "han", "bopomofo": "han", "hiragana": "kana", "katakana": "kana"}
_FORMS = frozenset({"fullwidth", "halfwidth", "circled", "parenthesized", "squared", "mathematical", "double-struck"})


@lru_cache(maxsize=1 << 17)
def script_of(character: str) -> str:
    """The script of a letter or of a mark that belongs to one; empty for what all scripts share, digits and emoji too.

    >>> script_of("a"), script_of("я"), script_of("银"), script_of("カ"), script_of("7")
    ('latin', 'cyrillic', 'han', 'kana', '')
    """
    if character < "\x80":
        return "latin" if character.isalpha() else ""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    first = unicodedata.name(character, "").split(" ", 1)[0].split("-", 1)[0].lower()
    if first in _FORMS:
        plain = unicodedata.normalize("NFKC", character)
        return script_of(plain[0]) if plain != character else ""
    named = _CALLED.get(first, first)
    return named if named in SCRIPTS else _other(named, character)


def scripts_of(text: str) -> frozenset[str]:
    """The scripts that the text's letters belong to.

    >>> sorted(scripts_of("我的 card, пожалуйста 😀"))
    ['cyrillic', 'han', 'latin']
    """
    return frozenset(filter(None, map(script_of, set(text))))


def _other(named: str, character: str) -> str:
    """A script that the encoder has no words of, or nothing for marks and letters that no script owns."""
    return "" if unicodedata.category(character)[0] == "M" or named in {"modifier", "feminine", "masculine"} else named
