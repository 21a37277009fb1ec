"""What a leading process saw of a job."""

from dataclasses import dataclass

__all__ = ["JobFacts"]

_PATIENCE = 3.0  # intervals without a run that ended well, until a job counts as silent
_LEAST_S = 60.0  # and at least so long beyond one interval: a busy machine is late too


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """One job since this process leads; times are seconds of the monotonic clock.

    >>> JobFacts(interval_s=30.0, since=0.0).silent(now=95.0), JobFacts(interval_s=30.0, since=0.0).silent(now=85.0)
    (True, False)
    """

    interval_s: float | None
    since: float | None = None  # when it was first seen under this leadership
    paused: bool = False
    began: float | None = None  # the run under way
    done: float | None = None  # the last run that ended well
    error: str = ""  # of the last run, empty when that ended well

    @property
    def limit_s(self) -> float | None:
        """How long it may do without a run that ends well; None for one that runs at times of day."""
        return None if self.interval_s is None else max(_PATIENCE * self.interval_s, self.interval_s + _LEAST_S)

    def age_s(self, now: float) -> float | None:
        """Return how long ago it ended well, or else since when it has been waited for."""
        seen = [moment for moment in (self.done, self.since) if moment is not None]
        return now - max(seen) if seen else None

    def silent(self, now: float) -> bool:
        """Whether it has not ended well for too long, though it should have."""
        age_s, limit_s = self.age_s(now), self.limit_s
        return not self.paused and age_s is not None and limit_s is not None and age_s > limit_s
