"""A second opinion on whether a rewrite changed a fact, by other means than the guard's: lists of what stands in it.

It knows nothing of order or grammar. It looks for the numbers, links, addresses, variables, names, negations and
promises of one text in the other, each as often.
"""

import re
import unicodedata
from collections import Counter

__all__ = ["changed_facts"]

_KINDS = {
    "link": r"https?://\S+|www\.\S+",
    "address": r"[A-Za-z0-9.+-]+@[A-Za-z0-9.-]+\.[A-Za-z]+",
    "variable": r"\{+\w+\}+",
    "number": r"\d+",
    "percentage": r"%|percent",
    "currency": r"[$€£¥]|\b(?:EUR|USD|GBP|dollars?|pounds?)\b|元",
    "month": r"\b(?:January|February|March|April|June|July|August|September|October|November|December)\b",
    "negation": r"\b(?:not|no|never|none|nothing|cannot|without|unless|only|except)\b|n't\b|不|没|未|无|别",
    "modality": r"\b(?:must|should|may|might|will|until|before|after|within|if)\b|将|必须|如果|以外|超过",
    "promise": r"\b(?:guarantee|promise|refund|free|waive|always|immediately|compensat)\w*|保证|赔偿|免费",
}
_NUMERALS = {"一": "1", "二": "2", "两": "2", "三": "3", "四": "4", "五": "5", "十": "10", "八": "8"}
_HARMLESS = (
    r"(?:do not|don't) hesitate", r"feel free", r"if you have any (?:other )?questions", r"no problem",
)  # fmt: skip


def changed_facts(approved: str, rewritten: str, name: str = "") -> list[str]:
    """What the rewrite lacks or adds, in words; nothing where no fact was changed.

    >>> changed_facts("It costs $5.", "It costs $50.")
    ['number 5 is gone', 'number 50 was added']
    """
    before, after = _facts(approved, ""), _facts(rewritten, name)
    gone = [f"{kind} {value} is gone" for kind, value in (before - after).elements()]
    added = [f"{kind} {value} was added" for kind, value in (after - before).elements()]
    names = {
        word for word in re.findall(r"\b[A-Z][a-z]+\b", approved) if approved.count(word) and _is_inside(word, approved)
    }
    lost = [f"name {word} is gone" for word in sorted(names) if word.casefold() not in rewritten.casefold()]
    return [*gone, *added, *lost]


def _facts(text: str, name: str) -> Counter[tuple[str, str]]:
    left = unicodedata.normalize("NFKC", text).replace("’", "'")
    for numeral, digits in _NUMERALS.items():
        left = re.sub(f"{numeral}(?=[天八元])", digits, left)
    for harmless in _HARMLESS:
        left = re.sub(harmless, " ", left, flags=re.IGNORECASE)
    if name:
        left = left.replace(name, " ", 1)
    left = re.sub(r"\b(can)'t\b", r"\1 not", re.sub(r"\bcannot\b", "can not", left), flags=re.IGNORECASE)
    left = re.sub(r"\bwon't\b", "will not", left, flags=re.IGNORECASE)
    left = re.sub(r"n't\b", " not", re.sub(r"'ll\b", " will", left))
    found: Counter[tuple[str, str]] = Counter()
    for kind, pattern in _KINDS.items():
        for match in re.findall(pattern, left, flags=0 if kind == "month" else re.IGNORECASE):
            found[kind, match.casefold().strip(".,;:!?。，！")] += 1
    return found


def _is_inside(word: str, text: str) -> bool:
    """Whether it stands within a sentence: there a capital makes a name of it."""
    return re.search(rf"[^.!?\s]\s+{word}\b", text) is not None
