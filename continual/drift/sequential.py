"""Sequential detector for labelled errors, doubt and abstention: one value at a time, with a stated run length."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.accuracy import equality
from perennial.continual.errors import DataError
from perennial.continual.records import fields_known_to

__all__ = ["EDetector", "EDetectorState", "abstained", "doubt", "errors", "upper_bound"]

_STAKES = (0.05, 0.1, 0.2, 0.4)
_MOST = 1e300


@dataclass(frozen=True, slots=True, kw_only=True)
class EDetectorState:
    """What the detector remembers. `evidence` has one Shiryaev-Roberts sum for each stake.

    >>> s = EDetector(bound=0.1, run_length=1_000).start()
    >>> EDetectorState.from_json(s.to_json()) == s
    True
    """

    seen: int
    total: float
    evidence: tuple[float, ...]
    alarms: int = 0
    last_alarm: int | None = None

    @property
    def value(self) -> float:
        """Return the evidence for a change; an alarm is raised when it reaches the run length."""
        return float(np.mean(self.evidence))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "evidence": list(self.evidence)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Return the state that `to_json` wrote; what a later release added to it is left out."""
        return cls(**{**fields_known_to(cls, facts), "evidence": tuple(facts["evidence"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class EDetector:
    """Watches the mean of values in [0, 1] rise above `bound`.

    While each value's mean, given those before it, is at most `bound`, an alarm comes after `run_length` values or
    more on average, whatever their distribution. That is a promise about `bound`: take an upper confidence bound
    of the clean mean (`upper_bound`), not the mean itself. An alarm starts the evidence afresh.

    Source: Shin, Ramdas and Rinaldo (2024), E-detectors; Shiryaev-Roberts sums of betting e-values.

    >>> detector = EDetector(bound=0.1, run_length=10_000)
    >>> state, alarms = detector.update(detector.start(), [0.0] * 200 + [1.0] * 20)
    >>> alarms
    (207, 214)
    """

    bound: float
    run_length: float
    stakes: tuple[float, ...] = _STAKES  # a stake c bets on a mean of about bound + c (1 - bound)

    def __post_init__(self) -> None:
        if not self.stakes or not all(0.0 < stake < 1.0 for stake in self.stakes):
            raise DataError(f"an e-detector's stakes are {self.stakes}; each must lie strictly between 0 and 1")
        if not 0.0 < self.bound < 1.0:
            raise DataError(f"an e-detector's bound is {self.bound}; it must lie strictly between 0 and 1")
        if self.run_length < 2:
            raise DataError(f"an e-detector's run length is {self.run_length}; give at least 2 values")

    def start(self) -> EDetectorState:
        """Return the state before the first value."""
        return EDetectorState(seen=0, total=0.0, evidence=(0.0,) * len(self.stakes))

    def update(
        self, state: EDetectorState, values: Sequence[float] | NDArray[np.generic]
    ) -> tuple[EDetectorState, tuple[int, ...]]:
        """Return the state after the values, and the counts of values seen at which an alarm was raised.

        Raises:
            DataError: a value outside [0, 1].
        """
        bets = np.asarray(values, dtype=np.float64).ravel()
        if len(bets) and not (np.isfinite(bets).all() and bets.min() >= 0.0 and bets.max() <= 1.0):
            raise DataError("an e-detector takes values in [0, 1]; scale them, and drop rows without one")
        stakes = [stake / self.bound for stake in self.stakes]
        evidence = list(state.evidence)
        alarms: list[int] = []
        for position, value in enumerate(bets.tolist(), start=state.seen + 1):
            gain = value - self.bound
            evidence = [min((e + 1.0) * (1.0 + s * gain), _MOST) for e, s in zip(evidence, stakes, strict=True)]
            if sum(evidence) >= self.run_length * len(stakes):
                alarms.append(position)
                evidence = [0.0] * len(stakes)
        after = EDetectorState(
            seen=state.seen + len(bets),
            total=state.total + float(bets.sum()),
            evidence=tuple(evidence),
            alarms=state.alarms + len(alarms),
            last_alarm=alarms[-1] if alarms else state.last_alarm,
        )
        return after, tuple(alarms)


def upper_bound(values: Sequence[float] | NDArray[np.generic], *, miss: float = 0.05) -> float:
    """Return a bound that the mean of values in [0, 1] stays under, except with probability `miss`.

    Exact for 0/1 values (Clopper-Pearson), empirical Bernstein otherwise; capped below 1.

    Source: Clopper and Pearson (1934); Maurer and Pontil (2009), theorem 4.

    >>> round(upper_bound([0] * 90 + [1] * 10), 3)
    0.164
    """
    from scipy.stats import beta

    array = np.asarray(values, dtype=np.float64).ravel()
    n = len(array)
    if n < 2 or not 0.0 <= array.min() <= array.max() <= 1.0:
        raise DataError(f"a bound needs at least 2 values in [0, 1]; {n} were given")
    if np.isin(array, (0.0, 1.0)).all():
        count = int(array.sum())
        bound = 1.0 if count == n else float(beta.isf(miss, count + 1, n - count))
    else:
        log = np.log(2.0 / miss)
        bound = float(array.mean() + np.sqrt(2.0 * array.var(ddof=1) * log / n) + 7.0 * log / (3.0 * (n - 1)))
    return float(np.clip(bound, 1e-6, 1.0 - 1e-6))


def errors(
    predicted: Sequence[str], labels: Sequence[str], score: Callable[[str, str], float] = equality
) -> NDArray[np.float64]:
    """Return by how much each answer missed the best score: 1 where it was wrong, 0 where it was right."""
    if len(predicted) != len(labels):
        raise DataError(f"{len(predicted)} answers and {len(labels)} labels; give one label for each answer")
    return np.array([1.0 - score(a, b) for a, b in zip(predicted, labels, strict=True)])


def doubt(confidences: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return one minus the confidence, so that a rise means a less certain model."""
    return np.clip(1.0 - np.asarray(confidences, dtype=np.float64), 0.0, 1.0)


def abstained(confidences: NDArray[np.generic], threshold: float) -> NDArray[np.float64]:
    """Return 1 where the confidence is below the threshold, 0 elsewhere."""
    return (np.asarray(confidences, dtype=np.float64) < threshold).astype(np.float64)
