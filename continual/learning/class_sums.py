"""Sums over labelled rows of features: what a closed form that tells classes apart needs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.learning.head import RowFeatures
from perennial.continual.learning.lapack import add_products, on_each
from perennial.continual.learning.normal_equations import NormalEquations
from perennial.continual.learning.sums import KnownRows, NamedSums, mirror_lower

__all__ = ["PLAIN_OUTER", "PLAIN_SUMS", "ClassRows", "ClassSums", "Features", "PlainSums", "StoodIn"]

_BLOCK = 2048  # rows mapped at a time: 2048 x 3000 x 8 bytes = 49 MB
_CLASS = "class"
PLAIN_SUMS, PLAIN_OUTER = "plain_sums", "plain_outer"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRows:
    """Labelled rows as a closed form takes them.

    `keys` are 64-bit numbers that name the rows (`row_hash` of the text). With them a row that is in with the same
    label is passed over; with another label it is moved, so X must be what it was when the row was added.

    >>> len(ClassRows(X=np.zeros((1, 2)), labels=("yes",)))
    1
    """

    X: NDArray[np.floating[Any]]  # (rows, d)
    labels: Sequence[str]
    keys: Sequence[int] | None = None
    texts: Sequence[str] | None = None  # where the words themselves are features too
    features: RowFeatures | None = None  # of a solved head, where they are known already

    def __post_init__(self) -> None:
        columns = [column for column in (self.X, self.keys, self.texts) if column is not None]
        if any(len(column) != len(self.labels) for column in columns):
            raise DataError(f"{len(self.X)} embeddings, {len(self.labels)} labels, keys and texts must be equally many")

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, rows: Sequence[int] | NDArray[np.intp], labels: Sequence[str] | None = None) -> "ClassRows":
        """Some of the rows, with their own labels or with others."""
        return ClassRows(
            X=self.X[np.asarray(rows, dtype=np.intp)],
            labels=[self.labels[row] for row in rows] if labels is None else labels,
            keys=None if self.keys is None else [self.keys[row] for row in rows],
            texts=None if self.texts is None else [self.texts[row] for row in rows],
        )

    def joined(self, other: "ClassRows") -> "ClassRows":
        """These rows and the other ones, of both of which keys and texts are known."""
        return ClassRows(
            X=np.concatenate([self.X, other.X]),
            labels=[*self.labels, *other.labels],
            keys=[*(self.keys or ()), *(other.keys or ())],
            texts=[*(self.texts or ()), *(other.texts or ())],
        )

    def blocks(self) -> Iterator["ClassRows"]:
        """The rows in order, at most 2,048 at a time."""
        for start in range(0, len(self), _BLOCK):
            yield self.at(range(start, min(start + _BLOCK, len(self))))


Features = Callable[[ClassRows], NDArray[np.float64]]  # (rows, D)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSums:
    """What rows sum to before any mapping: rows and embedding sum of each class, and all rows' outer products.

    >>> PlainSums(counts=np.ones(1), sums=np.ones((1, 2)), outer=np.ones((2, 2))).sums.shape
    (1, 2)
    """

    counts: NDArray[np.float64]  # (C,)
    sums: NDArray[np.float64]  # (C, d)
    outer: NDArray[np.float64]  # (d, d)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoodIn:
    """Sums with stand-in rows beside: `beside` are their features by their weight, which no outer product has yet.

    >>> StoodIn(labels=(), counts=np.zeros(0), sums=np.zeros((0, 1)), beside=np.ones((1, 1))).labels
    ()
    """

    labels: tuple[str, ...]
    counts: NDArray[np.float64]  # (C,)
    sums: NDArray[np.float64]  # (C, D)
    beside: NDArray[np.float64]  # (rows, D)


class ClassSums:
    """Rows and feature sum of each class, and the sum of all rows' outer products.

    With `plain` dimensions the same is kept of the embeddings themselves. Features in several `parts` of equal length
    have outer products within each part alone.

    A class whose last row leaves is gone; when the last of all leaves, the sums are exactly 0.

    >>> sums = ClassSums(2)
    >>> sums.add(ClassRows(X=np.eye(2), labels=("yes", "no")), lambda rows: rows.X)
    2
    >>> sums.counts, sums.outer.tolist()
    ({'no': 1, 'yes': 1}, [[1.0, 0.0], [0.0, 1.0]])
    """

    def __init__(self, size: int, plain: int = 0, *, parts: int = 1) -> None:
        self.size, self.parts = size, parts
        layout: dict[str, tuple[str | int, ...]] = {
            "counts": (_CLASS,),
            "sums": (_CLASS, size),
            "outer": (size, size) if parts == 1 else (parts, size // parts, size // parts),
        }
        if plain:
            layout |= {PLAIN_SUMS: (_CLASS, plain), PLAIN_OUTER: (plain, plain)}
        self.named = NamedSums(layout)
        self.known = KnownRows()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of their places."""
        return self.named.entries(_CLASS)

    @property
    def counts(self) -> dict[str, int]:
        """Rows by class, sorted."""
        counts = self.named.arrays["counts"]
        return {label: round(float(count)) for label, count in sorted(zip(self.labels, counts, strict=True))}

    @property
    def rows(self) -> int:
        """Rows that are in."""
        return round(float(self.named.arrays["counts"].sum()))

    @property
    def outer(self) -> NDArray[np.float64]:
        """X'X, (D, D); of several parts one each, (parts, D / parts, D / parts)."""
        return self.named.arrays["outer"]

    @property
    def columns(self) -> list[slice]:
        """Where the features of each part lie."""
        each = self.size // self.parts
        return [slice(part * each, (part + 1) * each) for part in range(self.parts)]

    def copy(self) -> "ClassSums":
        """Sums of their own with the same values."""
        twin = ClassSums(self.size, plain=0 if self.plain is None else len(self.plain.outer), parts=self.parts)
        twin.named, twin.known = self.named.copy(), KnownRows(self.known.labels)
        return twin

    @property
    def plain(self) -> PlainSums | None:
        """What the embeddings themselves sum to, where that is kept."""
        arrays = self.named.arrays
        if PLAIN_OUTER not in arrays:
            return None
        return PlainSums(counts=arrays["counts"], sums=arrays[PLAIN_SUMS], outer=arrays[PLAIN_OUTER])

    def drop_plain(self) -> None:
        """Keep no more what the embeddings themselves sum to."""
        arrays = {name: array for name, array in self.named.arrays.items() if name not in (PLAIN_SUMS, PLAIN_OUTER)}
        entries, self.named = {_CLASS: self.labels}, ClassSums(self.size, parts=self.parts).named
        self.named.restore(entries, arrays)

    def of(self, label: str) -> tuple[float, NDArray[np.float64]]:
        """Rows and feature sum of a class, (D,); zeros for one that has no rows."""
        place = self.named.place(_CLASS, label)
        if place is None:
            return 0.0, np.zeros(self.size)
        return float(self.named.arrays["counts"][place]), self.named.arrays["sums"][place]

    def add(self, rows: ClassRows, features: Features) -> int:
        """Learns rows and returns how many changed the sums."""
        if rows.keys is None:
            self._shift(rows, features, +1.0)
            return len(rows)
        fresh = self.known.changed(rows.keys, rows.labels)
        moved = [row for row in fresh if rows.keys[row] in self.known.labels]
        self._shift(rows.at(moved, [self.known.labels[rows.keys[row]] for row in moved]), features, -1.0)
        self._shift(rows.at(fresh), features, +1.0)
        self.known.labels.update((rows.keys[row], rows.labels[row]) for row in fresh)
        self._drop_empty()
        return len(fresh)

    def remove(self, rows: ClassRows, features: Features) -> int:
        """Takes rows back and returns how many left; with keys, by the labels that they came in with.

        Raises:
            DataError: more rows of a class are taken than are in it.
        """
        taken = rows
        if rows.keys is not None:
            present = self.known.present(rows.keys)
            taken = rows.at(present, [self.known.labels[rows.keys[row]] for row in present])
        for label in sorted(set(taken.labels)):
            held = self.counts.get(label, 0)
            if (wanted_rows := list(taken.labels).count(label)) > held:
                raise DataError(f"{wanted_rows} rows of class {label!r} to take back, but only {held} are in")
        self._shift(taken, features, -1.0)
        for key in taken.keys or ():
            del self.known.labels[key]
        self._drop_empty()
        return len(taken)

    def merge(self, other: "ClassSums") -> None:
        """Adds all that `other` has learnt; what one of both does not keep is dropped.

        Raises:
            DataError: a keyed row is in both, or the features are of another number.
        """
        self.known.check_apart(other.known)
        if self.size == other.size and (self.plain is None) is not (other.plain is None):
            self.drop_plain()
            other = other.copy()
            other.drop_plain()
        self.named.merge(other.named)
        self.known.labels.update(other.known.labels)

    def with_stand_ins(self, stand_ins: Mapping[str, NDArray[np.float64]], most: int) -> "StoodIn":
        """Classes in alphabetical order with their counts and sums, and what of the outer products is not in yet.

        A class with n rows, fewer than `most`, gets most - n rows' worth of its stand-ins, which are features (k, D).
        """
        labels = tuple(sorted({*self.labels, *stand_ins}))
        counts, sums = np.zeros(len(labels)), np.zeros((len(labels), self.size))
        beside = [np.zeros((0, self.size))]
        for row, label in enumerate(labels):
            counts[row], sums[row] = self.of(label)
        for row, label in enumerate(labels):
            weight = most - counts[row]
            if label not in stand_ins or weight <= 0:
                continue
            features = stand_ins[label] * np.sqrt(weight / len(stand_ins[label]))
            sums[row] += features.sum(axis=0) * np.sqrt(weight / len(stand_ins[label]))
            beside.append(features)
            counts[row] += weight
        used = np.flatnonzero(counts > 0)
        return StoodIn(
            labels=tuple(labels[row] for row in used),
            counts=counts[used],
            sums=sums[used],
            beside=np.concatenate(beside),
        )

    def equations(
        self, stand_ins: Mapping[str, NDArray[np.float64]], most: int, *, of_encoder: int
    ) -> tuple[NormalEquations, ...]:
        """What a regression on each part solves, with stand-in rows as `with_stand_ins` has them.

        Of a part's features `of_encoder` are of the encoder. The equations share the memory of the sums.
        """
        stood_in, each = self.with_stand_ins(stand_ins, most), self.size // self.parts
        return tuple(
            NormalEquations(
                labels=stood_in.labels,
                counts=stood_in.counts,
                sums=np.ascontiguousarray(stood_in.sums[:, columns]),
                outer=outer,
                of_encoder=of_encoder,
                beside=np.ascontiguousarray(stood_in.beside[:, columns]) if len(stood_in.beside) else None,
            )
            for columns, outer in zip(self.columns, self.outer.reshape(self.parts, each, each), strict=True)
        )

    def narrowed(self, columns: slice, scale: float = 1.0) -> "ClassSums":
        """A copy on some of the features of a single part, each times `scale`."""
        arrays = self.named.arrays
        outer = arrays["outer"][columns, columns] * scale**2
        copy = ClassSums(len(outer), plain=0 if self.plain is None else len(self.plain.outer))
        sums = {name: array.copy() for name, array in arrays.items() if name not in ("sums", "outer")}
        sums |= {"sums": arrays["sums"][:, columns] * scale, "outer": outer}
        copy.named.restore({_CLASS: self.labels}, sums)
        copy.known = KnownRows(self.known.labels)
        return copy

    def _shift(self, rows: ClassRows, features: Features, sign: float) -> None:
        self.named.places(_CLASS, list(rows.labels))
        arrays = self.named.arrays
        for block in rows.blocks():
            mapped = features(block)
            places = self.named.places(_CLASS, list(block.labels))
            members = np.zeros((len(self.labels), len(mapped)))
            members[places, np.arange(len(mapped))] = sign
            arrays["counts"] += members.sum(axis=1)
            arrays["sums"] += members @ mapped
            self._add_products(mapped, sign)
            if PLAIN_OUTER in arrays:
                X = np.asarray(block.X, dtype=np.float64)
                arrays[PLAIN_SUMS] += members @ X
                arrays[PLAIN_OUTER] += sign * (X.T @ X)

    def _add_products(self, mapped: NDArray[np.float64], sign: float) -> None:
        outer = self.outer.reshape(self.parts, *self.outer.shape[-2:])

        def add(part: int) -> None:
            own: NDArray[np.float64] = np.ascontiguousarray(mapped[:, self.columns[part]])
            add_products(own, outer[part], sign)
            mirror_lower(outer[part])

        on_each(add, range(self.parts))

    def _drop_empty(self) -> None:
        counts = self.named.arrays["counts"]
        self.named.keep(_CLASS, [label for label, count in zip(self.labels, counts, strict=True) if count > 0.5])
        if not self.labels:
            self.outer[:] = 0.0
            if self.plain is not None:
                self.plain.outer[:] = 0.0
