"""Many simulated rollouts at once, judged by the tests of `continual.rollout` on arrays of counts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.continual.intervals import Z95
from perennial.continual.rollout import RolloutRules, critical_loss, critical_losses, log_mean_above, log_share_above

__all__ = ["Cell", "Simulated", "simulate"]

_LOOKS = 60
_REQUESTS = 4  # for each label that comes, on the challenger's side
_LOOKED_AT = 100  # requests, without a label, for each that is asked for
FAILING, SLOW = 0.002, 0.05  # of a healthy version's requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A kind of rollout: so many labels by its age, versions that disagree so often and differ by so many points.

    `asked`: labels are asked for where the versions disagree, and not of all traffic.
    """

    labels: int
    points: float
    disagreement: float
    asked: bool

    @property
    def chances(self) -> tuple[float, float]:
        """Of a labelled row to be gained and to be lost."""
        gain = (self.disagreement + self.points / 100) / 2
        loss = self.disagreement - gain
        return (gain / self.disagreement, loss / self.disagreement) if self.asked else (gain, loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """The share that was promoted, and after how many labels the verdict fell."""

    promoted: float
    standard_error: float
    labels_p50: float


def simulate(cell: Cell, rules: RolloutRules, rollouts: int, rng: np.random.Generator) -> Simulated:
    """Judge each rollout at 60 looks, and at the last one by the limit's test, as `judge_live` does."""
    seen = np.unique(np.linspace(0, cell.labels, _LOOKS + 1).astype(np.int64))
    parts = np.diff(seen)
    gain, loss = cell.chances
    rows = np.stack(
        [rng.multinomial(part, [gain, loss, max(0.0, 1 - gain - loss)], rollouts) for part in parts], axis=1
    )
    gains, losses, ties = np.moveaxis(np.cumsum(rows, axis=1), -1, 0)
    looked = parts * (_LOOKED_AT if cell.asked else 0)
    compared, disagreed = np.cumsum(looked), np.cumsum(rng.binomial(looked, cell.disagreement, rows.shape[:2]), axis=1)
    agreeing = _agreeing(gains + losses + ties, disagreed, compared) if cell.asked else np.zeros_like(gains)
    proven = log_mean_above(gains, losses, ties + agreeing, -rules.margin_points / 100) >= np.log(2 / rules.error_rate)
    against = log_mean_above(losses, gains, ties, 0.0) >= np.log(rules.worse_e_value_needed)
    for share, limit in ((FAILING, rules.max_failure_share), (SLOW, rules.max_slow_share)):
        hits = np.cumsum(rng.binomial(parts * _REQUESTS, share, rows.shape[:2]), axis=1)
        against |= log_share_above(hits, seen[1:] * _REQUESTS, limit) >= np.log(rules.e_value_needed)
    decided = against | proven
    first = np.where(decided.any(axis=1), decided.argmax(axis=1), decided.shape[1] - 1)
    place = (np.arange(rollouts), first)
    lost_at_limit = _at_limit(cell, rules, gains[:, -1], losses[:, -1], agreeing[:, -1])
    promoted = np.where(decided[place], ~against[place], ~lost_at_limit)
    share, labels = float(promoted.mean()), seen[1:][first]
    return Simulated(
        promoted=share,
        standard_error=float(np.sqrt(share * (1 - share) / rollouts)),
        labels_p50=float(np.median(labels)),
    )


def _at_limit(
    cell: Cell, rules: RolloutRules, gains: NDArray[np.int64], losses: NDArray[np.int64], agreeing: NDArray[np.int64]
) -> NDArray[np.bool_]:
    differing = gains + losses
    if cell.asked:  # each number of disputed rows has a test of its own
        limits = np.array(
            [critical_loss(0, int(rows), rules.limit_level, differing=0) for rows in range(cell.labels + 1)]
        )
    else:
        limits = critical_losses(cell.labels, 0, rules.limit_level)
    points = 100.0 * (gains - losses) / (cell.labels + agreeing)
    worse: NDArray[np.bool_] = (losses >= limits[differing]) & (points < -rules.margin_points / 2)
    return worse


def _agreeing(
    disputed: NDArray[np.int64], disagreed: NDArray[np.int64], compared: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For how many rows, on which the versions agree, the disputed ones stand at the least; see `Unlabelled`."""
    share, square = disagreed / compared, Z95 * Z95
    half = Z95 * np.sqrt(share * (1 - share) / compared + square / (4 * compared * compared))
    high = (share + square / (2 * compared) + half) / (1 + square / compared)
    rows: NDArray[np.int64] = np.where(disagreed > 0, disputed * (1 - high) / high, 0.0).astype(np.int64)
    return rows
