"""E-values from counts and sums: evidence against a hypothesis that stays valid however often it is looked at.

When the hypothesis is true, the chance that its e-value *ever* reaches `1 / alpha` is at most `alpha` (Ville). So a
rollout may be judged after every row and stopped at once, without a correction for the number of looks.
Sources: Ramdas, Grünwald, Vovk and Shafer (2023), Game-theoretic statistics and safe anytime-valid inference;
Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from perennial.continual.errors import DataError

__all__ = ["ScoreSums", "log_mean_above", "log_share_above", "mean_above", "mean_score_above", "share_above"]

_STAKES = 24


def share_above(hits: int, trials: int, share: float) -> float:
    """The e-value against "each trial hits with a probability of at most `share`", which lies in (0, 1).

    The bet is spread evenly over all greater probabilities. Grows without bound when the true share is greater.

    >>> share_above(0, 0, 0.01)
    1.0
    >>> share_above(1, 100, 0.01) < 2 < 1000 < share_above(10, 100, 0.01)
    True
    """
    if not 0 < share < 1 or not 0 <= hits <= trials:
        raise DataError(f"{hits} hits in {trials} trials against a share of {share}; the share must lie in (0, 1)")
    return _exp(float(log_share_above(np.array(hits), np.array(trials), share)))


def log_share_above(hits: NDArray[np.int64], trials: NDArray[np.int64], share: float) -> NDArray[np.float64]:
    """The logarithms of `share_above` for many counts at once.

    >>> bool(log_share_above(np.array([10]), np.array([100]), 0.01)[0] == np.log(share_above(10, 100, 0.01)))
    True
    """
    misses = trials - hits
    above = special.betaincc(hits + 1, misses + 1, share)
    with np.errstate(divide="ignore"):  # where hits lie so far below the share that it underflows, nothing speaks
        bet = special.betaln(hits + 1, misses + 1) + np.log(above) - np.log1p(-share)
    logs: NDArray[np.float64] = bet - hits * np.log(share) - misses * np.log1p(-share)
    return logs


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSums:
    """What is kept of the differences of two scores, each in [-1, 1]: enough for a bet, however many rows there are.

    `gained` is the sum of the positive ones and `lost` that of the negative ones without their sign; `gained_squares`
    and `lost_squares` are the sums of their squares. Where answers are right or wrong, all of them are whole numbers.

    >>> ScoreSums.of({0.5: 2, -1.0: 1, 0.0: 7})
    ScoreSums(rows=10, gained=1.0, lost=1.0, gained_squares=0.5, lost_squares=1.0)
    """

    rows: int
    gained: float
    lost: float
    gained_squares: float
    lost_squares: float

    def __post_init__(self) -> None:
        each = (self.gained_squares, self.gained, self.lost_squares, self.lost)
        if not (min(each) >= 0 and self.gained_squares <= self.gained and self.lost_squares <= self.lost):
            raise DataError(f"{self} is not of differences in [-1, 1]; a square can't exceed its own difference")
        if not self.gained + self.lost <= self.rows:
            raise DataError(f"{self} is not of differences in [-1, 1]; their sum can't exceed the number of rows")

    @classmethod
    def of(cls, differences: Mapping[float, int]) -> Self:
        """The sums of differences, given with how many rows have each; the order of the rows plays no part."""
        up = {value: count for value, count in differences.items() if value > 0}
        down = {-value: count for value, count in differences.items() if value < 0}
        return cls(
            rows=sum(differences.values()),
            gained=math.fsum(value * count for value, count in up.items()),
            lost=math.fsum(value * count for value, count in down.items()),
            gained_squares=math.fsum(value * value * count for value, count in up.items()),
            lost_squares=math.fsum(value * value * count for value, count in down.items()),
        )

    @property
    def whole(self) -> bool:
        """Whether each difference is 1, -1 or 0."""
        return self.gained_squares == self.gained and self.lost_squares == self.lost

    @property
    def mirrored(self) -> Self:
        """The sums of the same differences with their signs changed."""
        return replace(
            self,
            gained=self.lost,
            lost=self.gained,
            gained_squares=self.lost_squares,
            lost_squares=self.gained_squares,
        )


def mean_above(gains: int, losses: int, ties: int, mean: float) -> float:
    """The e-value against "rows worth 1, -1 and 0 have a mean of at most `mean`", which lies in (-1, 1).

    >>> mean_above(5, 5, 90, 0.0) < 1.5
    True
    >>> mean_above(5, 5, 990, -0.03) > 100   # 1,000 rows without a difference: the mean is above -3 points
    True
    """
    if min(gains, losses, ties) < 0:
        raise DataError(f"{gains} gains, {losses} losses, {ties} ties against a mean of {mean}; none can be negative")
    return mean_score_above(ScoreSums.of({1.0: gains, -1.0: losses, 0.0: ties}), mean)


def log_mean_above(
    gains: NDArray[np.int64], losses: NDArray[np.int64], ties: NDArray[np.int64], mean: float
) -> NDArray[np.float64]:
    """The logarithms of `mean_above` for many counts at once.

    >>> one = np.array([5])
    >>> round(float(np.exp(log_mean_above(one, 12 * one, 180 * one, -0.03))[0]), 6) == round(
    ...     mean_above(5, 60, 900, -0.03), 6)
    True
    """
    total = np.full(np.broadcast(gains, losses, ties).shape, -np.inf)
    for won, even, lost in zip(*_growths(_stakes(mean), mean), strict=True):
        total = np.logaddexp(total, gains * won + losses * lost + ties * even)
    logs: NDArray[np.float64] = total - np.log(_STAKES)
    return logs


def mean_score_above(sums: ScoreSums, mean: float) -> float:
    """The e-value against "each row's difference has a mean of at most `mean`, given those before it"; in (-1, 1).

    A stake s turns a difference x into a growth of 1 + s (x - mean), whose logarithm f is concave with a falling
    curvature. So on [0, 1] it lies above its chord by at least k x (1 - x), where k = f(1) - f(0) - f'(1) is the least
    second divided difference, and on [-1, 0] likewise. The sums give a lower bound of what betting row by row would
    have gained: what reaches 1 / alpha has reached it there too, so that the promise of the bets is kept. The bound is
    exact for differences of 1, -1 and 0.

    >>> halves = ScoreSums.of({0.5: 60, -0.5: 10, 0.0: 30})
    >>> 1_000 < mean_score_above(halves, 0.0) < mean_above(60, 10, 30, 0.0)
    True
    """
    if not -1 < mean < 1:
        raise DataError(f"{sums.rows} rows against a mean difference of {mean}; it must lie in (-1, 1)")
    stakes = _stakes(mean)
    won, even, lost = _growths(stakes, mean)
    over_gains = won - even - stakes / (1 + stakes * (1 - mean))
    over_losses = even - lost - stakes / (1 - stakes * mean)
    logs = (
        sums.gained * won
        + sums.lost * lost
        + (sums.rows - sums.gained - sums.lost) * even
        + (sums.gained - sums.gained_squares) * over_gains
        + (sums.lost - sums.lost_squares) * over_losses
    )
    most = float(logs.max())
    return _exp(most + float(np.log(np.exp(logs - most).mean())))


def _stakes(mean: float) -> NDArray[np.float64]:
    stakes: NDArray[np.float64] = np.geomspace(0.01, 0.95, _STAKES) / (1 + mean)
    return stakes  # one below 1 / (1 + mean) can't be lost whole


def _growths(stakes: NDArray[np.float64], mean: float) -> tuple[NDArray[np.float64], ...]:
    """The logarithm of what each stake grows by at a difference of 1, of 0 and of -1."""
    return np.log1p(stakes * (1 - mean)), np.log1p(-stakes * mean), np.log1p(stakes * (-1 - mean))


def _exp(value: float) -> float:
    return float(np.exp(min(700.0, value)))
