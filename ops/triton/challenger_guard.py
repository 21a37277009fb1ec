"""Asks a challenger so that one which hangs or fails costs hardly anybody time."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from continual.errors import DependencyUnreachable, PerennialError

__all__ = ["ChallengerGuard"]

logger = logging.getLogger(__name__)
T = TypeVar("T")


class ChallengerGuard:
    """A circuit breaker with a time limit, one state a version.

    A call that takes longer than `limit_s` is given up; until it has ended, and for `pause_s` after a failure, the
    version is not asked again, so that at most one call a thread of the caller's can hang.
    """

    def __init__(
        self, *, limit_s: float = 1.0, pause_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit_s, self._pause_s, self._clock = limit_s, pause_s, clock
        self._lock = threading.Lock()
        self._closed_until: dict[int, float] = {}
        self._hanging: dict[int, int] = {}

    def ask(self, version: int, call: Callable[[], T]) -> T:
        """What `call` returns, from a thread of its own.

        Raises:
            DependencyUnreachable: the call took too long, or the version is not asked at present.
            PerennialError: whatever the call raised.
        """
        if not self._may_ask(version):
            raise DependencyUnreachable(f"challenger version {version} failed or hung a moment ago and is not asked")
        asking = _Call(call)
        if not asking.ended.wait(self._limit_s):
            with self._lock:
                if not asking.ended.is_set():
                    self._hanging[version] = self._hanging.get(version, 0) + 1
                    asking.when_ended = lambda: self._ended(version)
            self._pause(version)
            raise DependencyUnreachable(f"challenger version {version} did not answer within {self._limit_s:g} s")
        if asking.error is not None:
            self._pause(version)
            raise asking.error
        return asking.result[0]

    def _may_ask(self, version: int) -> bool:
        with self._lock:
            return not self._hanging.get(version) and self._clock() >= self._closed_until.get(version, 0.0)

    def _pause(self, version: int) -> None:
        with self._lock:
            self._closed_until[version] = self._clock() + self._pause_s

    def _ended(self, version: int) -> None:
        with self._lock:
            self._hanging[version] -= 1
        logger.info("challenger.call_ended_late", extra={"version": version})


class _Call(Generic[T]):
    """One call in a daemon thread: a process that stops must not wait for it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._work = call
        self.ended = threading.Event()
        self.result: list[T] = []
        self.error: PerennialError | None = None
        self.when_ended: Callable[[], None] = lambda: None
        threading.Thread(target=self._run, name="challenger-call", daemon=True).start()

    def _run(self) -> None:
        try:
            self.result.append(self._work())
        except PerennialError as exc:
            self.error = exc
        except Exception as exc:  # Triton's own errors derive from Exception alone
            self.error = DependencyUnreachable(f"the challenger's engine failed: {exc}")
        self.ended.set()
        self.when_ended()
