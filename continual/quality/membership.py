"""Whether a version tells which rows it has learnt: the attack that guesses by how sure it is of the right label.

Source: Yeom, Giacomelli, Fredrikson and Jha, "Privacy risk in machine learning", 2018 (a threshold on the loss); the
interval is Hanley and McNeil's, Radiology 143, 1982.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from perennial.continual.errors import DataError
from perennial.continual.intervals import Z95, Interval

__all__ = ["membership_auc"]


def membership_auc(learnt: ArrayLike, unknown: ArrayLike) -> Interval:
    """How often a learnt row's label is surer than an unknown row's, ties half: 0.5 tells nothing, 1 tells all.

    Args:
        learnt: probability of the right label of rows that were learnt, (m,).
        unknown: likewise of rows of the same kind that were not, (n,).

    Raises:
        DataError: one of them is empty.

    >>> membership_auc([0.9, 0.8], [0.1, 0.2]).mean, membership_auc([0.5], [0.5]).mean
    (1.0, 0.5)
    """
    members, others = np.asarray(learnt, np.float64), np.sort(np.asarray(unknown, np.float64))
    if not len(members) or not len(others):
        raise DataError(f"an audit of membership got {len(members)} learnt and {len(others)} unknown rows; give both")
    below, upto = (np.searchsorted(others, members, side=side) for side in ("left", "right"))
    auc = float((below + upto).mean() / (2 * len(others)))
    one, two = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    spread = auc * (1 - auc) + (len(members) - 1) * (one - auc**2) + (len(others) - 1) * (two - auc**2)
    half = Z95 * math.sqrt(max(spread, 0.0) / (len(members) * len(others)))
    return Interval(mean=auc, low=max(0.0, auc - half), high=min(1.0, auc + half))
