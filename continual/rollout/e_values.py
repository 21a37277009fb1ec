"""E-values from counts: evidence against a hypothesis that stays valid however often it is looked at.

When the hypothesis is true, the chance that its e-value *ever* reaches `1 / alpha` is at most `alpha` (Ville). So a
rollout may be judged after every label and stopped at once, without a correction for the number of looks.
Sources: Ramdas, Grünwald, Vovk and Shafer (2023), Game-theoretic statistics and safe anytime-valid inference;
Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting.
"""

import numpy as np
from scipy import special

from perennial.continual.errors import DataError

__all__ = ["mean_above", "share_above"]

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
    misses = trials - hits
    above = special.betaincc(hits + 1, misses + 1, share)
    if above == 0.0:  # the hits lie so far below the share that the number underflows: nothing speaks against it
        return 0.0
    bet = special.betaln(hits + 1, misses + 1) + np.log(above) - np.log1p(-share)
    return _exp(bet - hits * np.log(share) - misses * np.log1p(-share))


def mean_above(gains: int, losses: int, ties: int, mean: float) -> float:
    """The e-value against "rows worth 1, -1 and 0 have a mean of at most `mean`", which lies in (-1, 1).

    >>> mean_above(5, 5, 90, 0.0) < 1.5
    True
    >>> mean_above(5, 5, 990, -0.03) > 100   # 1,000 rows without a difference: the mean is above -3 points
    True
    """
    if not -1 < mean < 1 or min(gains, losses, ties) < 0:
        raise DataError(f"{gains} gains, {losses} losses, {ties} ties against a mean of {mean}; it must lie in (-1, 1)")
    stakes = np.geomspace(0.01, 0.95, _STAKES) / (1 + mean)  # a stake below 1 / (1 + mean) can't be lost whole
    logs = (
        gains * np.log1p(stakes * (1 - mean))
        + losses * np.log1p(stakes * (-1 - mean))
        + ties * np.log1p(-stakes * mean)
    )
    most = float(logs.max())
    return _exp(most + float(np.log(np.exp(logs - most).mean())))


def _exp(value: float) -> float:
    return float(np.exp(min(700.0, value)))
