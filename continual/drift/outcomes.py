"""What became of answers, on both sides of a comparison; where the feedback itself is missing, nobody knows."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.settings import Signal
from perennial.continual.drift.window import Window

__all__ = ["OUTCOMES", "heard", "outcomes_of", "silent_share", "told_of"]

Reals = NDArray[np.floating[Any]]

OUTCOMES: Mapping[Signal, str] = MappingProxyType(
    {Signal.HIT_RATE: "hits", Signal.POPULARITY: "popularities", Signal.NEW_ITEMS: "new_items"}
)
"""What became of answers, by the window's column; told of all rows, whatever their mix."""
_BY_CHANCE = 1e-4  # of a window without an outage, that it holds a stretch which counts as silent


def heard(told: NDArray[np.bool_], *, usual: float = 0.0) -> NDArray[np.bool_]:
    """Which answers feedback could have reached (n,), by whether each has any; answers in the order they came.

    Left out are stretches without any that chance does not explain: neither at the window's own share of answers with
    feedback nor at the `usual` one. A share that merely fell leaves short stretches and stays.

    >>> int(heard(np.array([True, False] * 50 + [False] * 100)).sum())
    99
    """
    rows = len(told)
    rate = max(float(told.mean()), usual) if rows else 0.0
    if rate == 0.0:
        return np.zeros(rows, dtype=np.bool_)
    known = np.ones(rows, dtype=np.bool_)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], told, [True]]).astype(np.int8)))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        length = end - start
        if (1.0 + (rows - length) * rate) * (1.0 - rate) ** length < _BY_CHANCE:
            known[start:end] = False
    return known


def outcomes_of(signal: Signal, sample: Window, current: Window) -> tuple[Reals, Reals] | None:
    """The signal's values on both sides (n,), NaN where nothing is known; None where a side was never looked at.

    An answer without feedback was no hit, unless feedback is missing around it.
    """
    before, now = (getattr(side, OUTCOMES[signal]) for side in (sample, current))
    if before is None or now is None:
        return None
    if signal is not Signal.HIT_RATE:
        return before, now
    reached = heard(~np.isnan(before))
    return _hits(before, reached), _hits(now, heard(~np.isnan(now), usual=_usual(before, reached)))


def silent_share(sample: Window, current: Window) -> float:
    """In which share of the window, in [0, 1], feedback is missing that usually came; 0 where none ever did."""
    if sample.hits is None or current.hits is None or not len(current):
        return 0.0
    usual = _usual(sample.hits, heard(~np.isnan(sample.hits)))
    return float(1.0 - heard(~np.isnan(current.hits), usual=usual).mean()) if usual else 0.0


def told_of(values: Reals) -> Reals:
    """The values of the rows of which anything is known."""
    known: Reals = values[~np.isnan(values)]
    return known


def _usual(hits: Reals, reached: NDArray[np.bool_]) -> float:
    """The share of answers with feedback, where it could have reached them."""
    return float((~np.isnan(hits[reached])).mean()) if reached.any() else 0.0


def _hits(hits: Reals, reached: NDArray[np.bool_]) -> Reals:
    return np.where(reached, np.nan_to_num(hits, nan=0.0), np.nan)
