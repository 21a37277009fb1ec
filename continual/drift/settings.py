"""How strict the drift rule is, and the arithmetic from the operator's knob to a significance level."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from perennial.continual.errors import ConfigurationError

__all__ = ["DriftSettings", "Signal", "Votes", "alpha_for"]

_ALPHA_MOST = 0.05


class Votes(StrEnum):
    """How many of the last windows must show drift before an alert."""

    TWO_OF_THREE = "2 of 3"
    THREE_OF_FIVE = "3 of 5"

    @property
    def needed(self) -> int:
        """Return the number of drifted windows that raise an alert."""
        return int(self.value[0])

    @property
    def among(self) -> int:
        """Return the number of windows looked back on, the newest included."""
        return int(self.value[-1])


class Signal(StrEnum):
    """What is compared between the reference and a window."""

    CONFIDENCE = "confidence"
    ENTROPY = "entropy"
    PREDICTION = "prediction"
    LENGTH = "length"
    NON_LETTER = "non_letter"
    UNKNOWN_WORDS = "unknown_words"
    EMBEDDING = "embedding"
    DOMAIN = "domain"
    HIT_RATE = "hit_rate"
    POPULARITY = "popularity"
    NEW_ITEMS = "new_items"
    BRIGHTNESS = "brightness"
    SIZE = "size"


_FLOORS: Mapping[Signal, float] = MappingProxyType(
    {
        Signal.CONFIDENCE: 0.05,  # excess gap between distribution functions
        Signal.ENTROPY: 0.10,  # excess distance in pooled standard deviations
        Signal.PREDICTION: 0.30,  # unbiased root of sum((p - q)^2 / mean)
        Signal.LENGTH: 0.05,
        Signal.NON_LETTER: 0.05,
        Signal.UNKNOWN_WORDS: 0.05,
        Signal.EMBEDDING: 0.01,  # share of the kernel variance
        Signal.DOMAIN: 0.06,  # AUC above one half
        Signal.HIT_RATE: 0.15,  # Cohen's h downwards
        Signal.POPULARITY: 0.05,
        Signal.NEW_ITEMS: 0.15,  # Cohen's h upwards
        Signal.BRIGHTNESS: 0.05,
        Signal.SIZE: 0.05,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSettings:
    """The rule's knobs. The one to turn is `requests_per_false_retraining`; the level follows from it.

    `min_rows` is the smallest window that is compared. `release` multiplies the level, and `release_floor` the effect
    floors, that a window must stay under before a warning or a cooldown ends. `cooldown_requests` pass between two
    alerts at the least. With `mix_votes` another mix of answers is drift; without, it is told, and what moved beside it
    is drift. With `new_mix_votes` a mix is drift that was in no phase of a day and a week before.

    >>> DriftSettings().alpha(n_reference=600, n_current=300) > DriftSettings(
    ...     requests_per_false_retraining=1_000_000).alpha(n_reference=600, n_current=300)
    True
    """

    requests_per_false_retraining: int = 100_000
    votes: Votes = Votes.TWO_OF_THREE
    min_rows: int = 100
    cooldown_requests: int = 1_000
    release: float = 4.0
    release_floor: float = 0.8
    floors: Mapping[Signal, float] = field(default_factory=lambda: _FLOORS)
    mix_votes: bool = False
    new_mix_votes: bool = False

    def __post_init__(self) -> None:
        if self.requests_per_false_retraining < 1_000:
            raise ConfigurationError(
                f"requests_per_false_retraining is {self.requests_per_false_retraining}; give at least 1000"
            )
        if self.min_rows < 20:
            raise ConfigurationError(f"min_rows is {self.min_rows}; a comparison needs at least 20")
        if self.cooldown_requests < 0 or self.release < 1 or not 0 < self.release_floor <= 1:
            raise ConfigurationError(
                f"cooldown_requests {self.cooldown_requests} must be at least 0, release {self.release} at least 1 and "
                f"release_floor {self.release_floor} in (0, 1]"
            )
        missing = [signal.value for signal in Signal if not self.floors.get(signal, -1.0) >= 0]
        if missing:
            raise ConfigurationError(f"floors lack {missing} or hold a negative one; give each signal at least 0")

    def alpha(self, *, n_reference: int, n_current: int) -> float:
        """Return the family-wise level of one comparison with these sizes."""
        return alpha_for(
            self.requests_per_false_retraining, votes=self.votes, n_reference=n_reference, n_current=n_current
        )


@lru_cache(maxsize=256)
def alpha_for(requests: int, *, votes: Votes, n_reference: int, n_current: int) -> float:
    """Return the level at which clean traffic raises at most one alert in `requests` requests, on average.

    `requests / n_current` windows are looked at. An alert needs a drifted window now and k - 1 among the m - 1 before
    it, so its rate a window is at most C(m - 1, k - 1) P(k given windows all alarm). The windows share one reference,
    so they alarm together more often than alpha^k: their z-values correlate by n_current / (n_reference + n_current),
    and P is that of a one-factor normal model. The level is solved for by bisection and is at most 0.05.

    >>> round(alpha_for(100_000, votes=Votes.TWO_OF_THREE, n_reference=600, n_current=300), 4)
    0.0219
    >>> alpha_for(1_000_000, votes=Votes.TWO_OF_THREE, n_reference=600, n_current=300) < 0.006
    True
    """
    windows = requests / n_current
    ways = math.comb(votes.among - 1, votes.needed - 1)
    correlation = n_current / (n_reference + n_current)

    def expected(alpha: float) -> float:
        return windows * ways * _all_alarm(alpha, votes.needed, correlation)

    if expected(_ALPHA_MOST) <= 1.0:
        return _ALPHA_MOST
    low, high = 1e-12, _ALPHA_MOST
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if expected(middle) <= 1.0 else (low, middle)
    return low


def _all_alarm(alpha: float, count: int, correlation: float) -> float:
    """Return P(|z| > c in each of `count` windows), c the two-sided critical value, given the shared reference."""
    from scipy.special import ndtr, ndtri  # scipy.stats takes half a second to import

    critical = -ndtri(alpha / 2)
    grid = np.linspace(-9.0, 9.0, 2_001)
    own = math.sqrt(1.0 - correlation)
    shared = math.sqrt(correlation) * grid
    alarm = ndtr((shared - critical) / own) + ndtr((-critical - shared) / own)
    density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
    return float((alarm**count * density).sum() * (grid[1] - grid[0]))
