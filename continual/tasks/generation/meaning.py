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


_CURRENCIES = "$€£¥₹"
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff〇"
_NUMERAL = "".join((*wording.HAN_DIGITS, *wording.HAN_TENS))
_TOP = "com|org|net|io|co|uk|de|fr|cn|eu|app|dev|info|gov|edu|shop|bank|online|help|example|test"
_TOKEN = re.compile(  # what may repeat is bounded, or a hostile text would take the square of its length
    "|".join(
        f"(?P<{name}>{pattern})"
        for name, pattern in {
            "variable": r"\{\{[^{}\n]{1,80}\}\}|\{[^{}\n]{1,80}\}|%\(\w+\)[sd]|<[A-Za-z_][\w .-]{0,60}>"
            r"|\[[A-Za-z_][\w .-]{0,60}\]|\$\{?[A-Za-z_]\w*\}?|%[A-Za-z_]\w*%",
            "address": r"[\w.+-]{0,64}\w@\w[\w-]*(?:\.\w[\w-]*)+",
            "link": rf"(?:[a-z][a-z0-9+.-]{{0,30}}://|www\.)[^\s<>\"'{_HAN}，。；！？、）)]+"
            rf"|\b[a-z0-9][a-z0-9-]{{0,62}}(?:\.[a-z0-9-]{{1,63}}){{0,8}}\.(?:{_TOP})\b"
            rf"(?:[/?#][^\s<>\"'{_HAN}，。；！？、）)]*)?",
            "share": rf"百分之(?:[{_NUMERAL}]{{1,20}}|\d+(?:\.\d+)?)",
            "numeral": rf"[{_NUMERAL}]{{1,20}}(?=[{wording.HAN_UNITS}])",
            "number": r"(?<!\w)[+\-–]?(?:(?<!\.)\.)?\d+(?:[.,:/\-–—]\d+){0,12}(?![.,:/\-–—]?\d)(?![^\W\d_])",
            "measure": rf"(?:(?<![\w.])[+\-–]?\.?)?\d+(?:[.,]\d+){{0,12}}(?=[{_HAN}]|[^\W\d_]+\b)",
            "minus": rf"(?<!\w)[-–](?=[{_CURRENCIES}]\s?\.?\d)",
            "mixed": rf"(?=[^\W{_HAN}]{{0,64}}\d)[^\W{_HAN}]+(?:-[^\W{_HAN}]+)*",
            "han": f"[{_HAN}]",
            "word": rf"[^\W\d_{_HAN}]+(?:'[^\W\d_{_HAN}]+)*",
            "sign": r"\S|\n",
        }.items()
    ),
    re.IGNORECASE,
)
_ENDS, _DASHES = frozenset(".!?。！？\n"), frozenset("-–—")
_PAUSES = frozenset(",;:、，；：") | _DASHES
_MARKS = ",-."  # what breaks are told as; of several at one place the last of these counts
_SILENT = frozenset("\"'()*`«»„“”‘’「」『』《》【】…|•·\u20e3")
_INVISIBLE = frozenset({"Cf", "Cc", "Co", "Cs", "Cn"})
_ALLOWED_HIDDEN = frozenset("\u200d\ufe0f\ufe0e\n\t\r")  # within an emoji, and white space
_TRAILING = ".,;:!?"
_OVER_A_LINE = ("<super>", "<sub>", "<fraction>", "<circle>")  # characters that may not run into a number before them
_COUNTED = frozenset({"number", "measure"})
_UNIT_MARKS = "'\""  # behind a number: feet and inches, minutes and seconds
_UNIT = 3  # letters of one at most: its capitals count, as in mW and MW
_DIGIT, _TEN = "".join(set(wording.HAN_DIGITS) - set("零〇")), "".join(wording.HAN_TENS)
_VAGUE = re.compile(  # three or five days, one or two hundred, and what may be 120 or 102
    rf"^[{_DIGIT}]{{2}}$|[{_DIGIT}]{{2}}.*[{_TEN}]|[{_TEN}].*[{_DIGIT}]{{2}}|[{_TEN.replace('十', '')}][{_DIGIT}]$"
)
_LONGEST = 40  # tokens of a courtesy at most
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


@lru_cache(maxsize=64)
def meaning(text: str, name: str = "") -> tuple[Said, ...]:
    """What the text says, in order; a greeting of `name` says nothing.

    >>> [said.value for said in meaning("Hi Jo, please don't pay £10 before {day}.", name="Jo")]
    ['not', 'pay', '10', '£', 'before', '{day}']
    """
    return tuple(_settled(_without_courtesies(_telling(_tokens(plain(text))), name)))


def plain(text: str) -> str:
    """The text in one form: of its characters, apostrophes, contractions and polite questions."""
    apart = "".join(map(_apart, text))
    shown = "".join(
        each for each in unicodedata.normalize("NFKC", apart) if unicodedata.category(each) != "Cf" and each != "\ufe0f"
    )
    shown = shown.replace("’", "'").replace("‘", "'").replace("−", "-")
    for pattern, instead in (*wording.CONTRACTIONS, *wording.EQUAL_PHRASES):
        shown = re.sub(pattern, instead, shown, flags=re.IGNORECASE)
    return re.sub(wording.POLITE, r"\1.", shown, flags=re.IGNORECASE)


def _apart(character: str) -> str:
    """A power, an index or a fraction with a space before it: 10² is not 102."""
    kind = unicodedata.decomposition(character).partition(" ")[0]
    return character if kind not in _OVER_A_LINE else f" ^{character}" if kind == "<super>" else f" {character}"


def _tokens(text: str) -> Iterator[Said]:
    """Everything that is said and every break, in order; a currency stands behind its number."""
    currency: Said | None = None
    first, words = True, list[str]()  # whether a sentence begins, perhaps behind a greeting, and its words so far
    counted = False  # whether a number stands before
    for found in _TOKEN.finditer(text):
        for said in _read(found, first=first, counted=counted):
            if (
                said.kind is Kind.SIGN
                and said.value in _CURRENCIES
                and text[said.end : said.end + 2].strip()[:1].isdigit()
            ):
                currency = said
                continue
            yield said
            if currency is not None:
                yield currency
                currency = None
        counted = found.lastgroup in _COUNTED
        ends, pauses = found[0] in _ENDS, found[0] in _PAUSES
        words = [] if ends else words if found.lastgroup == "sign" else [*words, found[0].casefold()]
        greets = pauses and 0 < len(words) <= _GREETING and words[0] in _GREETS
        first = ends or greets or (first and found.lastgroup == "sign")


def _read(found: re.Match[str], *, first: bool, counted: bool) -> Iterator[Said]:
    raw, kind, start, end = found[0], found.lastgroup, found.start(), found.end()

    def said(value: str, of: Kind) -> Said:
        return Said(value, of, start=start, end=end)

    match kind:
        case "variable":
            yield said(raw, Kind.VARIABLE)
        case "address":
            yield said(raw.lower(), Kind.ADDRESS)
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
        case "minus":
            yield said("minus", Kind.SIGN)
        case "mixed":
            yield said(raw, Kind.NAME)
        case "han":
            yield from _han(said, raw)
        case "word":
            yield _word(said, raw, first=first, unit=counted and len(raw) <= _UNIT)
        case _:
            yield from _sign(said, raw, counted=counted)


def _number(raw: str) -> str:
    """A number in one form: thousands without commas, Chinese numerals as digits, dashes alike."""
    if raw[0] in _NUMERAL:
        return raw if _VAGUE.search(raw) else str(_han_number(raw))
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


def _word(said: _Make, raw: str, *, first: bool, unit: bool) -> Said:
    folded = raw.lower()  # not casefold: in Maßen is not in Massen
    named = (folded in _NAMED_TOO and raw[0].isupper() and not first) or (folded in _SHOUTED and raw.isupper())
    if named or (unit and raw != folded and folded not in wording.EQUAL_WORDS):
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


def _sign(said: _Make, raw: str, *, counted: bool = False) -> Iterator[Said]:
    if raw == "?" or (counted and raw in _UNIT_MARKS):
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
    """The tokens without whole sentences of courtesy, and without courtesies before a sentence's first pause."""
    named = greeted(name)
    for sentence in _sentences(tokens):
        left = sentence
        while left:
            whole = [said for said in left if said.kind is not Kind.BREAK] if len(left) <= _LONGEST else left
            if _is_courtesy(whole, named):
                break
            pause = next((place for place, said in enumerate(left) if said.kind is Kind.BREAK), 0)
            vocative = pause > 0 and left[pause].value in _PAUSES and _is_name(left[:pause], named)
            if not pause or not (vocative or _is_courtesy(left[:pause], named)):
                yield from left
                break
            left = left[pause + 1 :]


def _settled(tokens: Iterator[Said]) -> Iterator[Said]:
    """The tokens with one break at most between two of them, and none before the first or behind the last."""
    between: Said | None = None
    begun = False
    for token in tokens:
        if token.kind is not Kind.BREAK:
            if between is not None and begun:
                yield between
            between, begun = None, True
            yield token
            continue
        mark = "." if token.value in _ENDS else "-" if token.value in _DASHES else ","
        if between is None or _MARKS.index(mark) > _MARKS.index(between.value):
            between = token._replace(value=mark)


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
    if len(said) > _LONGEST:
        return False
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
