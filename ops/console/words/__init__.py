"""What the console says, in each of its languages: the same keys in all of them."""

from collections.abc import Mapping

from perennial.ops.console.words.chinese import CHINESE
from perennial.ops.console.words.english import ENGLISH

__all__ = ["CATALOGUES", "NAMES", "said"]

CATALOGUES: Mapping[str, Mapping[str, str]] = {"en": ENGLISH, "zh": CHINESE}
NAMES: Mapping[str, str] = {"en": "English", "zh": "中文"}


def said(language: str, key: str, **values: object) -> str:
    """Return the words of a key with its values filled in.

    Raises:
        KeyError: no catalogue has the key.
    """
    words = CATALOGUES[language][key]
    return words.format(**values) if values else words
