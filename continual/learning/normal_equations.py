"""The normal equations of a ridge regression: factored in float32, solved to float64 by refinement."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.head import Priors
from perennial.continual.learning.lapack import factored, solved, solved_half

__all__ = ["USUAL_TEMPERATURE", "NormalEquations", "Penalty", "Regression", "Solver", "together"]

USUAL_TEMPERATURE = 0.15  # what scores of 1 and -1 are divided by where no row tells
_SOLVED = 1e-11  # of the right side: a residual as small as this is none
_STEPS = 40  # of refinement
_SURELY = 0.01  # of the limit: a residual that is foreseen to be as small need not be worked out
_ROWS = 64  # of a matrix at a time, which the processor's cache holds
Floats = NDArray[np.float64]
_Matrix = NDArray[np.floating[Any]]
_Inverse = Callable[[Floats], Floats]


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
    weight: _Matrix  # (C, D)
    bias: _Matrix  # (C,)

    def scores(self, features: Floats) -> Floats:
        """Scores (rows, C) of features (rows, D)."""
        scores: Floats = features @ self.weight.T + self.bias
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalEquations:
    """The sums of a ridge regression about their mean, before any penalty: solved as often as a penalty is tried.

    Targets of 1 and -1 make X'y of a class twice its centred feature sum. The matrix is not copied: what is beside
    the sums, and the mean, are small and stay apart.

    >>> learnt = NormalEquations(labels=("a",), counts=np.ones(1), sums=np.zeros((1, 1)), outer=np.zeros((1, 1)),
    ...                          of_encoder=1)
    >>> learnt.solved(Penalty()).bias.tolist()
    [1.0]
    """

    labels: tuple[str, ...]
    counts: Floats  # (C,)
    sums: Floats  # (C, D)
    outer: Floats  # (D, D), of the rows that are in
    of_encoder: int  # features, which come first; the others are of words
    beside: Floats | None = None  # (rows, D): of rows that counts and sums have and `outer` has not, by their weight

    @property
    def mean(self) -> Floats:
        """Of all rows' features, (D,)."""
        mean: Floats = self.sums.sum(axis=0) / self.counts.sum()
        return mean

    @property
    def towards(self) -> Floats:
        """X'y about the mean, (C, D)."""
        towards: Floats = 2.0 * (self.sums - self.counts[:, None] * self.mean)
        return towards

    def scale(self, penalty: Penalty) -> Floats:
        """What each feature is multiplied by, (D,)."""
        scale = np.ones(self.sums.shape[1])
        scale[self.of_encoder :] = np.sqrt(penalty.words)
        return scale

    def matrix(self, kind: type[np.floating[Any]], penalty: Penalty) -> _Matrix:
        """The penalised matrix (D, D), a copy that may be used up; what stands below the diagonal means nothing."""
        matrix, mean = np.empty(self.outer.shape, kind), self.mean
        rows, scale = self.counts.sum(), self.scale(penalty)
        room = np.empty((_ROWS, len(matrix)))  # new memory for each block would take longer than the arithmetic
        for block in _blocks(len(matrix)):
            behind = slice(block.start, None)
            own = self.outer[block, behind]
            part = np.multiply(-rows * mean[block, None], mean[behind], out=room[: len(own), block.start :])
            part += own
            if self.beside is not None:
                part += self.beside[:, block].T @ self.beside[:, behind]
            part *= scale[block, None]
            part *= scale[behind]
            matrix[block, behind] = part
        matrix.flat[:: len(matrix) + 1] += kind(penalty.shrinkage)
        return matrix

    def times(self, X: Floats, penalty: Penalty) -> Floats:
        """The penalised matrix times X (D, C), in float64 and without the matrix."""
        scale = self.scale(penalty)[:, None]
        scaled = scale * X
        product = self.outer @ scaled
        if self.beside is not None:
            product += self.beside.T @ (self.beside @ scaled)
        mean = self.mean
        product -= np.outer(self.counts.sum() * mean, mean @ scaled)
        product *= scale
        product += penalty.shrinkage * X
        return product

    def regression(self, weight: Floats, penalty: Penalty) -> Regression:
        """With the intercept, which is not shrunk, to a solution (D, C)."""
        rows, scaled = self.counts.sum(), weight.T * self.scale(penalty)
        bias = 2.0 * self.counts / rows - 1.0 - scaled @ self.mean
        if penalty.priors is Priors.UNIFORM:
            bias -= USUAL_TEMPERATURE * np.log(self.counts / rows)
        return Regression(labels=self.labels, weight=scaled, bias=bias)

    def solved(self, penalty: Penalty, *, precise: bool = True) -> Regression:
        """The regression with a penalty; where it is not `precise`, for choosing one, in float32 alone."""
        return Solver(self, penalty).solution(precise=precise)


def together(regressions: Sequence[Regression]) -> Regression:
    """The mean of regressions on features of their own, as one on all of them side by side."""
    return Regression(
        labels=regressions[0].labels,
        weight=np.concatenate([each.weight for each in regressions], axis=1) / len(regressions),
        bias=np.mean([each.bias for each in regressions], axis=0),
    )


class Solver:
    """One penalty's factored equations.

    The factor is of float32: half the time and memory of float64. Refinement against the sums themselves, which are
    of float64, brings the solution to where float64 would have it. Where float32 loses the shrinkage, because there
    are so many rows or so little of it, the factor is of float64 too.

    >>> learnt = NormalEquations(labels=("a",), counts=np.ones(1), sums=np.zeros((1, 1)), outer=np.zeros((1, 1)),
    ...                          of_encoder=1)
    >>> Solver(learnt, Penalty()).solution().weight.tolist()
    [[0.0]]
    """

    def __init__(self, equations: NormalEquations, penalty: Penalty) -> None:
        self._equations, self._penalty = equations, penalty
        self._known: Floats | None = None  # the precise solution, once somebody asked for it
        try:
            self._factor = factored(equations.matrix(np.float32, penalty).T)
        except np.linalg.LinAlgError:
            self._factor = factored(equations.matrix(np.float64, penalty).T)

    def solution(self, *, precise: bool = True) -> Regression:
        """The regression of the rows in the equations."""
        equations, penalty = self._equations, self._penalty
        towards = _right_side(equations, penalty)
        weight = self._inverse(towards)
        if precise:
            weight = self._known = self._refined(equations, towards, weight, self._inverse)
        return equations.regression(weight, penalty)

    def with_rows(self, features: Floats, counts: Floats, sums: Floats) -> Regression:
        """The regression of these rows beside those in the equations: exact, by the factor that is there.

        Args:
            features: of the rows, (rows, D), fewer than there are features.
            counts: rows of each class among them, (C,).
            sums: their feature sum a class, (C, D).

        Source: the matrix inversion lemma, Woodbury 1950.
        """
        equations, penalty = self._equations, self._penalty
        whole = NormalEquations(
            labels=equations.labels,
            counts=equations.counts + counts,
            sums=equations.sums + sums,
            outer=equations.outer,
            of_encoder=equations.of_encoder,
            beside=features if equations.beside is None else np.concatenate([equations.beside, features]),
        )
        added = _about_both_means(equations, features) * equations.scale(penalty)
        inverse, towards = self._inverse_with(added), _right_side(whole, penalty)
        if self._known is None:
            weight = inverse(towards)
        else:  # what is left is less, so that fewer steps refine it
            left = towards - _right_side(equations, penalty) - added.T @ (added @ self._known)
            weight = self._known + inverse(left)
        return whole.regression(self._refined(whole, towards, weight, inverse), penalty)

    def _inverse(self, towards: Floats) -> Floats:
        return solved(self._factor, np.array(towards, self._factor.dtype, order="F")).astype(np.float64)

    def _inverse_with(self, rows: Floats) -> _Inverse:
        """The inverse with the outer products of some rows (rows, D) in the matrix."""
        factor, kind = self._factor, self._factor.dtype
        half = solved_half(factor, np.array(rows.T, kind, order="F"))  # (D, rows)
        small = half.T @ half
        small.flat[:: len(small) + 1] += kind.type(1)
        inner = factored(small.T)

        def inverse(towards: Floats) -> Floats:
            first = solved_half(factor, np.array(towards, kind, order="F"))
            first -= half @ solved(inner, np.asfortranarray(half.T @ first))
            return solved_half(factor, first, turned=True).astype(np.float64)

        return inverse

    def _refined(self, equations: NormalEquations, towards: Floats, weight: Floats, inverse: _Inverse) -> Floats:
        """A solution made better until its residual is next to none; by a factor of float64 where that does not come.

        Source: iterative refinement, Higham 2002, chapter 12.
        """
        enough, last = _SOLVED * np.abs(towards).max(initial=0.0), np.inf
        for _ in range(_STEPS):
            residual = towards - equations.times(weight, self._penalty)
            left = np.abs(residual).max(initial=0.0)
            if left <= enough:
                return weight
            if not left < 0.5 * last:
                break
            weight = weight + inverse(residual)
            if last < np.inf and left * (left / last) < _SURELY * enough:
                return weight  # a step leaves so small a share that the next residual need not be looked at
            last = left
        return solved(factored(equations.matrix(np.float64, self._penalty).T), towards.copy(order="F"))


def _right_side(equations: NormalEquations, penalty: Penalty) -> Floats:
    return np.asfortranarray((equations.towards * equations.scale(penalty)).T)  # (D, C)


def _about_both_means(equations: NormalEquations, features: Floats) -> Floats:
    """Rows (rows + 1, D) whose outer products are what `features` add to the scatter about the mean of all rows."""
    many, rows, mean = equations.counts.sum(), len(features), features.mean(axis=0)
    apart = np.sqrt(many * rows / (many + rows)) * (equations.mean - mean)
    return np.concatenate([features - mean, apart[None]])


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, size, _ROWS))
