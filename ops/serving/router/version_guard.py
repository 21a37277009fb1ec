"""Asks a version so that one which hangs or fails costs hardly anybody time."""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from perennial.continual.errors import DependencyUnreachable, PerennialError, Refused

__all__ = ["VersionGuard"]

logger = logging.getLogger(__name__)
T = TypeVar("T")


class VersionGuard:
    """A circuit breaker with a time limit, one state a version.

    A call that takes longer than `limit_s` is given up. Until it has ended and `hang_pause_s` after that, and for
    `pause_s` after a call that failed, the version is not asked again: at most one call a thread of the caller's hangs.
    A call that was `Refused`, because its caller went away, tells nothing of the version.
    """

    def __init__(
        self, *, limit_s: float, pause_s: float, hang_pause_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit_s, self._pause_s, self._hang_pause_s, self._clock = limit_s, pause_s, hang_pause_s, clock
        self._lock = threading.Lock()
        self._closed_until: dict[int, float] = {}
        self._hanging: dict[int, int] = {}
        self._threads = _Threads()

    def ask(self, version: int, call: Callable[[], T]) -> T:
        """What `call` returns, from another thread.

        Raises:
            DependencyUnreachable: the call took too long, or the version is not asked at present.
            PerennialError: whatever the call raised.
        """
        if not self._may_ask(version):
            raise DependencyUnreachable(f"version {version} failed or hung a moment ago and is not asked")
        asking = _Call(call)
        self._threads.run(asking)
        if not asking.ended.wait(self._limit_s):
            self._count(version, 1)
            if asking.give_up(lambda: self._ended(version)):
                raise DependencyUnreachable(f"version {version} did not answer within {self._limit_s:g} s")
            self._count(version, -1)  # it ended just now
        if asking.error is not None:
            if type(asking.error) is not Refused:
                self._pause(version, self._pause_s)
            raise asking.error
        return asking.result[0]

    def _may_ask(self, version: int) -> bool:
        with self._lock:
            return not self._hanging.get(version) and self._clock() >= self._closed_until.get(version, 0.0)

    def _pause(self, version: int, seconds: float) -> None:
        with self._lock:
            self._closed_until[version] = self._clock() + seconds

    def _count(self, version: int, change: int) -> None:
        with self._lock:
            self._hanging[version] = self._hanging.get(version, 0) + change

    def _ended(self, version: int) -> None:
        self._pause(version, self._hang_pause_s)
        self._count(version, -1)
        logger.info("version.call_ended_late", extra={"version": version})


class _Call(Generic[T]):
    """One call, its result and its end."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._work, self._lock = call, threading.Lock()
        self._when_ended: Callable[[], None] | None = None
        self.ended = threading.Event()
        self.result: list[T] = []
        self.error: PerennialError | None = None

    def give_up(self, when_ended: Callable[[], None]) -> bool:
        """Have `when_ended` called once at the call's end; False, and never called, when it has ended already."""
        with self._lock:
            if self.ended.is_set():
                return False
            self._when_ended = when_ended
            return True

    def work(self) -> None:
        try:
            self.result.append(self._work())
        except PerennialError as exc:
            self.error = exc
        except Exception as exc:  # Triton's own errors derive from Exception alone
            self.error = DependencyUnreachable(f"the version's engine failed: {exc}")
        with self._lock:
            self.ended.set()
        if self._when_ended is not None:
            self._when_ended()


class _Threads:
    """Threads that are kept for the next call; daemons, because a process that stops must not wait for one."""

    def __init__(self) -> None:
        self._idle: deque[queue.SimpleQueue[_Call[Any]]] = deque()

    def run(self, call: _Call[Any]) -> None:
        """Begin a call, in a thread that is free or in a new one."""
        try:
            calls = self._idle.pop()
        except IndexError:
            calls = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(calls,), name="guarded-call", daemon=True).start()
        calls.put(call)

    def _work(self, calls: "queue.SimpleQueue[_Call[Any]]") -> None:
        while True:
            calls.get().work()
            self._idle.append(calls)
