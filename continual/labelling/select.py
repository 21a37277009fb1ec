"""Which answered requests are worth a person's label."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perennial.continual.errors import ConfigurationError, DataError

__all__ = ["Reason", "Selected", "Shares", "select"]


class Reason(StrEnum):
    """Why a row was chosen for labelling."""

    UNIFORM = "uniform"
    UNCERTAIN = "uncertain"
    DRIFTED = "drifted"
    UNKNOWN = "unknown"  # of none of the classes
    DISPUTED = "disputed"  # two versions under comparison disagree on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How a labelling budget is split; what a part can't use goes to the uniform one.

    The uniform part is never empty: it alone tells what lies outside the regions one thought of.

    >>> Shares(uniform=0.5, uncertain=0.5, drifted=0.0).of(10)
    (5, 0)
    """

    uniform: float = 0.3
    uncertain: float = 0.4
    drifted: float = 0.3

    def __post_init__(self) -> None:
        parts = (self.uniform, self.uncertain, self.drifted)
        if min(parts) < 0 or abs(sum(parts) - 1) > 1e-9 or self.uniform <= 0:
            raise ConfigurationError(
                f"labelling shares are uniform {self.uniform}, uncertain {self.uncertain}, drifted {self.drifted}; "
                "none may be negative, uniform must be above 0, and they must sum to 1"
            )

    def of(self, budget: int) -> tuple[int, int]:
        """Return how many rows the uncertain and the drifted part may take; the rest, at least one, is uniform's."""
        uncertain = int(budget * self.uncertain + 1e-9)
        return uncertain, min(int(budget * self.drifted + 1e-9), max(budget - 1 - uncertain, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """One row to label: its place in what was offered, why, and the probability that it would be chosen.

    `probability` is 1 for a row chosen for its score; for the others it is the uniform part's rate among them. With
    it an estimate over the labelled rows speaks for all of them, see `estimate_accuracy`.

    >>> Selected(index=3, reason=Reason.UNIFORM, probability=0.1).weight
    10.0
    """

    index: int
    reason: Reason
    probability: float

    @property
    def weight(self) -> float:
        """For how many rows this one speaks (inverse propensity)."""
        return 1.0 / self.probability


def select(
    margins: ArrayLike,
    *,
    budget: int,
    rng: np.random.Generator,
    shares: Shares | None = None,
    drift: ArrayLike | None = None,
    unknown: ArrayLike | None = None,
) -> tuple[Selected, ...]:
    """Return the rows to label, at most `budget`, each once, in random order: stopping early then skews nothing.

    `margins` is the gap between the two highest probabilities of each row: the smallest are the uncertain ones.
    `drift` scores each row by how much it belongs to what changed (higher means more; NaN means unknown, never chosen
    for drift); without it that share goes to the uniform part. Rows that are `unknown`, of none of the classes, come
    first in that share, the most drifted of them first. The uniform part is drawn from all rows left over.
    Source: breaking ties, Luo et al., JMLR 6, 2005; the random share, Horvitz and Thompson, JASA 47, 1952.

    >>> chosen = select([0.9, 0.1, 0.8, 0.7], budget=2, rng=np.random.default_rng(0), shares=Shares(uniform=0.5,
    ...     uncertain=0.5, drifted=0.0))
    >>> sorted((row.reason.value, row.index) for row in chosen)[0]
    ('uncertain', 1)

    Raises:
        DataError: a margin is not in [0, 1], or the lists differ in length.
    """
    gap, change, strange = _checked(margins, drift, unknown)
    if budget < 0:
        raise DataError(f"labelling budget is {budget} rows; it must be at least 0")
    rows = len(gap)
    if budget >= rows:
        everything = [Selected(index=i, reason=Reason.UNIFORM, probability=1.0) for i in range(rows)]
        return _shuffled(everything, rng)
    uncertain, drifted = (shares or Shares()).of(budget)
    order = np.lexsort((-np.nan_to_num(change, nan=-np.inf), ~strange))
    by_change = [int(i) for i in order if strange[i] or np.isfinite(change[i])][:drifted]
    taken = set(by_change)
    by_gap = [int(i) for i in np.argsort(gap, kind="stable") if int(i) not in taken][:uncertain]
    taken.update(by_gap)
    left = np.array([i for i in range(rows) if i not in taken], dtype=np.int64)
    count = budget - len(taken)
    by_chance = rng.choice(left, size=count, replace=False)
    chosen = [
        Selected(index=i, reason=Reason.UNKNOWN if strange[i] else Reason.DRIFTED, probability=1.0) for i in by_change
    ]
    chosen += [Selected(index=i, reason=Reason.UNCERTAIN, probability=1.0) for i in by_gap]
    chosen += [Selected(index=int(i), reason=Reason.UNIFORM, probability=count / len(left)) for i in by_chance]
    return _shuffled(chosen, rng)


def _checked(
    margins: ArrayLike, drift: ArrayLike | None, unknown: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    gap = np.asarray(margins, float)
    change = np.full(gap.shape, np.nan) if drift is None else np.asarray(drift, float)
    strange = np.zeros(gap.shape, bool) if unknown is None else np.asarray(unknown, bool)
    if gap.ndim != 1 or change.shape != gap.shape or strange.shape != gap.shape:
        raise DataError(
            f"margins have shape {gap.shape}, drift scores {change.shape} and what is unknown {strange.shape}; give "
            "lists with one entry a row"
        )
    if len(gap) and not np.all((gap >= 0) & (gap <= 1)):
        raise DataError(f"margins range from {gap.min()} to {gap.max()}; a gap of probabilities lies in [0, 1]")
    return gap, change, strange


def _shuffled(chosen: Sequence[Selected], rng: np.random.Generator) -> tuple[Selected, ...]:
    return tuple(chosen[int(i)] for i in rng.permutation(len(chosen)))
