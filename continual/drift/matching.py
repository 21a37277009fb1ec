"""Two samples with one mix of answers: what is left to compare once it is only the mix that may have moved."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Matched", "match_mix"]

_STEP = 0.2  # of the logarithm of a label's ratio: labels within one step are drawn as one
_HALF = 0.5  # added to each count, so that none is zero


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """The places of the rows that stay on each side, in order; `share` of the current rows stayed."""

    reference: NDArray[np.int64]
    current: NDArray[np.int64]
    share: float


def match_mix(reference: NDArray[np.str_], current: NDArray[np.str_], rng: np.random.Generator) -> Matched:
    """Rows of both sides drawn so that their labels are mixed alike, as many as that allows.

    Labels whose shares changed by about the same factor are drawn together, and rare ones count as changed only as far
    as their rows tell (their log ratios are shrunk by the variance between labels). So samples that differ by chance
    alone stay whole.

    Source: DerSimonian and Laird (1986) for the variance between labels; Rosenbaum and Rubin (1984), Reducing bias in
    observational studies using subclassification on the propensity score.

    >>> rng = np.random.default_rng(1)
    >>> day, night = np.array(["a"] * 400 + ["b"] * 200), np.array(["a"] * 100 + ["b"] * 200)
    >>> matched = match_mix(day, night, rng)
    >>> [int((side[rows] == "a").sum()) for side, rows in ((day, matched.reference), (night, matched.current))]
    [200, 100]
    """
    names, places = np.unique(np.concatenate([reference, current]), return_inverse=True)
    sides = places[: len(reference)], places[len(reference) :]
    counts = np.stack([np.bincount(side, minlength=len(names)) for side in sides]).astype(np.float64)
    strata = np.round(_log_ratios(counts) / _STEP).astype(np.int64)
    ratio = len(reference) / len(current)
    kept: list[list[NDArray[np.int64]]] = [[], []]
    for stratum in np.unique(strata):
        rows = [np.flatnonzero(strata[side] == stratum) for side in sides]
        most = min(float(len(rows[1])), len(rows[0]) / ratio)  # current rows
        for side, many in ((0, most * ratio), (1, most)):
            kept[side].append(rng.choice(rows[side], min(len(rows[side]), round(many)), replace=False))
    first, second = (np.sort(np.concatenate(side)) for side in kept)
    return Matched(reference=first, current=second, share=len(second) / len(current))


def _log_ratios(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much each label's share changed, as its logarithm, shrunk towards no change; counts are (2, labels)."""
    padded = counts + _HALF
    shares = np.log(padded[1]) - np.log(padded[0]) - np.log(counts[1].sum() / counts[0].sum())
    noise = (1.0 / padded).sum(axis=0)
    weight = 1.0 / noise
    mean = float((weight * shares).sum() / weight.sum())
    spread = float((weight * (shares - mean) ** 2).sum()) - (len(shares) - 1)
    scale = float(weight.sum() - (weight**2).sum() / weight.sum())
    between = max(0.0, spread / scale) if scale > 0 else 0.0
    shrunk: NDArray[np.float64] = shares * between / (between + noise)
    return shrunk
