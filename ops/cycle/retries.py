"""A step that fails and is tried again: since when, how often and why, where people look."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from perennial.continual.errors import DependencyUnreachable
from perennial.ops.ledger.ports import State
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.state import RETRIES, RetriedStep

__all__ = ["StepRetries"]

logger = logging.getLogger(__name__)


class StepRetries:
    """The failures of one model's present step. They are told in the log, as an event and in the ledger."""

    def __init__(self, ledger: State, model: str, feed: EventFeed, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._model, self._feed, self._clock = ledger, model, feed, clock
        self._first: tuple[float, datetime] | None = None
        self._rested_s, self._rests_since = 0.0, float("inf")
        self._error = ""
        self.tries = 0

    def failing_s(self) -> float:
        """Seconds since the step's first failure in a row, without those in which nobody tried; 0 without a failure."""
        if self._first is None:
            return 0.0
        now = self._clock()
        return now - self._first[0] - self._rested_s - max(0.0, now - self._rests_since)

    def rests(self) -> None:
        """Nobody tries the step now: it waits for its turn, a pause lies on it, or another process leads."""
        self._rests_since = min(self._rests_since, self._clock())

    def tried(self) -> None:
        """The step is tried again."""
        self._rested_s += max(0.0, self._clock() - self._rests_since)
        self._rests_since = float("inf")

    def failed(self, cycle: int, step: str, error: str) -> None:
        """The step failed and will be tried again."""
        if self._first is None:
            self._first, self._rested_s = (self._clock(), datetime.now(UTC)), 0.0
        self.tries += 1
        facts = {"cycle": cycle, "step": step, "error": error}
        logger.warning("cycle.step_waits", extra={"model": self._model, "tries": self.tries, **facts})
        if error == self._error:
            return
        self._error = error
        self._feed.record(self._model, "cycle.step_waits", **facts)
        self._keep(RetriedStep(cycle=cycle, step=step, error=error, since=self._first[1].isoformat()))

    def over(self) -> None:
        """The step has ended or works again, or another one begins; also after what a killed process left behind."""
        self._first, self._error, self.tries = None, "", 0
        self._keep(None)

    def _keep(self, wait: RetriedStep | None) -> None:
        try:
            if RETRIES.read(self._ledger, self._model) != wait:
                RETRIES.keep(self._ledger, self._model, wait)
        except DependencyUnreachable as exc:  # it may be the ledger for which the step waits
            logger.warning("cycle.retries_not_kept", extra={"model": self._model, "error": str(exc)})
