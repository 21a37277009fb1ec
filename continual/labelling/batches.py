"""For how many requests a label speaks, when the queue it came from was filled several times."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError

__all__ = ["Choice", "speaks_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One row of a labelling queue: its probability within its batch, and the later batches that it was a part of.

    `seen` names the batches that were drawn, without this row, from requests among which it is.

    >>> Choice(probability=0.1, batch=1, seen=(2,)).batch
    1
    """

    probability: float
    batch: int
    seen: tuple[int, ...] = ()


def speaks_for(chosen: Sequence[Choice], labelled: Sequence[bool]) -> NDArray[np.float64]:
    """Return the weight of each labelled row, (labels,): for how many requests it speaks, over all batches.

    A batch is a sample of the requests of its time. Those that earlier batches had chosen from them can't be drawn
    again; they are known and speak for themselves once more, or the doubtful rows would count for too little. A batch
    that is labelled in part counts in part, as its labels come in random order.
    Source: sampling in steps without replacement, Des Raj, JASA 51, 1956: the mean of unbiased steps is unbiased.

    >>> speaks_for([Choice(probability=0.1, batch=1, seen=(2,)), Choice(probability=0.5, batch=2)], [True, True])
    array([11.,  2.])

    Raises:
        DataError: the lists differ in length.
    """
    if len(chosen) != len(labelled):
        raise DataError(f"{len(chosen)} chosen rows and {len(labelled)} marks of a label; give one for each row")
    all_of = Counter(choice.batch for choice in chosen)
    done_of = Counter(choice.batch for choice, known in zip(chosen, labelled, strict=True) if known)
    share = {batch: done_of[batch] / count for batch, count in all_of.items()}
    return np.array(
        [
            1.0 / choice.probability + sum(share.get(later, 0.0) for later in choice.seen) / share[choice.batch]
            for choice, known in zip(chosen, labelled, strict=True)
            if known
        ]
    )
