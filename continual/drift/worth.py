"""Whether learning is worth it: the apprentice's score beside the champion's, label by label, with a stated budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perennial.continual.apprentice import Apprentice, LoggedAnswers
from perennial.continual.drift.sequential import EDetector, EDetectorState
from perennial.continual.errors import DataError

__all__ = ["ExpectedGain", "Worth", "WorthTest"]

_RECENT = 300  # newest compared answers that the expected gain is told of
_SURE = 1.96  # standard errors
_STAKES = (0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedGain:
    """How much better each answer would be, in scores from -1 to 1, with its 95% interval and the answers behind it.

    >>> ExpectedGain.of([1.0, 0.0, 0.0, 0.0] * 25).value
    0.25
    """

    value: float
    low: float
    high: float
    rows: int

    @classmethod
    def of(cls, differences: Sequence[float] | NDArray[np.float64]) -> "ExpectedGain | None":
        """The mean of these differences; None of fewer than two."""
        rows = np.asarray(differences, dtype=np.float64)
        if len(rows) < 2:
            return None
        mean = float(rows.mean())
        error = _SURE * float(np.sqrt((rows.var() + 1.0 / len(rows)) / len(rows)))
        return cls(value=mean, low=max(-1.0, mean - error), high=min(1.0, mean + error), rows=len(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorthTest:
    """Bets that learning buys more than `least` on each answer, in scores.

    While it does not, given all answers before, an alarm comes after `run_length` compared answers or more on average.
    """

    least: float = 0.01
    run_length: float = 1_000_000.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.least < 1.0:
            raise DataError(f"learning is to buy more than {self.least} on each answer; give a share in [0, 1)")

    @property
    def detector(self) -> EDetector:
        """The test on differences that are brought from [-1, 1] to [0, 1]."""
        return EDetector(bound=(1.0 + self.least) / 2.0, run_length=self.run_length, stakes=_STAKES)


@dataclass(slots=True, kw_only=True)
class Worth:
    """Follows one champion's labelled answers. The same rows in the same order leave it the same.

    >>> from perennial.continual.drift.apprentice import ClassApprentice
    >>> asked = LoggedAnswers(embeddings=np.tile(np.eye(2, dtype=np.float32), (100, 1)), answers=["a"] * 200)
    >>> worth = Worth(test=WorthTest(), apprentice=ClassApprentice())
    >>> worth.follow(asked, ["a", "b"] * 100, champion=[1.0, 0.0] * 100, score=lambda a, b: float(a == b))
    >>> worth.found_at, worth.gain.value
    (60, 0.46)
    """

    test: WorthTest
    apprentice: Apprentice
    compared: int = 0
    found_at: int | None = None  # compared answers at the first alarm since the evidence began
    _evidence: EDetectorState | None = None
    _recent: list[float] = field(default_factory=list)

    def follow(
        self,
        asked: LoggedAnswers,
        targets: Sequence[str],
        *,
        champion: Sequence[float | None],
        score: Callable[[str, str], float],
    ) -> None:
        """Compare each answer, then learn its target. `champion` are the scores of the logged answers.

        None stands for an answer that must not speak: another version gave it, or it was labelled for what it is.
        """
        said = self.apprentice.follow(asked, targets)
        differences = [
            score(answer, target) - before
            for answer, target, before in zip(said, targets, champion, strict=True)
            if before is not None
        ]
        detector = self.test.detector
        state = self._evidence or detector.start()
        self._evidence, alarms = detector.update(state, [(1.0 + each) / 2.0 for each in differences])
        if alarms and self.found_at is None:
            self.found_at = self.compared + alarms[0] - state.seen
        self.compared += len(differences)
        self._recent = [*self._recent, *differences][-_RECENT:]

    def begin_anew(self) -> None:
        """Let the evidence begin again: what was found so far has been answered. What was learnt stays."""
        self._evidence, self.found_at = None, None

    @property
    def evidence(self) -> float:
        """The evidence that learning is worth it; it is found once this reaches the run length, and stays there."""
        if self.found_at is not None:
            return self.test.run_length  # the detector itself begins afresh
        return 0.0 if self._evidence is None else self._evidence.value

    @property
    def gain(self) -> ExpectedGain | None:
        """What the newest compared answers tell."""
        return ExpectedGain.of(self._recent)
