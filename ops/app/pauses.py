"""Keeps a serving process from pausing in the middle of a command: for its collector, or for a thread that computes."""

import gc
import sys
import time

__all__ = ["ShortPauses"]

_SWITCH_S = 0.0005
_WARM_S = 60.0  # by then every job has run once, and imported what it needs


class ShortPauses:
    """Python's long pauses made short, from `begin` on.

    A full collection looks at every object with the interpreter's lock held: 0.1 to 0.2 s for the 130,000 that the
    imports of `perennial serve` leave. They live for ever, so the collector is told to pass over them. And a thread
    that computes hands the lock over after 0.5 ms instead of 5: a command that crosses between C and Python dozens of
    times waits for it each time.
    """

    def __init__(self, *, warm_s: float = _WARM_S) -> None:
        self._warm_s = warm_s
        self._again: float | None = None

    def begin(self) -> None:
        """Take effect; call it when the process is ready."""
        sys.setswitchinterval(_SWITCH_S)
        self._again = time.monotonic() + self._warm_s
        _pass_over_the_living()

    def tick(self) -> None:
        """Once more when the process is warm; cheap at any other time."""
        if self._again is not None and time.monotonic() >= self._again:
            self._again = None
            _pass_over_the_living()


def _pass_over_the_living() -> None:
    gc.collect()  # what is garbage now would stay for ever
    gc.freeze()
