"""When nobody asks, or little: what an engine can make again is let go of, after a while."""

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["REST_S", "RestWatch"]

logger = logging.getLogger(__name__)
REST_S = 30.0
_LOOKS = 4  # in the time after which it rests
_SETTLES = 2  # looks from one to the next


class RestWatch:
    """Calls `rest` once, in a thread of its own, when nothing was `asked` for so long; and again after more was.

    It is called again as well when `waits` tells another thing than it did then. While something is asked, `settle` is
    called twice in that time.

    >>> calls = []
    >>> watch = RestWatch(lambda: calls.append("rest"), after_s=0.0)
    >>> watch.look(), watch.look(), calls
    (True, False, ['rest'])
    >>> watch.asked()
    >>> watch.look(), calls
    (True, ['rest', 'rest'])
    """

    def __init__(
        self,
        rest: Callable[[], None],
        *,
        settle: Callable[[], None] = lambda: None,
        after_s: float = REST_S,
        waits: Callable[[], bool] = lambda: False,
    ) -> None:
        self._rest, self._settle, self._after_s, self._waits = rest, settle, after_s, waits
        self._last = time.monotonic()
        self._rested_after: tuple[float, bool] | None = None  # the question after which it rests, and what it was then
        self._looks = 0  # while it was asked
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rest-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a rest under way is waited for."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def asked(self) -> None:
        """Something is asked now; may be called while another thread looks."""
        self._last = time.monotonic()

    def look(self) -> bool:
        """Whether it was time to rest; a rest that fails is logged."""
        last = self._last
        if time.monotonic() - last < self._after_s:
            self._looks += 1
            if self._looks % _SETTLES == 0:
                self._do(self._settle)
            return False
        try:
            now = last, self._waits()
            if now == self._rested_after or last != self._last:  # one that is asked meanwhile is needed
                return False
            self._rested_after = now
        except Exception:
            logger.exception("engine.not_at_rest")
            return True
        self._do(self._rest)
        return True

    def _do(self, lets_go: Callable[[], None]) -> None:
        try:
            lets_go()
        except Exception:  # whatever a runtime or a disk raises: it only holds more memory
            logger.exception("engine.not_at_rest")

    def _run(self) -> None:
        while not self._over.wait(self._after_s / _LOOKS):
            self.look()
