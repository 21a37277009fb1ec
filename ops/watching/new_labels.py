"""Whether labels came since somebody looked: cheap enough to be asked several times a second."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perennial.ops.ledger.ports import LabelsIn

__all__ = ["NewLabels"]

_LEAST_REST_S = 0.5
_AFTER_FAILURE_S = 10.0  # what made a look fail would most likely make the next one fail at once
_SHARE = 0.1  # of the time, that looking at labels may take while they keep coming


class NewLabels:
    """One model's labels, counted; a label that takes the place of a joined one counts as one that came.

    Labels that keep coming are not looked at all the time: after each look there is a rest, the longer the look took.

    Args:
        ledger: where labels are counted.
        model: whose.
        every_s: how often the count is read at most.
        clock: seconds, which never go back.
    """

    def __init__(
        self, ledger: LabelsIn, model: str, *, every_s: float = 0.2, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger, self._model, self._every_s, self._clock = ledger, model, every_s, clock
        self._seen: int | None = None
        self._rests_until = self._counts_at = float("-inf")
        self._told = False  # that labels wait to be counted

    def came(self) -> bool:
        """Whether there are more than the last look left; the first call only begins to count."""
        if (now := self._clock()) < max(self._rests_until, self._counts_at):
            return False
        self._counts_at, self._told = now + self._every_s, False
        count = self._ledger.labels_in(self._model)
        if self._seen is None:
            self._seen = count
        return count > self._seen

    def delivered(self) -> bool:
        """Count anew when asked next, as this process has just kept some; returns whether to ask at once.

        Of many that are kept before somebody asks, the first one alone says so.
        """
        self._counts_at = float("-inf")
        if self._told or self._clock() < self._rests_until:
            return False
        self._told = True
        return True

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """While the block lasts somebody looks at the labels; one that comes meanwhile is looked at next."""
        began, before, least = self._clock(), self._ledger.labels_in(self._model), _AFTER_FAILURE_S
        try:
            yield
            self._seen, least = min(before, self._ledger.labels_in(self._model)), _LEAST_REST_S
        finally:
            now = self._clock()
            self._rests_until = now + max(least, (now - began) * (1.0 / _SHARE - 1.0))
