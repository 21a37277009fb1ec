"""The sums that a version with noise is solved from: what those before it have told, and what it tells beside."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.sums import NamedSums, SumsFile
from perennial.continual.privacy.noise import Normal, longest_row, noised, outer_noise, sound

__all__ = ["TOLD_FILE", "ToldSums", "beyond", "exact_sums"]

TOLD_FILE = "told.safetensors"  # beside the exact sums of a version whose head has noise
_FORMAT, _CLASS = "perennial-told-sums-1", "class"
_NAMES = ("counts", "sums", "outer")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldSums:
    """Sums with noise. `variance` is that of the noise on outer products off the diagonal, of all tellings together."""

    named: NamedSums
    variance: float = 0.0

    @classmethod
    def nothing(cls, own: AnchoredSums) -> Self:
        """Over the features of `own`, before anything is told."""
        return cls(named=NamedSums(exact_sums(own).layout))

    def telling(self, more: NamedSums, own: AnchoredSums, multiplier: float, rng: Normal) -> Self:
        """These sums and `more`, a difference of exact ones, with noise for a row more or less in it.

        Every class gets noise, whether it has new rows or not: which ones have is hidden too.
        """
        named = self.named.copy()
        for label in more.entries(_CLASS):
            named.places(_CLASS, [label])
        changed = NamedSums(named.layout)
        changed.places(_CLASS, named.entries(_CLASS))
        changed.merge(more)
        longest = longest_row(own)
        named.merge(noised(changed, longest, multiplier, rng))
        return replace(self, named=named, variance=self.variance + outer_noise(longest, multiplier) ** 2)

    def settled(self, own: AnchoredSums, beside: NamedSums | None = None) -> Any:
        """Sums of the kind of `own` that rows could have, of its classes alone; `beside` are sums of others."""
        named = self.named.copy()
        named.keep(_CLASS, [label for label in named.entries(_CLASS) if own.named.place(_CLASS, label) is not None])
        if beside is not None:
            named.merge(beside)
        return own.of_named(sound(named, float(np.sqrt(self.variance))))

    def write(self, path: Path) -> None:
        """Write one file, whole or not at all."""
        about = {"labels": self.named.entries(_CLASS), "variance": self.variance}
        SumsFile(format=_FORMAT, tensors=dict(self.named.arrays), about=about).write(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` left.

        Raises:
            DataError: the file is missing, or is none of these.
        """
        file = SumsFile.read(path)
        file.check_format(path, _FORMAT)
        arrays = {name: np.array(file.tensors[name]) for name in _NAMES}
        named = NamedSums(
            {"counts": (_CLASS,), "sums": (_CLASS, *arrays["sums"].shape[1:]), "outer": arrays["outer"].shape}
        )
        named.restore({_CLASS: file.about["labels"]}, arrays)
        return cls(named=named, variance=float(file.about["variance"]))


def exact_sums(own: AnchoredSums) -> NamedSums:
    """A copy of what is given away with noise, and no more: no sums of plain embeddings."""
    named = NamedSums({name: own.named.layout[name] for name in _NAMES})
    named.restore({_CLASS: own.named.entries(_CLASS)}, {name: own.named.arrays[name].copy() for name in _NAMES})
    return named


def beyond(now: NamedSums, before: NamedSums) -> NamedSums:
    """What has changed since: a class that has gone is in it with less than nothing."""
    difference = now.copy()
    taken = before.copy()
    for array in taken.arrays.values():
        np.negative(array, out=array)
    difference.merge(taken)
    return difference
