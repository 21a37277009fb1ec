"""What two versions' answers say without labels: it may stop a rollout, and never promotes anybody."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from perennial.continual.errors import DataError
from perennial.continual.intervals import wilson
from perennial.continual.rollout.e_values import ScoreSums, mean_score_above, share_above

__all__ = ["Unlabelled"]

_CALIBRATION = 0.05  # by which the difference of two calibrated confidences may be off at the least
_UNKNOWN = 0.10  # more of all answers that are "none of the classes", from which something is wrong
_STRANGER = 0.25  # by which live traffic may be harder for both than the held-out rows were
_SENSELESS = 0.95  # a limit of disagreement beyond which it says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlabelled:
    """Counts over rows drawn by chance from all traffic, each answered by both versions.

    On `disagreed` of the `compared` rows the answers differ. `newly_unknown` rows are of none of the classes for the
    challenger alone, `newly_known` ones for the champion alone. `confidence` holds by how much the challenger's
    calibrated confidence, which is its own estimate of its accuracy, lies above the champion's; it may be off by
    `calibration_error`. More disagreement than `disagreement_limit` fits no accuracy that was measured.

    >>> Unlabelled(compared=100, disagreed=6).agreeing_with(12)   # each disputed row stands for 100 / 6 rows
    188
    """

    compared: int = 0
    disagreed: int = 0
    newly_unknown: int = 0
    newly_known: int = 0
    confidence: ScoreSums | None = None
    calibration_error: float = 0.0
    disagreement_limit: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.disagreed <= self.compared or self.newly_unknown + self.newly_known > self.compared:
            raise DataError(f"{self} counts more rows than it compared")

    @staticmethod
    def limit_of(accuracies: Iterable[tuple[float, float]]) -> float | None:
        """How often two versions may disagree that had these accuracies on the same held-out rows; None: ever so often.

        Where both are right they agree.

        >>> round(Unlabelled.limit_of([(0.92, 0.93)]), 2)   # on 15% at the most, and as much again for stranger traffic
        0.4
        >>> Unlabelled.limit_of([(0.1, 0.9)])   # a world that changed
        """
        limit = max((2.0 - one - other for one, other in accuracies), default=1.0) + _STRANGER
        return None if limit >= _SENSELESS else limit

    def agreeing_with(self, disputed: int, *, at_least: bool = False) -> int:
        """How many rows on which the versions agree go with so many disputed ones; a lower bound where asked for."""
        if not self.disagreed or not disputed:
            return 0
        share = wilson(self.disagreed, self.compared).high if at_least else self.disagreed / self.compared
        return int(disputed * (1 - share) / share + 1e-9)

    @property
    def estimated_points(self) -> float | None:
        """The difference in accuracy that the two confidences promise, in points; None where answers have none."""
        sums = self.confidence
        return None if sums is None or not sums.rows else 100.0 * (sums.gained - sums.lost) / sums.rows

    def e_values(self, *, margin: float) -> dict[str, float]:
        """Evidence that the challenger is worse by more than the margin, by name; empty before any row is compared.

        The estimate's own uncertainty is in it twice: the rows' in the bets, and the confidences' in a margin that is
        wider by what they may be off.
        """
        if not self.compared:
            return {}
        unknown = ScoreSums.of({1.0: self.newly_unknown, -1.0: self.newly_known, 0.0: self._same_known})
        values = {"unknown": mean_score_above(unknown, _UNKNOWN)}
        if self.disagreement_limit is not None:
            values["disagreement"] = share_above(self.disagreed, self.compared, self.disagreement_limit)
        if self.confidence is not None and self.confidence.rows:
            wider = min(0.99, margin + max(_CALIBRATION, self.calibration_error))
            values["confidence"] = mean_score_above(self.confidence.mirrored, wider)
        return values

    def sentences(self) -> dict[str, str]:
        """What each kind of evidence says, in words."""
        points, limit = self.estimated_points, self.disagreement_limit
        return {
            "unknown": f"{self.newly_unknown} of {self.compared} answers are newly of none of the classes, "
            f"{self.newly_known} no longer",
            "disagreement": f"{self.disagreed} of {self.compared} answers differ (limit {limit or 1.0:.0%})",
            "confidence": f"the confidences promise {points or 0.0:+.1f} points on {self.compared} rows",
        }

    def figures(self) -> dict[str, Any]:
        """The counts, where there are any."""
        if not self.compared:
            return {}
        points = self.estimated_points
        return {
            "compared": self.compared,
            "disagreed": self.disagreed,
            "newly_unknown": self.newly_unknown,
            "newly_known": self.newly_known,
            **({} if points is None else {"estimated_points": round(points, 3)}),
        }

    @property
    def _same_known(self) -> int:
        return self.compared - self.newly_unknown - self.newly_known
