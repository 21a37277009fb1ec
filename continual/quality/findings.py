"""What labelled rows tell before anything is learnt: small classes, slips in labels, contradictions, leaks, scripts."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from perennial.continual.preparation import Contradiction, deduplicate, normalise, split_of
from perennial.continual.records import Example, Split

__all__ = ["Leak", "RowFindings", "SmallClass", "TwinLabels", "examine_rows"]

_SHORTEST = 4  # characters of a label in which a slip can be told from another word
_MOST_LABELS = 2_000  # among which slips are looked for: more are no names of classes, and would fill the memory
_RARER = 5  # times; a slip is rare beside what was meant
_LISTED = 20
_SCRIPTS = {"CJK": "Han", "HIRAGANA": "Japanese kana", "KATAKANA": "Japanese kana"}
_LEAST_SHARE = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallClass:
    """A class with too few different rows to be learnt."""

    label: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinLabels:
    """Two labels that may be one: the rarer one looks like a slip, or is written alike but for signs."""

    label: str
    rows: int
    like: str
    like_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A held-out text that a training row repeats but for signs and digits."""

    held_out: str
    train: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFindings:
    """What was found in the rows of a file; lists of findings are cut at 20, their counts are whole.

    `scripts` are shares of the letters. `too_small` classes are not learnt.
    """

    rows: int
    different: int
    labels: int
    held_out: int
    too_small: tuple[SmallClass, ...]
    too_small_count: int
    twins: tuple[TwinLabels, ...]
    contradictions: tuple[Contradiction, ...]
    contradiction_count: int
    leaks: tuple[Leak, ...]
    leak_count: int
    scripts: Mapping[str, float]


def examine_rows(examples: Sequence[Example], *, min_class_rows: int, holdout_share: float) -> RowFindings:
    """Examine the rows that a first version is to learn.

    >>> from datetime import UTC, datetime
    >>> rows = [Example(text=f"lost {n}", label="lost card", at=datetime(2026, 1, 1, tzinfo=UTC)) for n in "abcdefg"]
    >>> rows += [Example(text="gone", label="lost_card", at=datetime(2026, 1, 1, tzinfo=UTC))]
    >>> findings = examine_rows(rows, min_class_rows=5, holdout_share=0.1)
    >>> findings.too_small[0].label, findings.twins[0].like, findings.scripts
    ('lost_card', 'lost card', {'Latin': 1.0})
    """
    whole = deduplicate(examples)
    counts = Counter(row.label for row in whole.examples)
    small = [SmallClass(label=label, rows=rows) for label, rows in counts.items() if rows < min_class_rows]
    train, held = list[Example](), list[Example]()
    for row in whole.examples:
        (held if split_of(row.text, holdout_share=holdout_share) is Split.HOLDOUT else train).append(row)
    leaks = list(_leaks(train, held))
    return RowFindings(
        rows=len(examples),
        different=len(whole.examples),
        labels=len(counts),
        held_out=len(held),
        too_small=tuple(sorted(small, key=lambda each: (-each.rows, each.label))[:_LISTED]),
        too_small_count=len(small),
        twins=tuple(sorted(_twins(counts), key=lambda each: (-each.like_rows, each.label))[:_LISTED]),
        contradictions=whole.contradictions[:_LISTED],
        contradiction_count=len(whole.contradictions),
        leaks=tuple(leaks[:_LISTED]),
        leak_count=len(leaks),
        scripts=_scripts(row.text for row in whole.examples),
    )


def _leaks(train: Iterable[Example], held: Iterable[Example]) -> Iterator[Leak]:
    known: dict[str, str] = {}
    for row in train:
        known.setdefault(_outline(row.text), row.text)
    for row in held:
        outline = _outline(row.text)
        if outline and (same := known.get(outline)) is not None:
            yield Leak(held_out=row.text, train=same)


def _outline(text: str) -> str:
    """What is left of a text without signs and spaces, with one digit for all: as templates and retypings differ."""
    return "".join("0" if c.isdigit() else c for c in normalise(text) if c.isalnum())


def _twins(counts: Mapping[str, int]) -> Iterator[TwinLabels]:
    """Pairs that differ in signs and case alone, and pairs of which the rarer differs by a slip."""
    paired: set[frozenset[str]] = set()
    for group in _alike(counts):
        for label, like in group:
            if label == like or frozenset((label, like)) in paired:
                continue
            rarer, other = sorted((label, like), key=lambda name: (counts[name], name))
            if min(len(_plain(rarer)), len(_plain(other))) < _SHORTEST:
                continue  # "C" and "C#", "+1" and "-1" are meant to differ
            if _plain(rarer) != _plain(other) and not _is_slip(rarer, other, counts):
                continue
            paired.add(frozenset((label, like)))
            yield TwinLabels(label=rarer, rows=counts[rarer], like=other, like_rows=counts[other])


def _alike(counts: Mapping[str, int]) -> Iterator[Iterator[tuple[str, str]]]:
    """Labels that are the same once at most one character is left out of each; of very many, those alike in signs."""
    groups: dict[str, set[str]] = defaultdict(set)
    for label in counts:
        plain = _plain(label)
        groups[plain].add(label)
        if len(plain) >= _SHORTEST and len(counts) <= _MOST_LABELS:
            for place in range(len(plain)):
                groups[plain[:place] + plain[place + 1 :]].add(label)
    for group in groups.values():
        if 1 < len(group) <= _LISTED:
            names = sorted(group)
            yield ((one, other) for place, one in enumerate(names) for other in names[place + 1 :])


def _plain(label: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", label).casefold() if c.isalnum())


def _is_slip(rarer: str, other: str, counts: Mapping[str, int]) -> bool:
    """Whether the rarer label may be the other one misspelt; names that differ in digits are meant to differ."""
    if counts[rarer] * _RARER > counts[other]:
        return False
    digits = ["".join(c for c in name if c.isdigit()) for name in (rarer, other)]
    return digits[0] == digits[1]


def _scripts(texts: Iterable[str]) -> dict[str, float]:
    """The share of each script in the letters, largest first; what is below half a per cent is left out."""
    letters = Counter[str]()
    for text in texts:
        letters.update(c for c in text if c.isalpha())
    scripts = Counter[str]()
    for letter, count in letters.items():
        scripts[_script(letter)] += count
    total = sum(scripts.values())
    return {name: count / total for name, count in scripts.most_common() if count / total >= _LEAST_SHARE}


def _script(letter: str) -> str:
    first = unicodedata.name(letter, "unknown").split(" ")[0].split("-")[0]
    return _SCRIPTS.get(first, first.capitalize())
