"""What the sums of all other sites together must be before a version counts them: sites may lie."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.class_sums import PLAIN_OUTER, PLAIN_SUMS
from perennial.continual.learning.sums import NamedSums

__all__ = ["check_size", "settled"]

_WHOLE = 1e-6  # so near to a whole number lies a count
_SLACK = 1e-6  # of a row: as far below 0 may a variance be rounded; every head adds more before it is solved
_NO_SUMS = (
    "the sums of all sites together are no sums of rows: a site has sent other sums than it announced, or its key is "
    "not the one that it announced; begin a new round"
)
Floats = NDArray[np.float64]


def check_size(vector: Floats, most: float) -> None:
    """Refuse numbers farther from 0 than all sites together have said: masks that are left are, nearly always.

    Raises:
        DataError: one is.
    """
    if np.abs(vector).max(initial=0.0) > most:
        raise DataError(_NO_SUMS)


def settled(own: AnchoredSums, named: NamedSums, rows: int) -> Any:
    """Sums of the features of `own` with these in them, once they are sums that so many rows could have.

    Raises:
        DataError: they are not: masks are left, or a site has sent other sums than it announced.
    """
    counts = named.arrays["counts"]
    whole = np.rint(counts)
    if np.abs(counts - whole).max(initial=0.0) > _WHOLE or whole.min(initial=0.0) < 0 or round(whole.sum()) != rows:
        raise DataError(_NO_SUMS)
    counts[:] = whole
    labels = named.entries("class")
    named.keep("class", [label for label, count in zip(labels, whole, strict=True) if count > 0])
    _check_scatter(named, "sums", "outer")
    if PLAIN_OUTER in named.layout:
        _check_scatter(named, PLAIN_SUMS, PLAIN_OUTER)
    return own.of_named(named)


def _check_scatter(named: NamedSums, sums: str, outer: str) -> None:
    """Rows differ from their class's mean by no negative variance; a head of such sums could not be solved.

    Raises:
        DataError: in some direction it is negative.
    """
    counts, size = named.arrays["counts"], named.arrays[outer].shape[-1]
    for part, square in enumerate(named.arrays[outer].reshape(-1, size, size)):
        own = named.arrays[sums][:, part * size : (part + 1) * size]
        within = square - (own / counts[:, None]).T @ own
        within.flat[:: size + 1] += _SLACK * (1.0 + counts.sum())
        try:
            np.linalg.cholesky(within)
        except np.linalg.LinAlgError as error:
            raise DataError(_NO_SUMS) from error
