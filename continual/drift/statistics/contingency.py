"""Counting two samples of categories into one table, with sparse categories pooled."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError

__all__ = ["contingency", "pool_sparse"]


def contingency(
    reference: Sequence[str] | NDArray[np.str_], current: Sequence[str] | NDArray[np.str_]
) -> NDArray[np.int64]:
    """Return the counts as a (2, k) table over every category seen on either side.

    Raises:
        DataError: a side without rows.

    >>> contingency(["a", "b", "a"], ["b", "c"]).tolist()
    [[2, 1, 0], [0, 1, 1]]
    """
    if len(reference) == 0 or len(current) == 0:
        raise DataError(f"{len(reference)} reference and {len(current)} current categories; each side needs a row")
    counts = [Counter(np.asarray(side).tolist()) for side in (reference, current)]  # far cheaper than sorting strings
    names = sorted(counts[0] | counts[1])
    return np.array([[side[name] for name in names] for side in counts], dtype=np.int64)


def pool_sparse(table: NDArray[np.int64], *, minimum: float = 5.0) -> NDArray[np.int64]:
    """Return the table with every category whose expected count falls below `minimum` summed into one last category.

    Which categories are pooled depends on the totals of both sides only, never on their difference, so a test on the
    pooled table keeps its level. When the rest is itself too small it joins the smallest category that is kept.

    >>> pool_sparse(np.array([[50, 30, 1, 2], [40, 35, 3, 1]])).tolist()
    [[50, 33], [40, 39]]
    """
    totals = table.sum(axis=0)
    smaller_side = table.sum(axis=1).min() / max(1, table.sum())
    sparse = totals * smaller_side < minimum
    if not sparse.any():
        return table
    kept, rest = table[:, ~sparse], table[:, sparse].sum(axis=1, keepdims=True)
    if rest.sum() * smaller_side >= minimum or kept.shape[1] == 0:
        return np.concatenate([kept, rest], axis=1)
    smallest = int(kept.sum(axis=0).argmin())
    joined = kept.copy()
    joined[:, smallest] += rest[:, 0]
    return joined
