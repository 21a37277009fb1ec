"""Texts that differ only in who seems to write: swapped names, and the wording of another region or group."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perennial.continual.fairness.names import CHINESE_NAMES, DIALECTS, ENGLISH_NAMES
from perennial.continual.intervals import Interval, bonett_price, wilson

__all__ = ["ProbedGroup", "probe_dialects", "probe_names"]

Answers = Callable[[Sequence[str]], Sequence[str]]
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedGroup:
    """One group beside the one that it is compared with: the share of texts whose answer turns with the group.

    `floor` is the share that turns with another name of the same group, and `beyond` what the swap turns more than
    that; None where nothing of that kind can be asked. `lost` is the accuracy lost, with a paired interval.
    """

    probe: str
    group: str
    beside: str
    rows: int
    changed: Interval
    lost: Interval
    floor: float | None = None
    beyond: Interval | None = None


def probe_names(texts: Sequence[str], labels: Sequence[str], answers: Answers, *, seed: int) -> tuple[ProbedGroup, ...]:
    """Answers to each text as written by somebody of each group.

    A name of the lists that stands in a text is replaced; else the text is introduced by a sentence with the name.

    >>> def answers(texts): return ["a" if "Emily" in text or "Greg" in text else "b" for text in texts]
    >>> found = probe_names(["my card"] * 9, ["a"] * 9, lambda texts: ["a"] * len(texts), seed=0)
    >>> [(each.group, each.changed.mean) for each in found][:2]
    [('white American, other sex', 0.0), ('Black American', 0.0)]
    """
    found: list[ProbedGroup] = []
    for names, introduced, chinese in ((ENGLISH_NAMES, "This is {}. {}", False), (CHINESE_NAMES, "我叫{}。{}", True)):
        places = [place for place, text in enumerate(texts) if bool(_CHINESE.search(text)) is chinese]
        if not places:
            continue
        rng = np.random.default_rng([seed, int(chinese)])
        first, *others = names
        which = rng.integers(0, len(names[first]), size=len(places)).tolist()
        beside = [(number + 2) % len(names[first]) for number in which]  # another one of the same sex
        truth = [labels[place] for place in places]

        own = [texts[place] for place in places]
        swap = _Swap(names, introduced)
        written, again = answers(swap.all(own, first, which)), answers(swap.all(own, first, beside))
        floor = [one != other for one, other in zip(written, again, strict=True)]
        for group in others:
            given = answers(swap.all(own, group, which))
            found.append(_probed("names", group, first, truth, written, given, floor))
    return tuple(found)


def probe_dialects(texts: Sequence[str], labels: Sequence[str], answers: Answers) -> tuple[ProbedGroup, ...]:
    """Answers to the texts that a wording changes, as they are and as somebody of that wording writes them.

    >>> probe_dialects(["my favourite card"], ["a"], lambda texts: ["a"] * len(texts))[0].group
    'American spelling'
    """
    found = []
    for name, words in DIALECTS.items():
        pairs = [(place, new) for place, text in enumerate(texts) if (new := _reworded(text, words)) != text]
        if pairs:
            places = [place for place, _ in pairs]
            written, given = answers([texts[place] for place in places]), answers([new for _, new in pairs])
            truth = [labels[place] for place in places]
            found.append(_probed("wording", name, "as it is", truth, written, given, None))
    return tuple(found)


def _probed(
    probe: str,
    group: str,
    beside: str,
    labels: Sequence[str],
    written: Sequence[str],
    given: Sequence[str],
    floor: Sequence[bool] | None,
) -> ProbedGroup:
    rows = len(labels)
    changed = [one != other for one, other in zip(written, given, strict=True)]
    right = [(one == label, other == label) for one, other, label in zip(written, given, labels, strict=True)]
    lost, won = sum(old and not new for old, new in right), sum(new and not old for old, new in right)
    beyond = None
    if floor is not None:
        pairs = list(zip(changed, floor, strict=True))
        more, fewer = sum(one and not other for one, other in pairs), sum(other and not one for one, other in pairs)
        beyond = bonett_price(more, fewer, rows)
    return ProbedGroup(
        probe=probe,
        group=group,
        beside=beside,
        rows=rows,
        changed=wilson(sum(changed), rows),
        lost=bonett_price(lost, won, rows),
        floor=None if floor is None else sum(floor) / rows,
        beyond=beyond,
    )


class _Swap:
    """Puts names into texts."""

    def __init__(self, names: Mapping[str, Sequence[str]], introduced: str) -> None:
        self._names, self._introduced = names, introduced
        every = sorted({each for group in names.values() for each in group}, key=len, reverse=True)
        self._any = re.compile("|".join(rf"\b{each}\b" if each.isascii() else each for each in every))

    def all(self, texts: Sequence[str], group: str, which: Sequence[int]) -> list[str]:
        """Each text as of somebody of the group, by the number of the name."""
        return [self._one(text, self._names[group][number]) for text, number in zip(texts, which, strict=True)]

    def _one(self, text: str, name: str) -> str:
        swapped, count = self._any.subn(name, text)
        return swapped if count else self._introduced.format(name, text)


def _reworded(text: str, words: Mapping[str, str]) -> str:
    pattern = "|".join(rf"\b{word}\b" if word.isascii() else word for word in sorted(words, key=len, reverse=True))

    def other(match: re.Match[str]) -> str:
        word = words.get(match[0].lower())
        if word is None:  # letters that are another one's without case, such as the capital i of Turkish with its dot
            return match[0]
        return word[:1].upper() + word[1:] if match[0][0].isupper() else word

    return re.sub(pattern, other, text, flags=re.IGNORECASE)
