"""What is done to token rows and logits everywhere, in numpy alone: it runs inside Triton's processes too."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["in_order", "pad", "softmax"]

Tokens = NDArray[np.int64]
Float = TypeVar("Float", bound=np.floating[Any])
Kind = TypeVar("Kind", bound=np.generic)


def softmax(logits: NDArray[Float]) -> NDArray[Float]:
    """Row-wise probabilities of logits (n, C), in their own type.

    >>> softmax(np.zeros((1, 2), dtype=np.float32)).tolist()
    [[0.5, 0.5]]
    """
    if not logits.size:
        return logits
    # the ufuncs' own reduce: for a row or two the methods' wrappers take longer than the sums
    powers = np.exp(logits - np.maximum.reduce(logits, axis=1, keepdims=True))
    np.divide(powers, np.add.reduce(powers, axis=1, keepdims=True), out=powers)
    probabilities: NDArray[Float] = powers
    return probabilities


def pad(rows: Sequence[Sequence[int]], *, width: int = 0) -> tuple[Tokens, Tokens]:
    """Ids and mask (rows, max(longest, width)) of ragged token rows; the padding id is 0 and is masked.

    >>> [array.tolist() for array in pad([[7], [8, 9]])]
    [[[7, 0], [8, 9]], [[1, 0], [1, 1]]]
    """
    longest = max(width, *(len(row) for row in rows)) if rows else width
    ids = np.zeros((len(rows), longest), dtype=np.int64)
    mask = np.zeros(ids.shape, dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask


def in_order(order: NDArray[np.intp], parts: Sequence[NDArray[Kind]]) -> NDArray[Kind]:
    """The rows of all parts, put where `order` says: row i of the parts goes to place `order[i]`.

    >>> in_order(np.array([2, 0, 1]), [np.array([[1.0], [2.0]]), np.array([[3.0]])]).ravel().tolist()
    [2.0, 3.0, 1.0]
    """
    stacked = np.concatenate(parts)
    restored: NDArray[Kind] = np.empty_like(stacked)
    restored[order] = stacked
    return restored
