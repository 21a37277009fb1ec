"""When a batch begins: those who have just been answered may ask again at once, and are worth a moment."""

import math

__all__ = ["PATIENCE_S", "Hold"]

PATIENCE_S = 0.25  # so long at most does a request wait for a batch that takes long
_SECOND = 0.5  # of a full batch, or of the one under way, must wait before a second one is worth it beside that
_WORTH = 8  # rows do, where an engine takes its time for a batch
_LONG_S = 0.01  # that a batch takes there; a faster engine is better asked for more at once
_HOLD = 0.1  # of the time that the last batch took: so long the next one waits for those who have just been answered
_HOLD_S = 0.003


class Hold:
    """How many may come again, until when the next batch waits for them, and what is worth a second one beside it.

    `most` rows are a full batch. Two that an engine computes side by side keep it busy while what comes before and
    after one of them is done; the engine gives each its share of the threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._expected, self._until = 0, -math.inf
        self._worth = _SECOND * most

    def answered(self, requests: int, *, began: float, now: float) -> None:
        """A batch has been answered; so many requests will wait when all of them are asked again."""
        self._expected, self._until = requests, now + min(_HOLD_S, _HOLD * (now - began))
        full = _SECOND * self._most
        self._worth = min(_WORTH, full) if now - began > _LONG_S else full

    def over(self) -> None:
        """A batch began: nobody is waited for until the next answers."""
        self._expected = 0

    def until(self, requests: int, rows: int) -> float:
        """The moment until which so many wait for more; in the past where for nobody."""
        return -math.inf if requests >= self._expected or rows >= self._most else self._until

    def fills_second(self, rows: int, beside: int) -> bool:
        """Whether so many rows are worth a batch beside the one under way, which has `beside`."""
        return rows >= min(_SECOND * self._most, max(self._worth, _SECOND * beside))

    def fills_two(self, rows: int) -> bool:
        """Whether so many rows are worth two batches, while none is under way."""
        return rows >= 2 * self._worth
