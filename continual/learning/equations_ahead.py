"""Normal equations factored ahead of an update: the rows that come then are solved with at a fraction of the cost."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.continual.learning.lapack import factored, solved, solved_half
from perennial.continual.learning.normal_equations import NormalEquations, Penalty, Regression

__all__ = ["EquationsAhead", "ProofRows"]

_SOLVED = 1e-10  # of the right side: what a solution may leave of it
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRows:
    """Rows that the second head has learnt too.

    Args:
        halves: what `EquationsAhead.halves` made of them, (D, rows).
        members: 1 where a row is of a class, (C, rows), the classes in the order of the equations.
    """

    halves: Floats
    members: Floats


class EquationsAhead:
    """The factor of one sketch's equations as they were, with which they are solved after rows were added.

    The factor is of float64, and the rows that came since are put to it by the matrix inversion lemma: a solution is
    as exact as one of the whole matrix, and is compared with the sums themselves before it is given away.

    Memory is 8 D^2 bytes.

    Source: Woodbury 1950; Higham 2002, chapter 10, for the error of a Cholesky factor.
    """

    def __init__(self, equations: NormalEquations, penalty: Penalty) -> None:
        self.penalty = penalty
        self._rows = float(equations.counts.sum())
        self._scale = equations.scale(penalty)
        self._factor = factored(equations.matrix(np.float64, penalty).T)
        self._mean = self.halves(equations.mean[None])[:, 0]

    def halves(self, features: Floats) -> Floats:
        """Rows (rows, D) solved with the lower factor alone, (D, rows); they are linear in the rows."""
        return solved_half(self._factor, np.asfortranarray((features * self._scale).T))

    def solutions(
        self, equations: NormalEquations, added: Floats, proof: ProofRows, whole: NormalEquations
    ) -> tuple[Regression, Regression] | None:
        """The regressions of the equations as they are now, and with the proof's rows; None where one is not exact.

        Args:
            equations: the same as were factored, but for rows that were added or changed their class.
            added: the features of those that were added, (rows, D).
            proof: rows that `whole` has and `equations` have not.
            whole: those with the proof's rows.
        """
        rows, after = float(equations.counts.sum()), float(whole.counts.sum())
        halves = self.halves(np.concatenate([added, equations.sums]))
        sums = halves[:, len(added) :]
        mean = sums.sum(axis=1) / rows
        first = _about_both_means(halves[:, : len(added)], self._rows, self._mean)
        beside = np.concatenate([first, _about_both_means(proof.halves, rows, mean)], axis=1)
        inner = beside.T @ beside
        inner.flat[:: len(inner) + 1] += 1.0
        later = (rows * mean + proof.halves.sum(axis=1)) / after
        left = [
            2.0 * (sums - np.outer(mean, equations.counts)),
            2.0 * (sums + proof.halves @ proof.members.T - np.outer(later, whole.counts)),
        ]
        for towards, columns in zip(left, (first.shape[1], beside.shape[1]), strict=True):
            if not columns:
                continue
            own = beside[:, :columns]
            small = np.asfortranarray(own.T @ towards)
            np.subtract(
                towards, own @ solved(factored(np.array(inner[:columns, :columns], order="F")), small), out=towards
            )
        both = solved_half(self._factor, np.asfortranarray(np.concatenate(left, axis=1)), turned=True)
        one, two = both[:, : sums.shape[1]], both[:, sums.shape[1] :]
        if not (self._is_exact(equations, one) and self._is_exact(whole, two)):
            return None
        return equations.regression(one, self.penalty), whole.regression(two, self.penalty)

    def _is_exact(self, equations: NormalEquations, weight: Floats) -> bool:
        """Whether a combination of the classes' solutions, drawn by chance, leaves next to nothing."""
        some = np.random.default_rng(len(weight)).standard_normal((weight.shape[1], 1))
        towards = (equations.towards * self._scale).T @ some
        left = towards - equations.times(weight @ some, self.penalty)
        return bool(np.abs(left).max(initial=0.0) <= _SOLVED * np.abs(towards).max(initial=0.0))


def _about_both_means(halves: Floats, rows: float, mean: Floats) -> Floats:
    """Columns (D, k + 1) whose outer products are what k rows add to the scatter of `rows` others about their mean."""
    count = halves.shape[1]
    if not count:
        return np.zeros((len(mean), 0))
    own = halves.mean(axis=1)
    apart = np.sqrt(rows * count / (rows + count)) * (mean - own)
    return np.concatenate([halves - own[:, None], apart[:, None]], axis=1)
