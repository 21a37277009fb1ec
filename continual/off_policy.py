"""What another way of choosing would have earned, from what one way chose and how likely each choice was."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError
from perennial.continual.intervals import Interval, grouped_interval, mean_interval

__all__ = ["Choice", "Logged", "LoggedChoices", "OffPolicy", "estimate"]

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]


class Choice(NamedTuple):
    """What a logged answer put first, what that earned in [0, 1], and its chance when it was drawn."""

    chosen: str
    earned: float
    propensity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """Choices as they were logged, one a row (n,), and what the way in question would have done.

    >>> one = np.ones(1)
    >>> Logged(reward=one, propensity=one, chance=one, predicted=one, expected=one).rows
    1
    """

    reward: Floats  # what the logged choice earned, in [0, 1]
    propensity: Floats  # its chance when it was chosen, above 0
    chance: Floats  # its chance under the way in question
    predicted: Floats  # what a model expects of the logged choice
    expected: Floats  # what the model expects of the way in question, over all its choices
    whose: Groups | None = None  # for whom each was made, as numbers from 0; None: for somebody else each time

    def __post_init__(self) -> None:
        shapes = {getattr(self, name).shape for name in ("reward", "propensity", "chance", "predicted", "expected")}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1 or not len(self.reward):
            raise DataError(f"logged choices have the shapes {sorted(shapes)}; give one value a row of each")
        if not (self.propensity > 0).all():
            raise DataError("a logged choice has no chance above 0; log the propensity that it was chosen with")

    @property
    def rows(self) -> int:
        """Choices."""
        return len(self.reward)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffPolicy:
    """Three estimates of the same mean reward, and how many rows they really stand on."""

    inverse_propensity: Interval
    self_normalised: float
    doubly_robust: Interval
    effective_rows: float
    clipped: float  # share of rows whose weight was cut: above 0 the first is biased low


def estimate(logged: Logged, rng: np.random.Generator, *, most_weight: float = 100.0) -> OffPolicy:
    """What the way in question would have earned a choice.

    Source: Dudik, Langford and Li, "Doubly robust policy evaluation and learning", ICML 2011; Swaminathan and
    Joachims, "The self-normalized estimator for counterfactual learning", NIPS 2015.
    """
    raw = logged.chance / logged.propensity
    weight = np.minimum(raw, most_weight)
    weighted = weight * logged.reward
    robust = logged.expected + weight * (logged.reward - logged.predicted)
    total, squares = float(weight.sum()), float((weight**2).sum())
    return OffPolicy(
        inverse_propensity=_interval(weighted, logged.whose, rng),
        self_normalised=float(weighted.sum()) / total if total else 0.0,
        doubly_robust=_interval(robust, logged.whose, rng),
        effective_rows=total**2 / squares if squares else 0.0,
        clipped=float((raw > most_weight).mean()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedChoices:
    """Choices of live answers, one a row (n,), and whether two versions would have made them.

    They tell what a version would earn only where it knows nothing of what became of them. The doubly robust estimates
    expect of a row what the other half of the users earned; intervals draw whole users.

    >>> rng = np.random.default_rng(0)
    >>> one, none = np.ones(40), np.zeros(40)
    >>> same = LoggedChoices(reward=one, propensity=one, champion=one, challenger=one)
    >>> same.earned, same.of_challenger(rng).doubly_robust.mean, same.gain(rng).mean
    (1.0, 1.0, 0.0)
    """

    reward: Floats  # what each earned, in [0, 1]
    propensity: Floats  # its chance when it was chosen, above 0
    champion: Floats  # 1 where the champion would choose the same, else 0
    challenger: Floats
    whose: Groups | None = None  # for whom each was made, as numbers from 0 without gaps; None: for another each time

    @property
    def users(self) -> int:
        """For how many users."""
        return self.rows if self.whose is None else len(np.unique(self.whose))

    @property
    def rows(self) -> int:
        """Choices."""
        return len(self.reward)

    @property
    def earned(self) -> float:
        """What a choice earned on average, as it was made."""
        return float(self.reward.mean())

    @property
    def support(self) -> float:
        """How much of what the challenger would choose the log could hold: its mean weight, about 1 where all of it."""
        return min(1.0, float((self.challenger / self.propensity).mean()))

    def of_champion(self, rng: np.random.Generator) -> OffPolicy:
        """What the champion's choices would have earned."""
        return estimate(self._logged(self.champion), rng)

    def of_challenger(self, rng: np.random.Generator) -> OffPolicy:
        """What the challenger's choices would have earned."""
        return estimate(self._logged(self.challenger), rng)

    def gain(self, rng: np.random.Generator, *, most_weight: float = 100.0) -> Interval:
        """By how much the challenger's choices would have earned more, doubly robust and paired.

        What the log could not hold is expected to earn what a choice earned on average, so this tells only as much as
        there is `support`.
        """
        weights = [np.minimum(one / self.propensity, most_weight) for one in (self.challenger, self.champion)]
        return _interval((weights[0] - weights[1]) * (self.reward - self._expected), self.whose, rng)

    @property
    def _expected(self) -> Floats:
        half = (np.arange(self.rows) if self.whose is None else self.whose) % 2
        if self.users < 2:
            return self.reward
        return np.where(half == 0, self.reward[half == 1].mean(), self.reward[half == 0].mean())

    def _logged(self, chance: Floats) -> Logged:
        expected = self._expected
        return Logged(
            reward=self.reward,
            propensity=self.propensity,
            chance=chance,
            predicted=expected,
            expected=expected,
            whose=self.whose,
        )


def _interval(values: Floats, whose: Groups | None, rng: np.random.Generator) -> Interval:
    """Rows of one user are alike, and tell less than as many of several."""
    return mean_interval(values, rng) if whose is None else grouped_interval(values, whose, rng)
