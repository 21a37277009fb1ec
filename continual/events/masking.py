"""The words of a headline that can tell of an event: no numbers, prices or dates, nothing that every headline has."""

import re
import unicodedata

__all__ = ["tokens_of", "words_of"]

_WEB = re.compile(r"https?://\S+|www\.\S+|\b(?:AT_USER|URL)\b|[@]\w+|\brt\b", re.IGNORECASE)
_NUMBER = re.compile(r"[$\u20ac\u00a3\u00a5\u20b9#]?\s?\d[\d.,:/%\u2013-]*\w*")
_DOTTED = re.compile(r"\b(?:[a-z]\.){2,}")
_TOKEN = re.compile(r"[^\W\d_](?:[^\W\d_]|['\u2019&-](?=[^\W\d_]))*")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af]+")
_LEAST_LETTERS = 3
_EVERYWHERE = """
    the and for with from its are was were been this that than then into out off over under about per via not has have
    had will may might can could would should more most less new near after before amid ahead here what why how who when
    while you your our his her their they but all any also still just
    der die das und f\u00fcr mit von den dem des ein eine auf nach bei aus als auch noch sich
    les une pour avec sur dans par aux est qui que los las del una por para con como
"""
_CALENDAR = """
    jan feb mar apr may jun jul aug sep sept oct nov dec january february march april june july august september october
    november december monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri today tomorrow
    yesterday day days week weeks weekly month months monthly year years annual quarter quarterly
"""
_PRICES = """
    says say said report reports reported price prices trade trades traded trading trader traders close closes closed
    closing open opens opened opening end ends ended ending settle settles settled settlement session sessions contract
    contracts future futures ounce ounces gram grams gms barrel shares share stock stocks market markets higher lower
    high low highs lows rise rises rose rising fall falls fell falling gain gains gained drop drops dropped slip slips
    edge edges edged ease eases eased jump jumps jumped slide slides climbs climb down steady flat mixed pct percent
"""
_BOILERPLATE = frozenset(" ".join((_EVERYWHERE, _CALENDAR, _PRICES)).split())


def tokens_of(text: str) -> frozenset[str]:
    """Everything that a text says, folded: two texts with nearly the same tokens are copies of one another.

    >>> sorted(tokens_of("Gold at $1,250.30! https://t.co/x"))
    ['$1,250.30', 'at', 'gold']
    """
    folded = _WEB.sub(" ", unicodedata.normalize("NFKC", text)).casefold()
    numbers = {match[0].strip(".,:/ ") for match in _NUMBER.finditer(folded)}
    return frozenset(numbers | _spelt(_NUMBER.sub(" ", folded)))


def words_of(text: str) -> frozenset[str]:
    """The words by which headlines of one event are alike; pairs of characters where words are not spaced.

    >>> sorted(words_of("Gold ends 2% higher at $1,250 as U.S. votes on Brexit"))
    ['brexit', 'gold', 'votes']
    >>> sorted(words_of("\u91d1\u4ef7\u4e0a\u6da8"))
    ['\u4e0a\u6da8', '\u4ef7\u4e0a', '\u91d1\u4ef7']
    """
    folded = _WEB.sub(" ", unicodedata.normalize("NFKC", text)).casefold()
    spelt = _spelt(_NUMBER.sub(" ", folded)) - _BOILERPLATE
    return frozenset(word for word in spelt if len(word) >= _LEAST_LETTERS or _UNSPACED.match(word))


def _spelt(folded: str) -> set[str]:
    rest = _DOTTED.sub(lambda match: match[0].replace(".", "") + " ", folded)
    found: set[str] = set()
    for run in _UNSPACED.findall(rest):
        found.update(run[place : place + 2] for place in range(max(1, len(run) - 1)))
    rest = _UNSPACED.sub(" ", rest)
    found.update(word for word in _TOKEN.findall(rest))
    return found
