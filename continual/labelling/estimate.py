"""What the labelled rows say about all rows, although the doubtful ones were labelled more often."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from perennial.continual.errors import DataError
from perennial.continual.intervals import Z95

__all__ = ["Estimate", "estimate_accuracy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An accuracy over all rows with a 95% interval, and how many labels it rests on.

    >>> Estimate(accuracy=0.9, low=0.8, high=1.0, labels=40).labels
    40
    """

    accuracy: float
    low: float
    high: float
    labels: int


def estimate_accuracy(right: ArrayLike, probability: ArrayLike) -> Estimate:
    """Return the accuracy on everything that `select` chose from, from the rows that were labelled.

    `right` says for each labelled row whether the model's answer was, `probability` is its `Selected.probability`.
    Each row counts 1 / probability times, so that rows labelled on purpose don't pull the figure down. Unbiased when
    all chosen rows are labelled; nearly so when a random part of them is. The interval takes each probability as a
    stratum of its own and is never empty: a stratum's variance is that of one right and one wrong row more.
    Source: Hájek's ratio form of Horvitz and Thompson, JASA 47, 1952; stratified variance, Cochran, "Sampling
    techniques", 3rd edition, 1977, equation 5.7.

    >>> estimate_accuracy([False, True, True], [1.0, 0.1, 0.1]).accuracy
    0.9523809523809523

    Raises:
        DataError: nothing is labelled, or a probability is not in (0, 1].
    """
    hit, chance = np.asarray(right, float), np.asarray(probability, float)
    if hit.ndim != 1 or hit.shape != chance.shape or len(hit) == 0:
        raise DataError(
            f"an accuracy estimate got shapes {hit.shape} and {chance.shape}; give two equal lists, at least one label"
        )
    if not np.all((chance > 0) & (chance <= 1)):
        raise DataError(f"selection probabilities range from {chance.min()} to {chance.max()}; they must lie in (0, 1]")
    weight = 1.0 / chance
    value = min(1.0, float(weight @ hit / weight.sum()))  # the sums round each on its own
    variance = 0.0
    for p in np.unique(chance):
        stratum = hit[chance == p]
        n = len(stratum)
        smoothed = (stratum.sum() + 1.0) / (n + 2.0)
        share = (n / p) / weight.sum()
        variance += share**2 * (1.0 - p) * smoothed * (1.0 - smoothed) / n
    half = Z95 * math.sqrt(variance)
    return Estimate(accuracy=value, low=max(0.0, value - half), high=min(1.0, value + half), labels=len(hit))
