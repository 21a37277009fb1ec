"""How often and when something is tried again: within the time of the call, and when the server says."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import BadInput, ClientError, Overloaded, TooLate, Unreachable

__all__ = ["Attempts", "Retry"]

_LEAST_PAUSE_S = 0.02  # also for a server that says "at once", and is not ready then


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """As many attempts as the call's time allows, or `attempts` at most.

    Without a hint of the server the first pause is `first_pause_s`, and each one doubles up to `longest_pause_s`.

    Raises:
        BadInput: it allows no attempt, or its pauses are not positive.
    """

    attempts: int | None = None
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0

    def __post_init__(self) -> None:
        if (self.attempts is not None and self.attempts < 1) or not 0 < self.first_pause_s <= self.longest_pause_s:
            raise BadInput(f"{self} allows nothing; give at least 1 attempt and 0 < first_pause_s <= longest_pause_s")


class Attempts:
    """The attempts of one call, which has `timeout_s` for all of them and for the pauses between."""

    def __init__(self, retry: Retry, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry, self._timeout_s, self._clock = retry, timeout_s, clock
        self._ends, self._failed = clock() + timeout_s, 0

    def left_s(self) -> float:
        """The time that is left.

        Raises:
            TooLate: none is.
        """
        left = self._ends - self._clock()
        if left <= 0:
            raise TooLate(f"the call has no time left of its {self._timeout_s:g} s; give it a longer timeout_s")
        return left

    def succeeded(self) -> None:
        """Begin to count anew: of many requests each has its attempts, and all share the time."""
        self._failed = 0

    def pause_after(self, error: ClientError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            ClientError: the given one, where another attempt would not help, or comes too late.
        """
        self._failed += 1
        again = isinstance(error, Overloaded | Unreachable) and not isinstance(error, TooLate)
        most = self._retry.attempts
        if not again or (most is not None and self._failed >= most):
            raise error
        hint = error.retry_after_s if isinstance(error, Overloaded) else None
        if hint is None:
            hint = min(self._retry.longest_pause_s, self._retry.first_pause_s * 2 ** (self._failed - 1))
        hint = max(hint, _LEAST_PAUSE_S)
        pause = hint * (1 + 0.25 * random.random())  # callers that were refused together do not come back together
        if self._clock() + pause >= self._ends:
            raise error
        return pause
