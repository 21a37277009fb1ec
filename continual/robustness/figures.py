"""What changes of texts do to a version's answers, with paired intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from perennial.continual.intervals import Interval, bonett_price, wilson
from perennial.continual.robustness.changes import CHANGES, Change

__all__ = ["ChangedAnswers", "changed_answers"]

Answers = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedAnswers:
    """One change: accuracy of the same rows before and after, what was lost, and the share answered as before.

    `rows` are those that had something to change. `lost` is a share in [-1, 1] with a paired interval.
    """

    change: str
    told: str
    rows: int
    before: float
    after: float
    lost: Interval
    same: Interval


def changed_answers(
    texts: Sequence[str],
    labels: Sequence[str],
    answers: Answers,
    *,
    seed: int,
    changes: Sequence[Change] = tuple(CHANGES.values()),
) -> tuple[ChangedAnswers, ...]:
    """Ask once for the texts and once for each change of them; a change that no text has anything for is left out.

    >>> found = changed_answers(["My card", "my loan"], ["a", "b"], lambda texts: ["a" if t.isupper() else "b"
    ...                         for t in texts], seed=0, changes=[CHANGES["upper case"]])
    >>> found[0].rows, found[0].before, found[0].after, found[0].same.mean
    (2, 0.5, 0.5, 0.0)
    """
    clean = list(answers(texts))
    found = []
    for number, change in enumerate(changes):
        rng = np.random.default_rng([seed, number])
        changed = [(place, new) for place, text in enumerate(texts) if (new := change.of(text, rng)) is not None]
        if not changed:
            continue
        given = answers([new for _, new in changed])
        places = [place for place, _ in changed]
        before = [clean[place] == labels[place] for place in places]
        after = [answer == labels[place] for answer, place in zip(given, places, strict=True)]
        lost = sum(old and not new for old, new in zip(before, after, strict=True))
        won = sum(new and not old for old, new in zip(before, after, strict=True))
        same = sum(answer == clean[place] for answer, place in zip(given, places, strict=True))
        rows = len(places)
        found.append(
            ChangedAnswers(
                change=change.name,
                told=change.told,
                rows=rows,
                before=sum(before) / rows,
                after=sum(after) / rows,
                lost=bonett_price(lost, won, rows),
                same=wilson(same, rows),
            )
        )
    return tuple(found)
