"""The fast learner: discriminant analysis in a kernel's feature space, from sums that can be added and taken back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import HeadWeights, Priors
from perennial.continual.learning.sums import SumsFile

__all__ = ["Discriminant", "HeadWeights", "KernelLda", "Priors"]

_SETTLED_ROWS = 30.0  # from here on a class's mean is taken as it is
_FORMAT = "perennial-kernel-lda-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discriminant:
    """How the sums of a kernel LDA become a head.

    Args:
        shrinkage: added to the diagonal of the within-class covariance, whose trace is below 1.
        temperature: the logits are divided by it.
        priors: uniform, or as frequent as the rows.
        anchor_rows: a class with n real rows keeps max(0, anchor_rows - n) rows' worth of its anchors.

    Raises:
        ConfigurationError: shrinkage or temperature is not positive.

    >>> Discriminant().priors.value
    'uniform'
    """

    shrinkage: float = 3e-6
    temperature: float = 1.0
    priors: Priors = Priors.UNIFORM
    anchor_rows: int = 5

    def __post_init__(self) -> None:
        if not (self.shrinkage > 0 and self.temperature > 0):
            raise ConfigurationError(f"shrinkage {self.shrinkage} and temperature {self.temperature} must be positive")


class KernelLda(AnchoredSums):
    """Class means and one shared covariance of Fourier features, kept as sums in float64.

    Rows may come in any order, class by class or mixed, today or in a year, and may be taken back: the sums, and so
    the head, are those of the rows that are in. Rows added with a key are remembered by it (16 bytes a row): adding
    one again changes nothing, and adding it with another label moves it. A class whose last row leaves is gone.

    Memory is 8 D^2 + 8 C D bytes, 74 MB for D = 3000 and 77 classes; half of that on disk.

    Source: Hayes and Kanan 2020 (streaming LDA); Momeni et al. 2024, arXiv 2412.15571 (with Fourier features).

    >>> import numpy as np
    >>> head = KernelLda(FourierFeatures.make(dimension=2, features=64, gamma=0.5, seed=0))
    >>> head.add(ClassRows(X=np.array([[1.0, 0.0], [0.0, 1.0]]), labels=["yes", "no"]))
    2
    >>> weights = head.solve()
    >>> weights.labels[int(weights.logits(np.array([[0.9, 0.1]])).argmax())]
    'yes'
    """

    def __init__(self, features: FourierFeatures) -> None:
        super().__init__(features, features.size)

    def mapped(self, rows: ClassRows) -> NDArray[np.float64]:
        """Features of rows, (rows, D): those of the embedding."""
        return self.features(rows.X)

    def merge(self, other: "KernelLda") -> None:
        """Adds all that `other` has learnt.

        Raises:
            DataError: it maps to other features, or shares keyed rows with this one.
        """
        if not self.features.same_as(other.features):
            raise DataError("the two heads use different Fourier features; make both with the same seed and gamma")
        self._take_over(other)

    def anchor(self, label: str, rows: ClassRows) -> None:
        """Gives a class stand-in rows, which `solve` uses until enough real ones have come."""
        self.features.check(rows.X)
        self._anchors[label] = rows.X.astype(np.float64)
        self._anchor_means[label] = self._anchors[label].mean(axis=0)

    def solve(self, settings: Discriminant = Discriminant()) -> HeadWeights:
        """The head for what is in now; about a second for D = 3000, half of one more while a class has under 30 rows.

        The mean of n rows lies farther from every row than the class's true mean, by the trace of the noise over n: a
        class with few rows would hardly ever be answered. Up to 30 rows that is put right in the bias; a class with
        nothing but stand-in rows counts as one.
        Source: plug-in discriminants without their bias, Moran and Murphy, Applied Statistics 28, 1979.

        Raises:
            DataError: nothing has been learnt.
        """
        from scipy.linalg import cho_factor, cho_solve

        shrinkage, temperature = settings.shrinkage, settings.temperature
        stood_in = self._sums.with_stand_ins(
            {label: self.features(X) for label, X in self._anchors.items()}, settings.anchor_rows
        )
        labels, counts, sums = stood_in.labels, stood_in.counts, stood_in.sums
        real = np.array([self._sums.of(label)[0] for label in labels])
        rows = real + (counts > real)  # stand-ins of a class vary less than its rows do: together they count as one
        if not labels:
            raise DataError("the head has no rows; add labelled rows before solving it")
        means = sums / counts[:, None]  # (C, D)
        scatter = self._sums.outer + stood_in.beside.T @ stood_in.beside
        scatter -= (means * counts[:, None]).T @ means
        scatter /= counts.sum()
        scatter.flat[:: len(scatter) + 1] += shrinkage
        factor = cho_factor(scatter, lower=True, overwrite_a=True, check_finite=False)
        weight = cho_solve(factor, means.T, check_finite=False).T  # (C, D)
        bias = -0.5 * (weight * means).sum(axis=1)
        if rows.min() < _SETTLED_ROWS:
            bias += 0.5 * _noise(factor, shrinkage) * np.maximum(1.0 / rows - 1.0 / _SETTLED_ROWS, 0.0)
        if settings.priors is Priors.EMPIRICAL:
            bias += np.log(counts / counts.sum())
        weight -= weight.mean(axis=0)  # the same answer with smaller numbers, so float32 loses less
        bias -= bias.mean()
        return HeadWeights(
            labels=labels,
            omega=self.features.omega,
            phase=self.features.phase,
            weight=(weight / temperature).astype(np.float32),
            bias=(bias / temperature).astype(np.float32),
            temperature=temperature,
        )

    def copy(self) -> "KernelLda":
        """Sums of their own with the same values."""
        return self.narrowed(self.features.size)

    def narrowed(self, features: int) -> "KernelLda":
        """A copy on the first Fourier features only, or all if there are fewer: cheap to solve when choosing."""
        copy = KernelLda(self.features.narrowed(features))
        copy._sums = self._sums.narrowed(slice(0, copy.features.size), np.sqrt(self.features.size / copy.features.size))
        copy._anchors, copy._anchor_means = dict(self._anchors), dict(self._anchor_means)
        return copy

    def blank(self) -> "KernelLda":
        """The same features, and nothing learnt."""
        return KernelLda(self.features)

    def save(self, path: Path, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Writes the sums to a safetensors file, with `more` about them; `load` gives back exactly this head."""
        self._to_file(_FORMAT, **more).write(path)

    @classmethod
    def load(cls, path: Path) -> "KernelLda":
        """The head that `save` wrote.

        Raises:
            DataError: the file is missing or is not such a file.
        """
        file = SumsFile.read(path)
        file.check_format(path, _FORMAT)
        head = cls(FourierFeatures(omega=file.tensors["omega"], phase=file.tensors["phase"]))
        head._restore(file.tensors, file.about)
        return head


def _noise(factor: tuple[NDArray[np.float64], bool], shrinkage: float) -> float:
    """Trace of S (S + shrinkage I)^-1, from the Cholesky factor of the sum: how far a row lies from its mean."""
    from scipy.linalg.lapack import dtrtri

    inverse = np.tril(dtrtri(np.tril(factor[0]), lower=1)[0])
    return float(len(inverse) - shrinkage * np.einsum("ij,ij->", inverse, inverse))
