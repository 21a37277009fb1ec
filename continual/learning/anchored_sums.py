"""What every closed form that tells classes apart is made of: sums by class, and stand-in rows for classes without."""

from abc import ABC, abstractmethod
from collections.abc import KeysView, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.learning.class_sums import PLAIN_OUTER, PLAIN_SUMS, ClassRows, ClassSums, PlainSums
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import HeadWeights, RowFeatures
from perennial.continual.learning.lapack import on_each
from perennial.continual.learning.sums import KnownRows, NamedSums, SumsFile, unpacked

__all__ = ["AnchoredSums"]

_PLAIN_PACKED = f"{PLAIN_OUTER}_lower"


class AnchoredSums(ABC):
    """Sums over the mapped rows of each class, and anchors: stand-in rows that count until real ones have come.

    A form of its own says how a row is mapped, what an anchor keeps, and how the sums are solved.
    """

    def __init__(self, features: FourierFeatures, size: int, *, parts: int = 1) -> None:
        self.features = features
        self._sums = ClassSums(size, plain=features.dimension, parts=parts)
        self._anchors: dict[str, NDArray[np.float64]] = {}
        self._anchor_means: dict[str, NDArray[np.float64]] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that have rows or anchors, sorted: the order of the logits, whatever the order of arrival."""
        return tuple(sorted({*self._sums.labels, *self._anchors}))

    @property
    def counts(self) -> dict[str, int]:
        """Rows by class."""
        return self._sums.counts

    @property
    def rows(self) -> int:
        """Rows that are in."""
        return self._sums.rows

    @property
    def known_keys(self) -> KeysView[int]:
        """The keys of the rows that were added with one."""
        return self._sums.known.labels.keys()

    @property
    def known_rows(self) -> KnownRows:
        """A copy of what is known of those rows: key and class."""
        return KnownRows(self._sums.known.labels)

    @property
    def named(self) -> NamedSums:
        """The sums themselves."""
        return self._sums.named

    @property
    def plain(self) -> PlainSums | None:
        """What the embeddings themselves sum to; None of sums that an earlier release began."""
        return self._sums.plain

    @property
    def anchor_means(self) -> Mapping[str, NDArray[np.float64]]:
        """The mean embedding of each class's stand-in rows, (d,), where it is known."""
        return self._anchor_means

    @abstractmethod
    def mapped(self, rows: ClassRows) -> NDArray[np.float64]:
        """Features of rows, (rows, D)."""

    def seen(self, rows: ClassRows) -> RowFeatures:
        """Rows as every head of these sums sees them."""
        self._check(rows)
        return RowFeatures(of_embeddings=self.features(rows.X))

    def add(self, rows: ClassRows) -> int:
        """Learns rows and returns how many changed the sums; see `Sums.add`.

        Raises:
            DataError: the rows do not fit the features.
        """
        self._check(rows)
        return self._sums.add(rows, self.mapped)

    def remove(self, rows: ClassRows) -> int:
        """Takes rows back and returns how many left: afterwards the sums are those of a head that never saw them.

        With keys, rows that are not in are passed over and the label that they came in with is used.

        Raises:
            DataError: the rows do not fit the features, or more rows of a class are taken than are in it.
        """
        self._check(rows)
        return self._sums.remove(rows, self.mapped)

    @abstractmethod
    def copy(self) -> Self:
        """Sums of their own with the same values."""

    @abstractmethod
    def blank(self) -> Self:
        """The same features, and nothing learnt."""

    def of_named(self, named: NamedSums) -> Self:
        """The same features with these sums, of rows without keys; they are taken over."""
        found = self.blank()
        if PLAIN_OUTER not in named.layout:
            found._sums.drop_plain()
        found.named.restore({"class": named.entries("class")}, named.arrays)
        return found

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Adds all that `other` has learnt, which is of the same kind.

        Raises:
            DataError: it maps to other features, or shares keyed rows with this one.
        """

    @abstractmethod
    def save(self, path: Path, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Writes the sums to a safetensors file, with `more` about them; `load` gives back exactly these."""

    @abstractmethod
    def solve(self, settings: Any) -> HeadWeights:
        """The head for what is in now.

        Raises:
            DataError: nothing has been learnt.
        """

    def solve_with(self, more: ClassRows, settings: Any) -> tuple[HeadWeights, HeadWeights]:
        """The head for what is in now, and the one that has learnt `more` too, which do not come in.

        Raises:
            DataError: nothing has been learnt, or a row is of a class that is not in.
        """
        self._check(more)
        if strange := sorted(set(more.labels) - set(self.labels)):
            raise DataError(f"rows of {strange[:5]} are no rows of the classes that are in; leave them out")
        head = self.solve(settings)
        if not len(more):
            return head, head
        whole = self.copy()
        whole.add(replace(more, keys=None))
        return head, whole.solve(settings)

    def drop_anchors(self) -> None:
        """Takes every class's stand-in rows away; a class without real rows is gone."""
        self._anchors, self._anchor_means = {}, {}

    def _check(self, rows: ClassRows) -> None:
        self.features.check(rows.X)

    def _take_over(self, other: Self) -> None:
        """Add the sums and anchors of one with the same features."""
        self._sums.merge(other._sums)
        self._anchors = {**other._anchors, **self._anchors}
        self._anchor_means = {**other._anchor_means, **self._anchor_means}

    def _to_file(self, kind: str, **about: Any) -> SumsFile:
        order, arrays = self._sums.labels, self._sums.named.arrays
        plain = self.plain
        of_plain = {} if plain is None else {PLAIN_SUMS: plain.sums}
        squares = {} if plain is None else {_PLAIN_PACKED: plain.outer}
        return SumsFile(
            format=kind,
            tensors={
                "omega": self.features.omega,
                "phase": self.features.phase,
                "counts": arrays["counts"],
                "sums": arrays["sums"],
                **of_plain,
                **self._sums.known.tensors(order),
                **{f"anchor.{row}": self._anchors[label] for row, label in enumerate(self._anchors)},
                **{
                    f"anchor_mean.{row}": self._anchor_means[label]
                    for row, label in enumerate(self._anchors)
                    if label in self._anchor_means
                },
            },
            about={"labels": order, "anchors": list(self._anchors), **about},
            squares={"outer_lower": arrays["outer"], **squares},
        )

    def _restore(self, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
        order = about["labels"]
        outer = _whole(tensors["outer_lower"], self._sums.outer)
        arrays = {"counts": tensors["counts"], "sums": tensors["sums"], "outer": outer}
        if _PLAIN_PACKED in tensors:
            plain = unpacked(tensors[_PLAIN_PACKED], self.features.dimension)
            arrays |= {PLAIN_SUMS: tensors[PLAIN_SUMS], PLAIN_OUTER: plain}
        else:
            self._sums.drop_plain()
        self.named.restore({"class": order}, arrays)
        self._sums.known = KnownRows.of_tensors(tensors, order)
        self._anchors = {label: tensors[f"anchor.{row}"] for row, label in enumerate(about["anchors"])}
        means = {label: tensors.get(f"anchor_mean.{row}") for row, label in enumerate(about["anchors"])}
        self._anchor_means = {label: mean for label, mean in means.items() if mean is not None}


def _whole(lower: NDArray[np.float64], into: NDArray[np.float64]) -> NDArray[np.float64]:
    """The squares whose triangles a file has, filled in place.

    Raises:
        DataError: they are of another size.
    """
    size = into.shape[-1]
    if lower.shape != (wanted := (*into.shape[:-2], size * (size + 1) // 2)):
        raise DataError(f"outer products have the shape {lower.shape}, not {wanted}; retrain from the stored rows")
    pairs = list(zip(lower.reshape(-1, lower.shape[-1]), into.reshape(-1, size, size), strict=True))
    on_each(lambda pair: unpacked(pair[0], size, pair[1]), pairs)
    return into
