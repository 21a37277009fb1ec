"""Whose turn it is: callers one after the other, and each caller's own in the order in which they came."""

import threading
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Turns"]

T = TypeVar("T")


class Turns(Generic[T]):
    """What waits, bounded and shared among those who ask. Safe to share between threads.

    One caller alone may fill it. When another comes, the newest of whoever has most goes, so that nobody keeps
    others out. Source: fair queueing, J. Nagle, RFC 970 (1985).

    >>> turns = Turns(2)
    >>> turns.offer("ann", "first"), turns.offer("ann", "second"), turns.offer("ann", "third")
    (None, None, 'third')
    >>> turns.offer("bob", "other")
    'second'
    >>> [turns.take(0.0) for _ in range(3)]
    ['first', 'other', None]
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._closed = False
        self._came = threading.Condition()
        self._waiting: dict[str, deque[T]] = {}  # callers in the order of their turns

    def __len__(self) -> int:
        """How much waits."""
        with self._came:
            return self._count()

    def offer(self, caller: str, item: T) -> T | None:
        """Have it wait; returns what has no room any more, which may be the item itself."""
        with self._came:
            gone: T | None = None
            if self._count() >= self._most:
                greedy = max(self._waiting, key=lambda each: len(self._waiting[each]))
                if len(self._waiting[greedy]) <= len(self._waiting.get(caller, ())) + 1:
                    return item
                gone = self._waiting[greedy].pop()
            self._waiting.setdefault(caller, deque()).append(item)
            self._came.notify()
            return gone

    def take(self, wait_s: float) -> T | None:
        """The next one; None where none came, or nobody is waited for any more."""
        with self._came:
            self._came.wait_for(lambda: self._waiting or self._closed, wait_s)
            if not self._waiting:
                return None
            caller = next(iter(self._waiting))
            own = self._waiting.pop(caller)
            item = own.popleft()
            if own:
                self._waiting[caller] = own  # behind the others
            return item

    def close(self) -> None:
        """Wake whoever takes: nothing more comes."""
        with self._came:
            self._closed = True
            self._came.notify_all()

    def empty(self) -> list[T]:
        """Take out all that wait."""
        with self._came:
            found = [item for own in self._waiting.values() for item in own]
            self._waiting.clear()
            return found

    def _count(self) -> int:
        return sum(map(len, self._waiting.values()))
