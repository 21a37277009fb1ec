"""What changes of texts are called, for settings, which load no numpy."""

__all__ = ["CHANGE_NAMES"]

CHANGE_NAMES = (
    "typos",
    "upper case",
    "lower case",
    "no punctuation",
    "white space",
    "emoji",
    "synonyms",
    "look-alikes",
    "full width",
    "traditional characters",
)
