"""Personal data out of a text, before the text is stored anywhere."""

import re
import unicodedata
from itertools import pairwise

from perennial.continual.preparation.presidio import asked_for

__all__ = ["PLACEHOLDERS", "deidentify"]

PLACEHOLDERS = ("[url]", "[email]", "[iban]", "[card]", "[phone]", "[number]")

# Letters of scripts that set spaces between words: right before or after these a number is part of a name. Of the
# others, from Thai to the ideographs, a sentence may go on right beside it.
_LETTER = (
    r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff]"
)
_DASHES = "\u2010-\u2015\u2212\ufe58\ufe63"
_UNUSUAL = re.compile(  # full width, dashes, white space, and digits of every script, raised, lowered and circled too
    rf"[\uff01-\uff5e{_DASHES}\u00b2\u00b3\u00b9\u2070-\u2089\u2460-\u2468]|(?![\x00-\x7f])[\s\d]"
)
_DOT = re.compile("(?<=[A-Za-z0-9])[\u00b7\u2022\u2024\u2027\u2219\u22c5\u30fb\u3002\uff61\uff65](?=[A-Za-z0-9])")
_DASH = re.compile(f"[{_DASHES}]")

_HINT = re.compile(r"[@\d]|://")
_URL = re.compile(rf"(?<!{_LETTER})(?:https?|ftp)://[^\s<>\"'\[\]]+", re.IGNORECASE)
_USER_IN_URL = re.compile(
    r"//[^/\s]*@|[?&#;][^\s=?&#;]*+=|/(?:u|users?|accounts?|profiles?|customers?)/", re.IGNORECASE
)
_PLAIN_EMAIL = re.compile(
    rf"(?<!{_LETTER})(?<![.+%'-])[A-Za-z0-9_.+%'-]++@[A-Za-z0-9-]++(?:\.[A-Za-z0-9-]++)++(?!{_LETTER})"
)
_EMAIL = re.compile(r"(?<![\w.+%'-])[\w.+%'-]++@[\w-]++(?:\.[\w-]++)++")
_IBAN = re.compile(rf"(?<!{_LETTER})[A-Z]{{2}}\d{{2}}(?: ?[A-Z0-9]){{11,30}}", re.IGNORECASE)
_OF_STATES = re.compile(  # numbers of people with letters in them
    "|".join(
        rf"(?<!{_LETTER}){number}(?!{_LETTER})"
        for number in (
            r"\d{6}[ -]?\d{4}[ -]?\d{4}[ -]?\d{3}[Xx]",  # China: GB 11643
            r"[A-Za-z]{3}[ABCFGHJLPTabcfghjlpt][A-Za-z]\d{4}[A-Za-z]",  # India: PAN
            r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]",  # Italy: codice fiscale
            r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]",  # United Kingdom: National Insurance
            r"[A-Za-z]{4}\d{6}[HMhm][A-Za-z]{5}[A-Za-z\d]\d",  # Mexico: CURP
        )
    )
)
_NUMBER = re.compile(rf"(?<!{_LETTER})(?:\+ ?|\()?\d[\d ()./\-\u00a0]*\d(?!{_LETTER})")
_DATE = re.compile(r"(?<!\d)(?:\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2\d{4})(?!\d)")
_LOCAL_PHONE = re.compile(r"\(?\d{3}\)?[ .-]{1,2}\d{3}[ .-]\d{4}|\d{3}-\d{4}")
_DOTTED_AMOUNT = re.compile(r"\d{1,3}(?:\.\d{3})+")
_GROUP = re.compile(r"\d+")
_LONG_RUN = re.compile(r"\d{6,}")

_CARD_DIGITS = range(13, 20)
_PHONE_DIGITS = range(9, 16)
_SHORTEST = 7  # of a telephone number; longer runs of plain digits are caught afterwards
_TOO_LONG = 64  # digits; no use in looking for a card number in it
_NUMBER_DIGITS = 9  # a number written in groups, e.g. 123-45-6789
_IBAN_LENGTHS = {  # ISO 13616 registry
    15: "NO", 16: "BE", 18: "DK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "PT", 26: "IS TR", 27: "FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB PL SV", 29: "BR EG PS QA UA",
    30: "JO KW MU", 31: "MT SC", 32: "LC",
}  # fmt: skip
_IBAN_LENGTH = {country: length for length, countries in _IBAN_LENGTHS.items() for country in countries.split()}


def deidentify(text: str) -> str:
    """The text with personal data replaced by typed placeholders: [url], [email], [iban], [card], [phone], [number].

    An IBAN must fit its country's length and checksum, a card number the Luhn check. Six or more digits in a row, and
    nine or more in groups, become [number]. Amounts, dates and short numbers stay. A URL is replaced when it carries
    user data (credentials, a query, a profile path). Digits of every script count, and so do full-width letters and
    signs, and other dashes and dots between digits: a text in which something is found comes back with plain ones.
    Idempotent; a text without digits, `@` or `://` costs one scan. Presidio looks afterwards where it is asked for.

    Source: ISO 13616 (IBAN), ISO/IEC 7812-1 (Luhn), E.164 (at most 15 digits in a telephone number).

    >>> deidentify("I am jo.doe@example.org, card 4111 1111 1111 1111, call +44 20 7946 0958")
    'I am [email], card [card], call [phone]'
    >>> deidentify("a fee of 1,200.50 on 2026-01-31 is too much")
    'a fee of 1,200.50 on 2026-01-31 is too much'
    >>> deidentify("\u7535\u8bdd\uff1a\uff11\uff13\uff18\u20131234\u20135678")
    '\u7535\u8bdd:[number]'
    """
    further = asked_for()
    return _by_rules(text) if further is None else further(_by_rules(text))


def _by_rules(text: str) -> str:
    plain = text if text.isascii() else _plain(text)
    if _HINT.search(plain) is None:
        return text
    found = plain
    while (again := _pass(found)) != found:  # each changing pass removes digits, "@" or "://", so this ends
        found = again
    return text if found == plain else found


def _plain(text: str) -> str:
    """The text with ASCII signs and digits in the place of others that people write numbers and addresses with."""
    return _DOT.sub(".", _UNUSUAL.sub(_as_ascii, text))


def _as_ascii(match: re.Match[str]) -> str:
    character = match[0]
    if "\uff01" <= character <= "\uff5e":  # full width
        return chr(ord(character) - 0xFEE0)
    if character.isdigit():
        return str(unicodedata.digit(character))
    return "-" if _DASH.match(character) else " "


def _pass(text: str) -> str:
    if "://" in text:
        text = _URL.sub(lambda match: "[url]" if _USER_IN_URL.search(match[0]) else match[0], text)
    if "@" in text:
        text = _EMAIL.sub("[email]", _PLAIN_EMAIL.sub("[email]", text))
    text = _OF_STATES.sub("[number]", text)
    text = _IBAN.sub(_without_iban, text)
    text = _NUMBER.sub(_without_number, text)
    return _LONG_RUN.sub("[number]", text)


def _without_iban(match: re.Match[str]) -> str:
    written = match[0]
    length = _IBAN_LENGTH.get(written[:2].upper(), 0)
    places = [place for place, character in enumerate(written) if character != " "]
    if not 0 < length <= len(places):
        return written
    end = places[length - 1] + 1
    compact = written[:end].replace(" ", "").upper()
    if end < len(written) and written[end] != " ":
        return written
    if int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 != 1:
        return written
    return "[iban]" + written[end:]


def _without_number(match: re.Match[str]) -> str:
    written = match[0]
    digits = "".join(_GROUP.findall(written))
    if len(digits) < _SHORTEST:
        return written
    if len(digits) > _TOO_LONG:
        return "[number]"
    card = _card(written)
    if card is not None:
        return f"{written[: card[0]]}[card]{written[card[1] :]}"
    if written[0] == "+" and len(digits) <= _PHONE_DIGITS[-1]:
        return "[phone]"
    date = _DATE.search(written)
    if date is not None:
        before, after = _NUMBER.sub(_without_number, written[: date.start()]), written[date.end() :]
        return before + date[0] + _NUMBER.sub(_without_number, after)
    if _LOCAL_PHONE.fullmatch(written) or (digits[0] == "0" and len(digits) in _PHONE_DIGITS):
        return "[phone]"
    if len(digits) >= _NUMBER_DIGITS and not _DOTTED_AMOUNT.fullmatch(written):
        return "[number]"
    return written


def _card(written: str) -> tuple[int, int] | None:
    """Where in a run of digit groups a card number stands: its first and last place, or None."""
    groups = [match.span() for match in _GROUP.finditer(written)]
    joined = [later[0] - earlier[1] <= 1 for earlier, later in pairwise(groups)]
    for first, (start, _) in enumerate(groups):
        digits = ""
        for last in range(first, len(groups)):
            if last > first and not joined[last - 1]:
                break
            digits += written[slice(*groups[last])]
            if len(digits) > _CARD_DIGITS[-1]:
                break
            if len(digits) in _CARD_DIGITS and _luhn(digits):
                return start, groups[last][1]
    return None


def _luhn(digits: str) -> bool:
    total = 0
    for place, character in enumerate(reversed(digits)):
        value = int(character) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
