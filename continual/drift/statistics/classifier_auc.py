"""Domain classifier: how well a linear model tells current rows from the reference, on rows it was not fitted on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.statistics.permutation import Bursts, exchanged, sequential_p_value
from perennial.continual.drift.statistics.result import StatisticResult
from perennial.continual.drift.statistics.rff_mmd import matrix, sample_rows

__all__ = ["classifier_auc"]

MAX_ROWS = 600
"""Rows of each side that are used; more are sampled. Cost grows with the cube of the rows."""


def classifier_auc(
    reference: NDArray[np.floating[Any]],
    current: NDArray[np.floating[Any]],
    *,
    rng: np.random.Generator,
    permutations: int = 999,
    ridge: float = 1.0,
    floor: float = 0.08,
    bursts: Bursts | None = None,
) -> StatisticResult:
    """Return the held-out AUC of a ridge classifier between the two samples, with a permutation p-value.

    Both sides are (n, d) and are split into two halves; each half is scored by the classifier of the other, and the
    two AUC values are averaged. The null repeats the whole procedure, fitting included, with the sides exchanged
    within each half. Rows of one burst are in one half. `statistic` is the AUC, `effect` is AUC - 0.5, at least 0.

    Source: Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests.

    >>> rng = np.random.default_rng(1)
    >>> x = rng.normal(size=(300, 16))
    >>> classifier_auc(x, rng.normal(0.6, 1.0, size=(300, 16)), rng=rng).relevant
    True
    >>> classifier_auc(x, rng.normal(size=(100, 16)), rng=rng).relevant
    False
    """
    a, b = matrix(reference, "reference"), matrix(current, "current window")
    n_reference, n_current = len(a), len(b)
    own = (None, None) if bursts is None else bursts
    (a, of_a), (b, of_b) = (sample_rows(side, MAX_ROWS, rng, its) for side, its in zip((a, b), own, strict=True))
    of_sides = [_halves(len(a), of_a, rng), _halves(len(b), of_b, rng)]
    halves = [np.concatenate([a[of_sides[0][i]], b[of_sides[1][i]]]) for i in range(2)]
    members = [np.arange(len(half)) >= len(of_sides[0][i]) for i, half in enumerate(halves)]
    mixed = [rng.permutation(len(half)) for half in halves]  # equal texts tie; their order must not tell their side
    halves, members = ([part[order] for part, order in zip(parts, mixed, strict=True)] for parts in (halves, members))
    places = [None, None]
    if of_a is not None and of_b is not None:
        both = [np.concatenate([of_a[of_sides[0][i]], of_b[of_sides[1][i]]]) for i in range(2)]
        places = [part[order] for part, order in zip(both, mixed, strict=True)]
    scorers = [_scorer(halves[1], halves[0], ridge), _scorer(halves[0], halves[1], ridge)]

    def mean_auc(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Take memberships (count, rows of the half) to the mean of both held-out AUC values."""
        return (_auc(scorers[0] @ _targets(second), first) + _auc(scorers[1] @ _targets(first), second)) / 2

    def draw(count: int) -> NDArray[np.float64]:
        shuffled = [exchanged(member, its, rng, count) for member, its in zip(members, places, strict=True)]
        return mean_auc(shuffled[0], shuffled[1])

    auc = float(mean_auc(members[0][None], members[1][None])[0])
    p_value, _ = sequential_p_value(auc, draw, limit=permutations)
    return StatisticResult(
        statistic=auc,
        p_value=p_value,
        effect=max(0.0, auc - 0.5),
        floor=floor,
        n_reference=n_reference,
        n_current=n_current,
    )


def _halves(rows: int, bursts: NDArray[np.int64] | None, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """The places of two random halves of a side; a burst is in one of them."""
    if bursts is None:
        order = rng.permutation(rows)
        return [order[0::2], order[1::2]]
    order = np.argsort(rng.random(int(bursts.max()) + 1)[bursts], kind="stable")
    return [order[: rows // 2], order[rows // 2 :]]


def _scorer(fit: NDArray[np.float32], score: NDArray[np.float32], ridge: float) -> NDArray[np.float32]:
    """Return the (scored, fitted) matrix that takes targets of the fitted rows to scores of the others."""
    centre = fit.mean(axis=0)
    x, z = (fit - centre).astype(np.float64), (score - centre).astype(np.float64)
    gram = x @ x.T
    strength = ridge * max(float(np.trace(gram)) / len(gram), 1e-9)
    gram[np.diag_indices_from(gram)] += strength
    scorer: NDArray[np.float32] = np.linalg.solve(gram, x @ z.T).T.astype(np.float32)
    return scorer


def _targets(member: NDArray[np.bool_]) -> NDArray[np.float32]:
    targets: NDArray[np.float32] = (member - member.mean(axis=1, keepdims=True)).T.astype(np.float32)
    return targets


def _auc(scores: NDArray[np.float32], member: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the AUC of each column of `scores` (rows, count) for memberships (count, rows)."""
    order = np.argsort(scores.T, axis=1)  # ties fall by place, which is random
    sums = np.take_along_axis(member, order, axis=1) @ np.arange(1.0, member.shape[1] + 1.0)  # of the positives' ranks
    positives = member.sum(axis=1)
    negatives = member.shape[1] - positives
    total: NDArray[np.float64] = (sums - positives * (positives + 1) / 2) / (positives * negatives)
    return total
