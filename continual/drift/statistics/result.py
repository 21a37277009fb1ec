"""What every statistic of this package answers with."""

import math
from dataclasses import dataclass

from perennial.continual.errors import DataError

__all__ = ["StatisticResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticResult:
    """One measured difference between two samples: is there one (p-value), and does it matter (effect)?

    `effect` is corrected for sampling noise where the statistic is biased upwards, so clean samples of any size give
    values near zero. `floor` is in the unit of `effect`; higher effect means more drift.

    >>> r = StatisticResult(statistic=0.3, p_value=0.001, effect=0.3, floor=0.1, n_reference=600, n_current=300)
    >>> r.relevant
    True
    """

    statistic: float
    p_value: float
    effect: float
    floor: float
    n_reference: int
    n_current: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.p_value <= 1.0:
            raise DataError(f"a p-value is {self.p_value}; it must lie in [0, 1]: look for NaN in the compared values")
        if not (math.isfinite(self.statistic) and math.isfinite(self.effect)):
            raise DataError(
                f"statistic {self.statistic} and effect {self.effect} must be finite; look for NaN in the values"
            )

    @property
    def relevant(self) -> bool:
        """Whether the effect reaches its floor; says nothing about chance."""
        return self.reaches(1.0)

    def reaches(self, share: float) -> bool:
        """Whether the effect reaches so much of its floor."""
        return self.effect >= share * self.floor
