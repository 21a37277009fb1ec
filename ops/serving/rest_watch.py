"""When nobody asks: what an engine can make again is let go of, after a while."""

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["REST_S", "Resting"]

logger = logging.getLogger(__name__)
REST_S = 30.0


class Resting:
    """Calls `rest` once, in a thread of its own, when nothing was `asked` for so long; and again after more was.

    >>> calls = []
    >>> resting = Resting(lambda: calls.append("rest"), after_s=0.0)
    >>> resting.look(), resting.look(), calls
    (True, False, ['rest'])
    >>> resting.asked()
    >>> resting.look(), calls
    (True, ['rest', 'rest'])
    """

    def __init__(self, rest: Callable[[], None], *, after_s: float = REST_S) -> None:
        self._rest, self._after_s = rest, after_s
        self._last, self._rests = time.monotonic(), False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resting", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a rest under way is waited for."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def asked(self) -> None:
        """Something is asked now."""
        self._last, self._rests = time.monotonic(), False

    def look(self) -> bool:
        """Whether it was time to rest; a rest that fails is logged."""
        if self._rests or time.monotonic() - self._last < self._after_s:
            return False
        self._rests = True
        try:
            self._rest()
        except Exception:  # whatever a runtime raises: it only holds more memory
            logger.exception("engine.not_at_rest")
        return True

    def _run(self) -> None:
        while not self._over.wait(self._after_s / 4):
            self.look()
