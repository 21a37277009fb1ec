"""Learners of sums: all that they know is named float64 sums over rows, so any row can be added and taken back.

From the sums of the rows that are in follows everything else. Their order does not matter; sums of two halves are
merged by adding them; a row is erased by subtracting what it added, and nothing of it stays. No row is stored.
"""

import json
import math
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import written_whole
from perennial.continual.errors import DataError

__all__ = ["KnownRows", "NamedSums", "Sums", "SumsFile", "load_keys", "mirror_lower", "triangle_rows", "unpacked"]

Floats = NDArray[np.float64]
Rows_contra = TypeVar("Rows_contra", contravariant=True)
Settings_contra = TypeVar("Settings_contra", contravariant=True)
Solved_co = TypeVar("Solved_co", covariant=True)

_KEYS, _LABELS = "known_keys", "known_labels"
_MIRRORED = 128  # rows of a triangle
_TRIANGLE = "_lower"  # how the names of triangles end
_BUFFER = 2**20
_SAFE = {"<f8": "F64", "<f4": "F32", "<f2": "F16", "|b1": "BOOL"}
_SAFE |= {
    f"{'<' if size > 1 else '|'}{kind}{size}": f"{kind.upper()}{8 * size}" for kind in "iu" for size in (1, 2, 4, 8)
}


class Sums(Protocol[Rows_contra, Settings_contra, Solved_co]):
    """What a learner of sums promises; `tests/contract/test_sums.py` holds every one of them to it.

    The answer of `solve` depends on the rows that are in and on nothing else: not on their order, on their batches,
    on rows that came and went, or on the shards that were merged; sums agree to 1e-9.
    """

    @property
    def rows(self) -> int:
        """Rows that are in."""
        ...

    @property
    def known_keys(self) -> KeysView[int]:
        """The keys of the rows that were added with one."""
        ...

    @property
    def named(self) -> "NamedSums":
        """The sums themselves."""
        ...

    def add(self, rows: Rows_contra, /) -> int:
        """Learn rows and return how many changed the sums.

        A row whose key is in with the same label is passed over, so a retry changes nothing; with another label it
        is moved.

        Raises:
            DataError: the rows do not fit the sums; nothing has changed.
        """
        ...

    def remove(self, rows: Rows_contra, /) -> int:
        """Take rows back and return how many left; rows with a key that is not in are passed over.

        Raises:
            DataError: more rows are taken than are in; nothing has changed.
        """
        ...

    def merge(self, other: Self, /) -> None:
        """Add all that `other` has learnt.

        Raises:
            DataError: the two map rows to other features, or share keyed rows; nothing has changed.
        """
        ...

    def solve(self, settings: Settings_contra, /) -> Solved_co:
        """What answers requests, made of the sums alone; they stay as they are.

        Raises:
            DataError: nothing has been learnt.
        """
        ...

    def save(self, path: Path, /) -> None:
        """Write one file that gives back exactly these sums, whole or not at all."""
        ...


class NamedSums:
    """float64 arrays by name, of which some axes hold named entries (classes, items) that come and go.

    Args:
        layout: array name -> its axes; a whole number is a fixed length, a text the name of an axis with entries.

    >>> sums = NamedSums({"counts": ("class",), "sums": ("class", 2)})
    >>> sums.places("class", ["yes", "no"]).tolist()
    [0, 1]
    >>> sums.arrays["sums"].shape
    (2, 2)
    """

    def __init__(self, layout: Mapping[str, tuple[str | int, ...]]) -> None:
        self.layout = dict(layout)
        self._place: dict[str, dict[str, int]] = {
            axis: {} for axes in layout.values() for axis in axes if isinstance(axis, str)
        }
        self.arrays: dict[str, Floats] = {
            name: np.zeros([0 if isinstance(axis, str) else axis for axis in axes]) for name, axes in layout.items()
        }

    def entries(self, axis: str) -> tuple[str, ...]:
        """The entries of an axis in the order of their places."""
        return tuple(self._place[axis])

    def place(self, axis: str, entry: str) -> int | None:
        """Where an entry stands on its axis; None when it is not there."""
        return self._place[axis].get(entry)

    def places(self, axis: str, entries: Sequence[str]) -> NDArray[np.intp]:
        """Where entries stand; one that is new gets the next place, with zeros in every array."""
        known = self._place[axis]
        for entry in entries:
            known.setdefault(entry, len(known))
        for name, axes in self.layout.items():
            missing = [
                len(known) - length if own == axis else 0 for own, length in zip(axes, self._shape(name), strict=True)
            ]
            if any(missing):
                self.arrays[name] = np.pad(self.arrays[name], [(0, more) for more in missing])
        return np.array([known[entry] for entry in entries], dtype=np.intp)

    def keep(self, axis: str, entries: Iterable[str]) -> None:
        """Only these entries of an axis, in the order given; the sums of the others are gone."""
        kept = list(entries)
        if kept == list(self._place[axis]):
            return
        places = [self._place[axis][entry] for entry in kept]
        for name, axes in self.layout.items():
            for number, own in enumerate(axes):
                if own == axis:
                    self.arrays[name] = np.take(self.arrays[name], places, axis=number)
        self._place[axis] = {entry: place for place, entry in enumerate(kept)}

    def merge(self, other: "NamedSums") -> None:
        """Adds the sums of `other`, entry by entry, whatever their places.

        Raises:
            DataError: the arrays are of other names or axes.
        """
        if self.layout != other.layout:
            raise DataError(f"sums of {other.layout} cannot be merged into sums of {self.layout}; make both alike")
        places = {axis: self.places(axis, other.entries(axis)) for axis in self._place}
        for name, axes in self.layout.items():
            shape = self._shape(name)
            where = [places[axis] if isinstance(axis, str) else np.arange(shape[at]) for at, axis in enumerate(axes)]
            if any(isinstance(axis, str) for axis in axes):
                self.arrays[name][np.ix_(*where)] += other.arrays[name]
            else:
                self.arrays[name] += other.arrays[name]

    def restore(self, entries: Mapping[str, Sequence[str]], arrays: Mapping[str, Floats]) -> None:
        """Takes over arrays, which are nobody else's from now on, and the entries of their named axes.

        Raises:
            DataError: an array is missing or has another shape than layout and entries say.
        """
        for name, axes in self.layout.items():
            wanted = tuple(len(entries[axis]) if isinstance(axis, str) else axis for axis in axes)
            shape = arrays[name].shape if name in arrays else None
            if shape != wanted:
                raise DataError(f"sums {name!r} have the shape {shape}, not {wanted}; retrain from the stored rows")
        self._place = {axis: {entry: place for place, entry in enumerate(entries[axis])} for axis in self._place}
        self.arrays = {name: np.require(arrays[name], np.float64, ["C", "W"]) for name in self.layout}

    def sorted(self) -> dict[str, Floats]:
        """The arrays with the entries of each named axis in alphabetical order, whatever the order of arrival."""
        ordered = {}
        for name, axes in self.layout.items():
            array = self.arrays[name]
            for number, axis in enumerate(axes):
                if isinstance(axis, str):
                    array = np.take(array, [self._place[axis][entry] for entry in sorted(self._place[axis])], number)
            ordered[name] = array
        return ordered

    def copy(self) -> "NamedSums":
        """Sums of their own with the same values."""
        twin = NamedSums(self.layout)
        twin._place = {axis: dict(places) for axis, places in self._place.items()}
        twin.arrays = {name: array.copy() for name, array in self.arrays.items()}
        return twin

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.arrays[name].shape


class KnownRows:
    """Which rows are in: a 64-bit key and a label each, 16 bytes a row, no text.

    >>> known = KnownRows({7: "yes"})
    >>> known.changed([7, 7, 8], ["yes", "no", "yes"])
    [1, 2]
    """

    def __init__(self, labels: Mapping[int, str] | None = None) -> None:
        self.labels = dict(labels or {})

    def changed(self, keys: Sequence[int], labels: Sequence[str]) -> list[int]:
        """The places of rows that are new or come with another label; of a key given twice the last counts."""
        last = {key: row for row, key in enumerate(keys)}
        return [row for key, row in last.items() if self.labels.get(key) != labels[row]]

    def present(self, keys: Sequence[int]) -> list[int]:
        """The places of rows that are in, each once."""
        return [row for key, row in {key: row for row, key in enumerate(keys)}.items() if key in self.labels]

    def check_apart(self, other: "KnownRows") -> None:
        """Refuse a merge that would count rows twice.

        Raises:
            DataError: a row is in both.
        """
        if shared := self.labels.keys() & other.labels.keys():
            raise DataError(f"the two share {len(shared)} rows; take them out of one with remove() first")

    def tensors(self, order: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Keys, and each one's label as its place in `order`."""
        place = {label: number for number, label in enumerate(order)}
        return {
            _KEYS: np.fromiter(self.labels, dtype=np.uint64, count=len(self.labels)),
            _LABELS: np.array([place[label] for label in self.labels.values()], dtype=np.int32),
        }

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, NDArray[Any]], order: Sequence[str]) -> "KnownRows":
        """The rows that `tensors` gave."""
        pairs = zip(tensors[_KEYS].tolist(), tensors[_LABELS].tolist(), strict=True)
        return cls({key: order[place] for key, place in pairs})


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsFile:
    """Sums as they lie on disk: a safetensors file of named arrays, and what else is needed to read them.

    `squares` are symmetric matrices (..., n, n), of which the file holds the lower triangles (..., n (n + 1) / 2), row
    by row. They are most of it, and no copy of them is made: triangles are read from the file where they lie.

    >>> SumsFile(format="example-1", tensors={}, about={"labels": []}).format
    'example-1'
    """

    format: str
    tensors: Mapping[str, NDArray[Any]]
    about: Mapping[str, Any]  # JSON
    squares: Mapping[str, Floats] = field(default_factory=dict)

    def write(self, path: Path, *, mode: int | None = None) -> None:
        """Writes the file, whole or not at all; see `written_whole` for its `mode`."""
        whole = {name: np.ascontiguousarray(value) for name, value in self.tensors.items()}
        shapes = {name: (value.dtype, value.shape) for name, value in whole.items()}
        shapes |= {name: (value.dtype, _packed_shape(value)) for name, value in self.squares.items()}
        order = sorted(shapes, key=lambda name: (-shapes[name][0].itemsize, name))  # each begins at its own multiple
        about = json.dumps({"format": self.format, **self.about})
        header, end = dict[str, Any](__metadata__={"about": about}), 0
        for name in order:
            dtype, shape = shapes[name]
            start, end = end, end + dtype.itemsize * math.prod(shape)
            header[name] = {"dtype": _SAFE[dtype.str], "shape": shape, "data_offsets": (start, end)}
        head = json.dumps(header, separators=(",", ":")).encode()
        head += b" " * (-len(head) % 8)
        with written_whole(path, mode=mode) as temporary, temporary.open("wb", buffering=_BUFFER) as file:
            file.write(len(head).to_bytes(8, "little") + head)
            for name in order:
                for piece in [whole[name]] if name in whole else triangle_rows(self.squares[name]):
                    file.write(piece.data if piece.size else b"")

    @classmethod
    def read(cls, path: Path) -> "SumsFile":
        """The file that `write` left; triangles may be read and not written to.

        Raises:
            DataError: the file is missing or is not such a file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                about: dict[str, Any] = json.loads((file.metadata() or {}).get("about", "{}"))
                names = list(file.keys())
                tensors = {name: file.get_tensor(name) for name in names if not name.endswith(_TRIANGLE)}
            tensors |= _triangles(path, [name for name in names if name.endswith(_TRIANGLE)])
        except (OSError, SafetensorError) as error:
            raise DataError(f"statistics {path} cannot be read ({error}); retrain from the stored rows") from error
        return cls(format=str(about.pop("format", None)), tensors=tensors, about=about)

    @staticmethod
    def about_of(path: Path) -> dict[str, Any]:
        """What a file says of itself, without its arrays.

        Raises:
            DataError: the file is missing or is not such a file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                about: dict[str, Any] = json.loads((file.metadata() or {}).get("about", "{}"))
        except (OSError, SafetensorError, ValueError) as error:
            raise DataError(f"sums {path} cannot be read ({error}); restore the file, or make it anew") from error
        return about

    def check_format(self, path: Path, expected: str) -> None:
        """Refuse the sums of another learner or release.

        Raises:
            DataError: the format is not the expected one.
        """
        if self.format != expected:
            raise DataError(f"statistics {path} have format {self.format!r}; this version reads {expected!r}")


def load_keys(path: Path) -> frozenset[int]:
    """The keys of the rows that saved sums hold, without reading the sums, whichever learner wrote them.

    Raises:
        DataError: the file is missing or is not such a file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return frozenset(file.get_tensor(_KEYS).tolist())
    except (OSError, SafetensorError) as error:
        raise DataError(f"statistics {path} cannot be read ({error}); retrain from the stored rows") from error


def _triangles(path: Path, names: Sequence[str]) -> dict[str, Floats]:
    """Triangles where they lie in a file that safetensors has found sound."""
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start - 8))
    return {
        name: np.asarray(np.memmap(path, "<f8", "r", start + header[name]["data_offsets"][0], tuple(shape)))
        if math.prod(shape := header[name]["shape"])
        else np.zeros(shape)
        for name in names
    }


def _packed_shape(squares: Floats) -> tuple[int, ...]:
    size = squares.shape[-1]
    return (*squares.shape[:-2], size * (size + 1) // 2)


def triangle_rows(squares: Floats) -> Iterator[Floats]:
    """The rows of the lower triangles of symmetric matrices (..., n, n): half the space."""
    size = squares.shape[-1]
    for square in squares.reshape(math.prod(squares.shape[:-2]), size, size):
        for row in range(size):
            yield square[row, : row + 1]


def unpacked(lower: Floats, size: int, into: Floats | None = None) -> Floats:
    """The symmetric matrix (size, size) whose lower triangle lies in (size (size + 1) / 2,), row by row."""
    symmetric = np.empty((size, size)) if into is None else into
    for row in range(size):
        start = row * (row + 1) // 2
        symmetric[row, : row + 1] = lower[start : start + row + 1]
    mirror_lower(symmetric)
    return symmetric


def mirror_lower(matrix: Floats) -> None:
    """Make a matrix (n, n) symmetric, in its place, by its lower triangle."""
    for start in range(0, len(matrix), _MIRRORED):  # in squares that the processor's cache holds
        rows = slice(start, start + _MIRRORED)
        for before in range(0, start, _MIRRORED):
            columns = slice(before, before + _MIRRORED)
            matrix[columns, rows] = matrix[rows, columns].T
        square = matrix[rows, rows]
        square[:] = np.tril(square) + np.tril(square, -1).T
