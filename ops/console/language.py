"""The languages of the console, and which one a browser asks for."""

from perennial.ops.console.words import CATALOGUES

__all__ = ["DEFAULT_LANGUAGE", "chosen_language"]

DEFAULT_LANGUAGE = "en"
_LONGEST = 1_000  # characters of the header that are looked at


def chosen_language(accepted: str | None) -> str:
    """Return the language, among those that there are, that the header `Accept-Language` likes best.

    >>> chosen_language("zh-CN,zh;q=0.9,en;q=0.8"), chosen_language("fr, en;q=0.5"), chosen_language(None)
    ('zh', 'en', 'en')
    >>> chosen_language("en;q=0.4, zh-Hant;q=0.7"), chosen_language("zh;q=0, *"), chosen_language(";;q=x,")
    ('zh', 'en', 'en')
    """
    best, liked = DEFAULT_LANGUAGE, 0.0
    for entry in (accepted or "")[:_LONGEST].split(","):
        name, _, weight = entry.partition(";")
        language = name.strip().lower().partition("-")[0]
        if language in CATALOGUES and (quality := _quality(weight)) > liked:
            best, liked = language, quality
    return best


def _quality(weight: str) -> float:
    name, _, value = weight.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0
