"""The one test at a rollout's limit: whether a challenger lost more rows than it gained by more than equal ones do.

Equal versions win and lose a row on which they differ with the same chance, so that among K such rows the losses are
binomial. A sign test that keeps its level for each K wastes a third of it where K is small. Here the level is kept on
average over K instead, which is binomial too, for every share of rows on which the versions may differ.
Sources: Suissa and Shuster (1991), The 2 x 2 matched-pairs trial: exact unconditional design and analysis; Boschloo
(1970), Raised conditional level of significance for the 2 x 2 table.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from perennial.continual.errors import DataError

__all__ = ["critical_losses", "rejects"]

_AVERAGED = 120  # rows that came and differ; beyond them each K keeps the level by itself, which costs little there
_SHARES = np.concatenate([np.geomspace(1e-3, 0.6, 120), 1 - np.geomspace(0.39, 1e-3, 60), [1.0]])
_SIDES = (0.75, 11 / 12, 1.0)  # shares of losses among the rows that differ, against which the test is made powerful


@lru_cache(maxsize=256)
def critical_losses(came: int, disputed: int, level: float) -> NDArray[np.int64]:
    """From how many losses on an equal challenger would be turned away, (came + 1,): by how many rows that came differ.

    `came` are labelled rows of all traffic, `disputed` those rows that were asked for where the versions disagree and
    that one of them answered better. Equal challengers are turned away in at most `level` of all rollouts.

    >>> critical_losses(100, 0, 0.095)[:8].tolist()   # 3 of 3, 4 of 4, 4 of 5: too many
    [1, 2, 3, 3, 4, 4, 5, 6]
    """
    if came < 0 or disputed < 0 or not 0 < level < 0.5:
        raise DataError(f"a limit test of {came} and {disputed} rows at level {level}; the level must lie in (0, 0.5)")
    differing = disputed + np.arange(came + 1)
    limits = _exact(differing, level)
    if came:
        _enlarge(limits, differing, came, level)
    limits.setflags(write=False)
    return limits


def rejects(
    gains: NDArray[np.int64], losses: NDArray[np.int64], *, came: int, disputed: int, level: float
) -> NDArray[np.bool_]:
    """Whether each pair of counts, rows that came and disputed ones together, speaks against the challenger."""
    rejected: NDArray[np.bool_] = losses >= critical_losses(came, disputed, level)[gains + losses - disputed]
    return rejected


def _exact(differing: NDArray[np.int64], level: float) -> NDArray[np.int64]:
    """The least losses that a fair coin reaches in at most `level` of all cases, for each number of rows."""
    losses = np.asarray(special.bdtrik(1 - level, differing, 0.5))
    limits = np.where(np.isfinite(losses), np.floor(losses), 0).astype(np.int64)
    for _ in range(4):  # bdtrik is an inverse in real numbers: a step to either side may be missing
        limits = np.where(_beyond(limits, differing) > level, limits + 1, limits)
        limits = np.where((limits > 0) & (_beyond(limits - 1, differing) <= level), limits - 1, limits)
    return limits


def _beyond(losses: NDArray[np.int64], differing: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often a fair coin says `losses` or more."""
    inside = (losses > 0) & (losses <= differing)
    tail = special.bdtrc(np.where(inside, losses - 1, 0), np.maximum(differing, 1), 0.5)
    return np.where(losses <= 0, 1.0, np.where(inside, tail, 0.0))


def _enlarge(limits: NDArray[np.int64], differing: NDArray[np.int64], came: int, level: float) -> None:
    """Take further counts into the region, the most telling first, while no share of differing rows exceeds `level`."""
    most = min(came, _AVERAGED) + 1
    k, region = differing[:most], limits[:most]
    region[:] = _exact(k, level / 3)
    chance = np.exp(_log_binomial(came, np.arange(most)[None, :], _SHARES[:, None]))
    size = chance @ _beyond(region, k) + level * np.maximum(0.0, 1.0 - chance.sum(axis=1))
    log_half = np.log(0.5)
    while True:
        added = region - 1
        inside = (2 * added > k) & (added <= k)
        weight = np.where(inside, np.exp(_log_choose(k, np.where(inside, added, 0)) + k * log_half), 0.0)
        fits = inside & ((size[:, None] + chance * weight).max(axis=0) <= level)
        if not fits.any():
            return
        place = int(np.where(fits, _telling(added, k), -np.inf).argmax())
        size += chance[:, place] * weight[place]
        region[place] -= 1


def _telling(losses: NDArray[np.int64], differing: NDArray[np.int64]) -> NDArray[np.float64]:
    """The logarithm of how much likelier these losses are under the sides than for equal versions."""
    gains = differing - losses
    logs = [losses * np.log(2 * side) + special.xlog1py(gains, 1 - 2 * side) for side in _SIDES]
    each: NDArray[np.float64] = np.logaddexp.reduce(np.array(logs), axis=0)
    return each


def _log_binomial(trials: int, hits: NDArray[np.int64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = (
        _log_choose(np.asarray(trials), hits) + special.xlogy(hits, share) + special.xlog1py(trials - hits, -share)
    )
    return logs


def _log_choose(n: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return logs
