"""The fast learner that reads words too: ridge regression on an encoder's kernel features beside lexical ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import HeadWeights, Priors
from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.learning.sums import SumsFile

__all__ = ["USUAL_TEMPERATURE", "NormalEquations", "Penalty", "Regression", "Ridge"]

_FORMAT = "perennial-ridge-1"
USUAL_TEMPERATURE = 0.15  # what scores of 1 and -1 are divided by where no row tells
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    """How the sums of a ridge regression become a head.

    Args:
        shrinkage: what every weight's square costs; the squares of a row's features sum to about 1.
        words: what lexical features count beside those of the encoder; at 0 words are not read.
        priors: as frequent as the rows, or uniform, which lifts the scores of classes with few rows.
        anchor_rows: a class with n real rows keeps max(0, anchor_rows - n) rows' worth of its anchors.

    Raises:
        ConfigurationError: shrinkage is not positive, or words are negative.

    >>> Penalty(words=0.1).shrinkage
    0.1
    """

    shrinkage: float = 0.1
    words: float = 0.3
    priors: Priors = Priors.EMPIRICAL
    anchor_rows: int = 5

    def __post_init__(self) -> None:
        if not (self.shrinkage > 0 and self.words >= 0):
            raise ConfigurationError(
                f"shrinkage {self.shrinkage} must be positive and the weight of words {self.words} at least 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """A solved ridge regression: scores near 1 for the class of a row and near -1 for the others, not calibrated.

    >>> solved = Regression(labels=("a",), weight=np.zeros((1, 2)), bias=np.ones(1))
    >>> solved.scores(np.zeros((1, 2))).tolist()
    [[1.0]]
    """

    labels: tuple[str, ...]
    weight: NDArray[np.floating[Any]]  # (C, D)
    bias: NDArray[np.floating[Any]]  # (C,)

    def scores(self, features: Floats) -> Floats:
        """Scores (rows, C) of features (rows, D)."""
        scores: Floats = features @ self.weight.T + self.bias
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalEquations:
    """The sums of a ridge regression about their mean, before any penalty: solved as often as a penalty is tried.

    Targets of 1 and -1 make X'y of a class twice its centred feature sum.

    >>> learnt = NormalEquations(labels=("a",), counts=np.ones(1), mean=np.zeros(1), scatter=np.zeros((1, 1)),
    ...                          towards=np.zeros((1, 1)), of_encoder=1)
    >>> learnt.solved(Penalty()).bias.tolist()
    [1.0]
    """

    labels: tuple[str, ...]
    counts: Floats  # (C,)
    mean: Floats  # (D,)
    scatter: NDArray[np.floating[Any]]  # (D, D)
    towards: Floats  # (C, D)
    of_encoder: int  # features, which come first; the others are of words

    def solved(self, penalty: Penalty, *, keep: bool = True) -> Regression:
        """The regression with a penalty; the intercept is not shrunk.

        Without `keep` the matrix is used up, and not copied.
        """
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        scale = np.ones(len(self.mean))
        scale[self.of_encoder :] = np.sqrt(penalty.words)
        kinds = [self.scatter.dtype, np.dtype(np.float64)] if keep else [self.scatter.dtype]
        for kind in kinds:
            matrix = self.scatter.astype(kind, copy=keep)
            narrow = scale.astype(kind)
            for block in _blocks(len(matrix)):
                matrix[block] *= narrow[block, None] * narrow
            matrix.flat[:: len(matrix) + 1] += penalty.shrinkage
            try:
                factor = cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
                break
            except LinAlgError:  # so many rows that float32 loses the shrinkage
                if kind is kinds[-1]:
                    raise
        towards = (self.towards * scale).T  # (D, C)
        weight = cho_solve(factor, towards.astype(factor[0].dtype), check_finite=False).T * scale
        rows = self.counts.sum()
        bias = 2.0 * self.counts / rows - 1.0 - weight @ self.mean
        if penalty.priors is Priors.UNIFORM:
            bias -= USUAL_TEMPERATURE * np.log(self.counts / rows)
        return Regression(labels=self.labels, weight=weight, bias=bias)


class Ridge(AnchoredSums):
    """Least squares to 1 for a row's class and -1 for all others, kept as sums in float64.

    The features are random Fourier features of the embedding and hashed words and letters of the text. Rows are
    added, taken back and merged exactly as in `KernelLda`; neither a row nor a vocabulary is stored.

    Memory is 8 D^2 + 8 C D bytes for D = 3000 Fourier and 3072 lexical features: 299 MB with 77 classes, half of it
    on disk. Solving takes as much again.

    >>> head = Ridge(FourierFeatures.make(dimension=2, features=64, gamma=0.5, seed=0), LexicalFeatures.of_size(64))
    >>> head.add(ClassRows(X=np.array([[1.0, 0.0], [0.0, 1.0]]), labels=["yes", "no"], texts=["of course", "never"]))
    2
    >>> weights = head.solve()
    >>> weights.labels[int(weights.logits(np.array([[0.9, 0.1]]), ["course"]).argmax())]
    'yes'
    """

    def __init__(self, features: FourierFeatures, lexical: LexicalFeatures) -> None:
        super().__init__(features, features.size + lexical.size)
        self.lexical = lexical

    def mapped(self, rows: ClassRows) -> Floats:
        """Features of rows, (rows, D): those of the encoder first."""
        return np.concatenate([self.features(rows.X), self.lexical(rows.texts or [])], axis=1)

    def merge(self, other: "Ridge") -> None:
        """Adds all that `other` has learnt.

        Raises:
            DataError: it maps to other features, or shares keyed rows with this one.
        """
        if not self.features.same_as(other.features) or self.lexical != other.lexical:
            raise DataError("the two regressions use different features; make both with the same seed, gamma and sizes")
        self._take_over(other)

    def anchor(self, label: str, rows: ClassRows) -> None:
        """Gives a class stand-in rows, which `solve` uses until enough real ones have come."""
        self._check(rows)
        self._anchors[label] = self.mapped(rows)  # their features: no text stays
        self._anchor_means[label] = rows.X.mean(axis=0, dtype=np.float64)

    def equations(self, anchor_rows: int = Penalty().anchor_rows, *, precise: bool = True) -> "NormalEquations":
        """What a penalty is put on; with half the memory and time where they are not `precise`, for choosing one.

        A class with n real rows has max(0, anchor_rows - n) rows' worth of its anchors in it.

        Raises:
            DataError: nothing has been learnt.
        """
        labels, counts, sums, outer = self._sums.with_stand_ins(self._anchors, anchor_rows)
        if not labels:
            raise DataError("the regression has no rows; add labelled rows before solving it")
        rows = counts.sum()
        mean = sums.sum(axis=0) / rows
        for block in _blocks(len(outer)):  # in place: the matrix is the memory of this job
            outer[block] -= np.outer(rows * mean[block], mean)
        return NormalEquations(
            labels=labels,
            counts=counts,
            mean=mean,
            scatter=outer if precise else outer.astype(np.float32),
            towards=2.0 * (sums - counts[:, None] * mean),
            of_encoder=self.features.size,
        )

    def regress(self, penalty: Penalty = Penalty()) -> Regression:
        """The regression of what is in now.

        Raises:
            DataError: nothing has been learnt.
        """
        return self.equations(penalty.anchor_rows).solved(penalty, keep=False)

    def solve(self, penalty: Penalty = Penalty()) -> HeadWeights:
        """The head for what is in now: some 4 seconds for D = 6072 on two cores; its scores are not calibrated.

        Raises:
            DataError: nothing has been learnt.
        """
        solved = self.regress(penalty)
        weight = solved.weight - solved.weight.mean(axis=0)
        bias = solved.bias - solved.bias.mean()
        size = self.features.size
        return HeadWeights(
            labels=solved.labels,
            omega=self.features.omega,
            phase=self.features.phase,
            weight=weight[:, :size].astype(np.float32),
            bias=bias.astype(np.float32),
            temperature=1.0,
            lexical=np.ascontiguousarray(weight[:, size:], dtype=np.float32),
            lexical_of_words=self.lexical.of_words,
        )

    def copy(self) -> "Ridge":
        """Sums of their own with the same values."""
        twin = Ridge(self.features, self.lexical)
        twin._sums = self._sums.narrowed(slice(None))
        twin._anchors, twin._anchor_means = dict(self._anchors), dict(self._anchor_means)
        return twin

    def save(self, path: Path) -> None:
        """Writes the sums to a safetensors file; `load` gives back exactly this regression."""
        self._to_file(_FORMAT, lexical=self.lexical.size, of_words=self.lexical.of_words).write(path)

    @classmethod
    def load(cls, path: Path) -> "Ridge":
        """The regression that `save` wrote.

        Raises:
            DataError: the file is missing or is not such a file.
        """
        file = SumsFile.read(path)
        file.check_format(path, _FORMAT)
        features = FourierFeatures(omega=file.tensors["omega"], phase=file.tensors["phase"])
        head = cls(features, LexicalFeatures(size=file.about["lexical"], of_words=file.about.get("of_words", 0)))
        head._restore(file.tensors, file.about)
        return head

    def _check(self, rows: ClassRows) -> None:
        super()._check(rows)
        if rows.texts is None:
            raise DataError("a ridge regression reads words too; give the texts with their embeddings")


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + 512) for start in range(0, size, 512))
