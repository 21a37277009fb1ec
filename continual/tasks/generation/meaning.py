"""What a reply says, as a sequence: numbers, links, names, negations and every other word that carries something.

Two replies with the same sequence say the same. Courtesies and words that carry nothing are left out of it, and words
that may stand for each other are one. Of languages without a table here every word counts.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from perennial.continual.tasks.generation import wording

__all__ = ["Kind", "Said", "greeted", "hidden", "meaning", "plain"]


class Kind(StrEnum):
    """What a thing that is said is called in a reason."""

    VARIABLE = "variable"
    LINK = "link"
    ADDRESS = "e-mail address"
    NUMBER = "number"
    NAME = "name"
    NEGATION = "negation"
    MODALITY = "condition"
    SIGN = "sign"
    WORD = "word"
    BREAK = "break"


class Said(NamedTuple):
    """One thing that is said. `start` and `end` are its place in the text as `plain` gives it."""

    value: str
    kind: Kind
    start: int = 0
    end: int = 0


_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff〇"
_NUMERAL = "".join((*wording.HAN_DIGITS, *wording.HAN_TENS))
_TOP = "com|org|net|io|co|uk|de|fr|cn|eu|app|dev|info|gov|edu|shop|bank|online|help|example|test"
_TOKEN = re.compile(
    "|".join(
        f"(?P<{name}>{pattern})"
        for name, pattern in {
            "variable": r"\{\{[^{}\n]{1,80}\}\}|\{[^{}\n]{1,80}\}|%\(\w+\)[sd]|<[A-Za-z_][\w .-]{0,60}>"
            r"|\[[A-Za-z_][\w .-]{0,60}\]|\$\{?[A-Za-z_]\w*\}?|%[A-Za-z_]\w*%",
            "address": r"[\w.+-]*\w@\w[\w-]*(?:\.\w[\w-]*)+",
            "link": rf"(?:[a-z][a-z0-9+.-]*://|www\.)[^\s<>\"'{_HAN}，。；！？、）)]+"
            rf"|\b[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)*\.(?:{_TOP})\b(?:[/?#][^\s<>\"'{_HAN}，。；！？、）)]*)?",
            "share": rf"百分之(?:[{_NUMERAL}]+|\d+(?:\.\d+)?)",
            "numeral": rf"[{_NUMERAL}]+(?=[{wording.HAN_UNITS}])",
            "number": r"(?<!\w)[+\-–]?\d+(?:[.,:/\-–—]\d+)*(?![.,:/\-–—]?\d)(?![^\W\d_])",
            "measure": rf"\d+(?:[.,]\d+)*(?=[{_HAN}]|[^\W\d_]+\b)",
            "mixed": rf"(?=[^\W{_HAN}]*\d)[^\W{_HAN}]+(?:-[^\W{_HAN}]+)*",
            "han": f"[{_HAN}]",
            "word": rf"[^\W\d_{_HAN}]+(?:'[^\W\d_{_HAN}]+)*",
            "sign": r"\S|\n",
        }.items()
    ),
    re.IGNORECASE,
)
_ENDS, _PAUSES = frozenset(".!?。！？\n"), frozenset(",;:–—、，；：-")
_SILENT = frozenset("\"'()*`«»„“”‘’「」『』《》【】…|•·\u20e3")
_CURRENCY = frozenset("$€£¥₹")
_INVISIBLE = frozenset({"Cf", "Cc", "Co", "Cs", "Cn"})
_ALLOWED_HIDDEN = frozenset("\u200d\ufe0f\ufe0e\n\t\r")  # within an emoji, and white space
_TRAILING = ".,;:!?"
_WORDS_OF_NAME, _HAN_NAME = 3, 6
_NO_NAMES = frozenset({Kind.ADDRESS, Kind.LINK, Kind.NEGATION, Kind.NUMBER, Kind.SIGN})
_NAMED_TOO = frozenset({"a", "may", "will"})  # Plan A, in May, Mr Will
_SHOUTED = frozenset({"us", "it", "am", "so", "do", "an"})  # the US, of IT
_GREETS = frozenset({"hi", "hello", "hey", "dear", "good", "thank", "thanks"})
_GREETING = 5  # words of one at most


_Make = Callable[[str, Kind], Said]


def hidden(text: str) -> frozenset[str]:
    """Characters that nobody sees, and that can turn a text around or hide a word from a comparison."""
    return frozenset(each for each in text if unicodedata.category(each) in _INVISIBLE) - _ALLOWED_HIDDEN


@lru_cache(maxsize=4_096)
def meaning(text: str, name: str = "") -> tuple[Said, ...]:
    """What the text says, in order; a greeting of `name` says nothing.

    >>> [said.value for said in meaning("Hi Jo, please don't pay £10 before {day}.", name="Jo")]
    ['not', 'pay', '10', '£', 'before', '{day}']
    """
    return tuple(_without_courtesies(_telling(_tokens(plain(text))), name))


def plain(text: str) -> str:
    """The text in one form: of its characters, apostrophes, contractions and polite questions."""
    shown = "".join(
        each for each in unicodedata.normalize("NFKC", text) if unicodedata.category(each) != "Cf" and each != "\ufe0f"
    )
    shown = shown.replace("’", "'").replace("‘", "'").replace("−", "-")
    for pattern, instead in (*wording.CONTRACTIONS, *wording.EQUAL_PHRASES):
        shown = re.sub(pattern, instead, shown, flags=re.IGNORECASE)
    return re.sub(wording.POLITE, r"\1.", shown, flags=re.IGNORECASE)


def _tokens(text: str) -> Iterator[Said]:
    """Everything that is said and every break, in order; a currency stands behind its number."""
    currency: Said | None = None
    first, words = True, list[str]()  # whether a sentence begins, perhaps behind a greeting, and its words so far
    for found in _TOKEN.finditer(text):
        for said in _read(found, first=first):
            if (
                said.kind is Kind.SIGN
                and said.value in _CURRENCY
                and text[said.end : said.end + 2].strip()[:1].isdigit()
            ):
                currency = said
                continue
            yield said
            if currency is not None:
                yield currency
                currency = None
        ends, pauses = found[0] in _ENDS, found[0] in _PAUSES
        words = [] if ends else words if found.lastgroup == "sign" else [*words, found[0].casefold()]
        greets = pauses and 0 < len(words) <= _GREETING and words[0] in _GREETS
        first = ends or greets or (first and found.lastgroup == "sign")


def _read(found: re.Match[str], *, first: bool) -> Iterator[Said]:
    raw, kind, start, end = found[0], found.lastgroup, found.start(), found.end()

    def said(value: str, of: Kind) -> Said:
        return Said(value, of, start=start, end=end)

    match kind:
        case "variable":
            yield said(raw, Kind.VARIABLE)
        case "address":
            yield said(raw.casefold(), Kind.ADDRESS)
        case "link":
            link = raw.rstrip(_TRAILING)
            yield said(link, Kind.LINK)
            for each in raw[len(link) :]:
                yield from _sign(said, each)
        case "share":
            yield said(_number(raw.removeprefix("百分之")), Kind.NUMBER)
            yield said("%", Kind.SIGN)
        case "numeral" | "number" | "measure":
            yield said(_number(raw), Kind.NUMBER)
        case "mixed":
            yield said(raw, Kind.NAME)
        case "han":
            yield from _han(said, raw)
        case "word":
            yield _word(said, raw, first=first)
        case _:
            yield from _sign(said, raw)


def _number(raw: str) -> str:
    """A number in one form: thousands without commas, Chinese numerals as digits, dashes alike."""
    if raw[0] in _NUMERAL:
        return str(_han_number(raw))
    one = re.sub("[–—]", "-", "".join(str(int(each)) if each.isdigit() else each for each in raw))
    return one.replace(",", "") if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", one) else one


def _han_number(raw: str) -> int:
    """The value of a Chinese numeral.

    >>> _han_number("三十"), _han_number("两千零五"), _han_number("十二万"), _han_number("二〇二六")
    (30, 2005, 120000, 2026)
    """
    if not set(raw) & wording.HAN_TENS.keys():
        return int("".join(str(wording.HAN_DIGITS[each]) for each in raw))
    total = part = digit = 0
    for each in raw:
        if each in wording.HAN_DIGITS:
            digit = wording.HAN_DIGITS[each]
            continue
        tens = wording.HAN_TENS[each]
        if tens < 10_000:
            part, digit = part + (digit or 1) * tens, 0
        else:
            total, part, digit = (total + part + digit) * tens, 0, 0
    return total + part + digit


def _han(said: _Make, raw: str) -> Iterator[Said]:
    if raw in wording.HAN_EMPTY:
        return
    value = wording.HAN_EQUAL.get(raw, raw)
    yield said(value, _kind_of(value))


def _word(said: _Make, raw: str, *, first: bool) -> Said:
    folded = raw.casefold()
    if (folded in _NAMED_TOO and raw[0].isupper() and not first) or (folded in _SHOUTED and raw.isupper()):
        return said(raw, Kind.NAME)
    if folded in wording.NUMBER_WORDS:
        return said(wording.NUMBER_WORDS[folded], Kind.NUMBER)
    value = wording.EQUAL_WORDS.get(folded, folded)
    kind = _kind_of(value)
    return said(value, Kind.NAME if kind is Kind.WORD and raw[:1].isupper() and not first else kind)


def _kind_of(value: str) -> Kind:
    if value in wording.NEGATIVE:
        return Kind.NEGATION
    return Kind.MODALITY if value in wording.MODAL else Kind.WORD


def _sign(said: _Make, raw: str) -> Iterator[Said]:
    if raw == "?":
        yield said(raw, Kind.SIGN)
    if raw in _ENDS or raw in _PAUSES:
        yield said(raw, Kind.BREAK)
    elif raw not in _SILENT and raw not in wording.FRIENDLY and raw != "&":
        yield said(raw, Kind.SIGN)


def _telling(tokens: Iterator[Said]) -> Iterator[Said]:
    """The tokens without words that say nothing."""
    for token in tokens:
        if token.kind not in {Kind.WORD, Kind.NAME} or token.value not in wording.SAYS_NOTHING:
            yield token


def _without_courtesies(tokens: Iterator[Said], name: str) -> Iterator[Said]:
    """The tokens without breaks, whole sentences of courtesy, and courtesies before a sentence's first pause."""
    named = greeted(name)
    for sentence in _sentences(tokens):
        left = sentence
        while left:
            whole = [said for said in left if said.kind is not Kind.BREAK]
            if _is_courtesy(whole, named):
                break
            pause = next((place for place, said in enumerate(left) if said.kind is Kind.BREAK), 0)
            vocative = pause > 0 and left[pause].value in _PAUSES and _is_name(left[:pause], named)
            if not pause or not (vocative or _is_courtesy(left[:pause], named)):
                yield from whole
                break
            left = left[pause + 1 :]


def greeted(name: str) -> tuple[str, ...]:
    """Who may be greeted; nobody where it is no name but a sentence, a number or a link."""
    said = [one for one in _tokens(plain(name)) if one.kind is not Kind.BREAK]
    most = _HAN_NAME if re.match(f"[{_HAN}]", name.strip()) else _WORDS_OF_NAME
    if len(said) > most or any(one.kind in _NO_NAMES for one in said):
        return ()
    return tuple(one.value for one in said)


def _sentences(tokens: Iterator[Said]) -> Iterator[list[Said]]:
    sentence: list[Said] = []
    for token in tokens:
        sentence.append(token)
        if token.kind is Kind.BREAK and token.value in _ENDS:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _is_courtesy(said: Sequence[Said], named: tuple[str, ...]) -> bool:
    values = tuple(_folded(one) for one in said)
    if values in _courtesies():
        return True
    whom = tuple(value.casefold() for value in named)
    before = values[: len(values) - len(whom)]
    return bool(whom) and before in _courtesies() and values[len(before) :] == whom


def _is_name(said: Sequence[Said], named: tuple[str, ...]) -> bool:
    return bool(named) and tuple(map(_folded, said)) == tuple(value.casefold() for value in named)


def _folded(said: Said) -> str:
    return said.value.casefold() if said.kind is Kind.NAME else said.value


@lru_cache(maxsize=1)
def _courtesies() -> frozenset[tuple[str, ...]]:
    found = (
        tuple(said.value for said in _telling(_tokens(plain(each))) if said.kind is not Kind.BREAK)
        for each in wording.COURTESIES
    )
    return frozenset(found) - {()}
