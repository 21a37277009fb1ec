"""When a batch begins: those who have just been answered may ask again at once, and are worth a moment."""

import math

__all__ = ["PATIENCE_S", "Hold"]

PATIENCE_S = 0.25  # so long at most does a request wait for a batch that takes long
_SECOND = 0.5  # of a full batch must wait before a second one is worth it beside the first
_HOLD = 0.1  # of the time that the last batch took: so long the next one waits for those who have just been answered
_HOLD_S = 0.003


class Hold:
    """How many may come again, and until when the next batch waits for them; `most` rows are a full batch."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._expected, self._until = 0, -math.inf

    def answered(self, requests: int, *, began: float, now: float) -> None:
        """A batch of so many requests has been answered."""
        self._expected, self._until = requests, now + min(_HOLD_S, _HOLD * (now - began))

    def until(self, requests: int, rows: int) -> float:
        """The moment until which so many wait for more, where no batch is under way; in the past where for nobody."""
        return -math.inf if requests >= self._expected or rows >= self._most else self._until

    def fills_second(self, rows: int) -> bool:
        """Whether so many rows are worth a batch beside the one under way."""
        return rows >= _SECOND * self._most
