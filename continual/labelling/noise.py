"""Labels that the model has good reason to doubt; a person decides."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from perennial.continual.errors import DataError

__all__ = ["Doubt", "doubt_labels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """One label to look at again: the row, the label given, the one the model would give, and by how much.

    `excess` is the suggested class's probability minus the given one's, in (0, 1]; higher means more doubtful.

    >>> Doubt(index=0, given="a", suggested="b", excess=0.8).suggested
    'b'
    """

    index: int
    given: str
    suggested: str
    excess: float


def doubt_labels(probabilities: ArrayLike, given: Sequence[str], labels: Sequence[str]) -> tuple[Doubt, ...]:
    """Return the labels to look at again, the most doubtful first.

    `probabilities` (rows, classes) must come from a model that had not learnt these rows (held-out or logged when
    they were answered); `labels` names its columns. A label is doubted when another class is both likelier and at
    least as likely as it usually is on rows that carry its name, so classes the model is never sure of flag nothing.
    A label outside `labels` is new, not noisy, and is left alone.
    Source: confident learning, Northcutt et al., JAIR 70, 2021, equations 1 and 2.

    >>> doubt_labels([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05]], ["a", "b", "b"], ["a", "b"])[0].index
    2

    Raises:
        DataError: the shapes don't fit, or a row is not a distribution.
    """
    p = np.asarray(probabilities, float)
    if p.shape != (len(given), len(labels)):
        raise DataError(f"probabilities have shape {p.shape}; {len(given)} rows by {len(labels)} labels were named")
    if len(p) and (p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > 1e-3):
        raise DataError(f"probabilities sum to {p.sum(axis=1).min():.4f} at least; each row must be >= 0 and sum to 1")
    column = {label: i for i, label in enumerate(labels)}
    own = np.array([column.get(label, -1) for label in given], dtype=np.int64)
    usual = np.full(len(labels), np.inf)  # how likely a class is on rows of its own name
    for i in np.unique(own[own >= 0]):
        usual[i] = p[own == i, i].mean()
    doubts = []
    for row in np.flatnonzero(own >= 0):
        sure = np.where(p[row] >= usual, p[row], -1.0)
        other = int(sure.argmax())
        excess = float(p[row, other] - p[row, own[row]])
        if sure[other] >= 0 and excess > 0:
            doubts.append(Doubt(index=int(row), given=given[row], suggested=labels[other], excess=excess))
    return tuple(sorted(doubts, key=lambda doubt: (-doubt.excess, doubt.index)))
