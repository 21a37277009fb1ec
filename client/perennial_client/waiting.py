"""A call that is given up when its time is over, however the other side spends it."""

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["within"]

T = TypeVar("T")


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` returns or raises. One that takes longer is left to itself, in a thread that keeps no program alive.

    Raises:
        TimeoutError: it took longer.
    """
    told: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            told.put((ask(), None))
        except BaseException as error:  # for whoever waits
            told.put((None, error))

    threading.Thread(target=work, name="perennial-client", daemon=True).start()
    try:
        answer, error = told.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"nothing was answered within {seconds:g} s") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]
