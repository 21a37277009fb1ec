"""Named sums as one vector of numbers, alike at every site, and back."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.learning.sums import NamedSums, triangle_rows, unpacked

__all__ = ["from_vector", "to_vector"]

Floats = NDArray[np.float64]
Entries = Mapping[str, Sequence[str]]


def to_vector(sums: NamedSums, entries: Entries, squares: Sequence[str] = ()) -> Floats:
    """The sums in the order of their names, with these entries on each axis; what is not there is 0.

    Args:
        sums: entries beyond `entries` are refused.
        entries: axis -> its entries, in the order of the vector.
        squares: names of symmetric arrays (..., n, n), of which the lower triangles are taken.

    Raises:
        DataError: the sums have an entry that is not in `entries`.

    >>> sums = NamedSums({"counts": ("class",)})
    >>> place = sums.places("class", ["b"])
    >>> sums.arrays["counts"][place] = 2.0
    >>> to_vector(sums, {"class": ["a", "b"]}).tolist()
    [0.0, 2.0]
    """
    for named, wanted in entries.items():
        if strange := sorted(set(sums.entries(named)) - set(wanted)):
            raise DataError(f"the sums have {strange[:5]} on the axis {named!r}, which the round does not know")
    pieces = [np.zeros(0)]
    for name in sorted(sums.layout):
        array = sums.arrays[name]
        for number, axis in enumerate(sums.layout[name]):
            if isinstance(axis, str):
                places = [sums.place(axis, entry) for entry in entries[axis]]
                padded = np.concatenate([array, np.zeros_like(array, shape=_one_at(array.shape, number))], axis=number)
                array = np.take(padded, [-1 if place is None else place for place in places], axis=number)
        pieces += [*triangle_rows(array)] if name in squares else [array.ravel()]
    return np.concatenate(pieces)


def from_vector(
    vector: Floats, layout: Mapping[str, tuple[str | int, ...]], entries: Entries, squares: Sequence[str] = ()
) -> NamedSums:
    """The sums that `to_vector` laid out so.

    Raises:
        DataError: the vector has another length.
    """
    sums = NamedSums(layout)
    shapes = {name: _shape(layout[name], entries) for name in sorted(layout)}
    lengths = {name: _packed(shape) if name in squares else math.prod(shape) for name, shape in shapes.items()}
    if len(vector) != (wanted := sum(lengths.values())):
        raise DataError(f"{len(vector)} numbers were sent, and sums of these features are {wanted}")
    arrays, start = dict[str, Floats](), 0
    for name, shape in shapes.items():
        piece = vector[start : start + lengths[name]]
        start += lengths[name]
        arrays[name] = _unpacked(piece, shape) if name in squares else piece.reshape(shape).copy()
    sums.restore({axis: list(wanted) for axis, wanted in entries.items()}, arrays)
    return sums


def _one_at(shape: tuple[int, ...], number: int) -> tuple[int, ...]:
    return (*shape[:number], 1, *shape[number + 1 :])


def _shape(axes: tuple[str | int, ...], entries: Entries) -> tuple[int, ...]:
    return tuple(len(entries[axis]) if isinstance(axis, str) else axis for axis in axes)


def _packed(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:-2]) * shape[-1] * (shape[-1] + 1) // 2


def _unpacked(piece: Floats, shape: tuple[int, ...]) -> Floats:
    size, squares = shape[-1], np.empty(shape)
    packed = piece.reshape(math.prod(shape[:-2]), -1)
    for lower, square in zip(packed, squares.reshape(-1, size, size), strict=True):
        unpacked(lower, size, square)
    return squares
