"""What a team does without a loop: word counts with logistic regression, refitted every night on all labels so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from perennial.continual.quality.baselines import tfidf_baseline
from perennial.continual.records import Example
from perennial.ops.demo.data import Row
from perennial.ops.demo.world import Answered

__all__ = ["NIGHTS", "Nightly", "nightly_refits"]

NIGHTS = 8  # in a demonstration
_LEAST = 400  # requests of a day


@dataclass(frozen=True, slots=True, kw_only=True)
class Nightly:
    """Whether each request was answered rightly, and at which requests a night was."""

    right: tuple[bool, ...]
    nights: tuple[int, ...]


def nightly_refits(seed: Sequence[Row], answered: Sequence[Answered], *, nights: int = NIGHTS) -> Nightly:
    """Answer every request by the model of the night before it, which knew the labels that had come by then.

    The requests are in the order of their sending; the first day's model has learnt the seed rows, as version 1 has.
    """
    day = max(_LEAST, -(-len(answered) // nights))
    now = datetime.now(UTC)
    known = [Example(text=text, label=label, at=now) for text, label in seed]
    right: list[bool] = []
    begins = list(range(0, len(answered), day))
    for begin in begins:
        asked = answered[begin : begin + day]
        night = asked[0].sent_at
        labelled = [a for a in answered[:begin] if a.labelled_at is not None and a.labelled_at <= night]
        rows = [*known, *(Example(text=a.text, label=a.label, at=now) for a in labelled)]
        right += tfidf_baseline(rows, [Example(text=a.text, label=a.label, at=now) for a in asked]).right
    return Nightly(right=tuple(right), nights=tuple(begins[1:]))
