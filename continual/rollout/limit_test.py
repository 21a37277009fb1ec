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

__all__ = ["critical_loss", "critical_losses"]

_AVERAGED = 120  # rows that came and differ; beyond them each K keeps the level by itself, which costs little there
_LOW, _HIGH = np.geomspace(1e-3, 0.6, 120), np.concatenate([1 - np.geomspace(0.39, 1e-3, 60), [1.0]])
_FEW = 0.1  # rows that differ in all: below it most rollouts have none, and the level cannot be exceeded
_NEVER = 1e-12  # of a share that leaves no number of differing rows here a chance
_SIDES = (0.75, 11 / 12, 1.0)  # shares of losses among the rows that differ, against which the test is made powerful


def critical_loss(came: int, disputed: int, level: float, *, differing: int) -> int:
    """From how many losses on an equal challenger would be turned away where `differing` of the rows that came differ.

    It is one of `critical_losses`, and costs no more for a million rows than for a hundred.

    >>> critical_loss(1_000_000, 0, 0.095, differing=60_000) - 30_000
    162
    """
    _check(came, disputed, level)
    if not 0 <= differing <= came:
        raise DataError(f"a limit test of {came} rows of which {differing} differ; give 0 to {came}")
    if differing <= _AVERAGED:
        return int(_averaged(came, disputed, level)[differing])
    return int(_exact(np.array([disputed + differing]), level)[0])


@lru_cache(maxsize=4)
def critical_losses(came: int, disputed: int, level: float) -> NDArray[np.int64]:
    """From how many losses on an equal challenger would be turned away, (came + 1,): by how many rows that came differ.

    `came` are labelled rows of all traffic, `disputed` those rows that were asked for where the versions disagree and
    that one of them answered better. Equal challengers are turned away in at most `level` of all rollouts.

    >>> critical_losses(100, 0, 0.095)[:8].tolist()   # 3 of 3, 4 of 4, 4 of 5: too many
    [1, 2, 3, 3, 4, 4, 5, 6]
    """
    _check(came, disputed, level)
    beyond = _exact(disputed + np.arange(_AVERAGED + 1, came + 1), level)
    limits: NDArray[np.int64] = np.concatenate([_averaged(came, disputed, level), beyond])
    limits.setflags(write=False)
    return limits


def _check(came: int, disputed: int, level: float) -> None:
    if came < 0 or disputed < 0 or not 0 < level < 0.5:
        raise DataError(f"a limit test of {came} and {disputed} rows at level {level}; the level must lie in (0, 0.5)")


@lru_cache(maxsize=64)
def _averaged(came: int, disputed: int, level: float) -> NDArray[np.int64]:
    """The limits where few rows differ, at most 121 of them, which keep the level together."""
    differing = disputed + np.arange(min(came, _AVERAGED) + 1)
    limits = _exact(differing, level if came == 0 else level / 3)
    if came:
        _enlarge(limits, differing, came, level)
    limits.setflags(write=False)
    return limits


def _shares(came: int) -> NDArray[np.float64]:
    """Shares of rows that differ, close enough to each other; among many rows low ones leave many that differ."""
    least = _FEW / came
    if least >= _LOW[0]:
        return np.concatenate([_LOW, _HIGH])
    steps = int(np.ceil(3 * np.log(_LOW[0] / least) / np.log(_LOW[1] / _LOW[0])))
    lower: NDArray[np.float64] = np.geomspace(least, _LOW[0], steps, endpoint=False)
    return np.concatenate([lower, _LOW, _HIGH])


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


def _enlarge(region: NDArray[np.int64], k: NDArray[np.int64], came: int, level: float) -> None:
    """Take further counts into the region, the most telling first, while no share of differing rows exceeds `level`."""
    chance = np.exp(_log_binomial(came, np.arange(len(k))[None, :], _shares(came)[:, None]))
    chance = chance[chance.max(axis=1) > _NEVER]
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
