"""A figure of a version that a setting bounds, with the interval that decides whether it is surely beyond."""

from dataclasses import dataclass

from perennial.continual.intervals import Interval

__all__ = ["BoundedFigure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedFigure:
    """One figure: what it is of, the challenger's with its interval, the champion's own, and the limit.

    It is broken where it passes the limit, the interval leaves the limit out, and the champion is no further beyond:
    refusing a challenger that is nearer to the limit would leave worse.

    >>> figure = BoundedFigure(name="gap", told="the gap", value=Interval(mean=0.3, low=0.2, high=0.4), champion=0.25,
    ...                        limit=0.1, rows=400)
    >>> figure.reason
    'beyond a limit: the gap is 0.300 [0.200, 0.400] on 400 rows (at most 0.100)'
    """

    name: str  # for the ledger's figures
    told: str  # the subject of a sentence
    value: Interval
    champion: float | None  # None where the champion has no such figure
    limit: float
    rows: int
    most: bool = True  # at most the limit; else at least

    @property
    def reason(self) -> str | None:
        """Why a challenger is refused by it; None where it is not."""
        low, high = (self.value.low, self.value.mean) if self.most else (-self.value.high, -self.value.mean)
        limit = self.limit if self.most else -self.limit
        before = None if self.champion is None else self.champion if self.most else -self.champion
        if low <= limit or (before is not None and before > max(high, limit)):
            return None
        return (
            f"beyond a limit: {self.told} is {self.value.mean:.3f} [{self.value.low:.3f}, {self.value.high:.3f}] on "
            f"{self.rows:,} rows ({'at most' if self.most else 'at least'} {self.limit:.3f})"
        )
