"""What the routers' processes could not write into the traffic log: gathered from the answers to probes."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from perennial.ops.serving.router.progress import Progress

__all__ = ["Losses", "RouterLosses"]

_LATELY_S = 60.0  # rows that were dropped within so long count as being dropped
_KNOWN_S = 600.0  # a process that no probe met for so long is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """One model's rows: those that wait in memory now, those dropped lately, and all that its processes dropped."""

    waiting: int
    dropped_lately: int
    dropped: int


@dataclass(slots=True)
class _Process:
    seen_at: float
    waiting: int = 0
    dropped: int = 0
    growths: list[tuple[float, int]] = field(
        default_factory=list
    )  # when it was seen that more were dropped, and how many


class RouterLosses:
    """Remembers each process's figures, since a probe meets one of them only. Safe to share between threads.

    What a process had dropped when it was met first may be long ago; it counts in all and not as lately.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._guard = clock, threading.Lock()
        self._models: dict[str, dict[tuple[str, int], _Process]] = {}

    def saw(self, model: str, url: str, progress: Progress) -> None:
        """Take in what a process of the server at `url` said."""
        now, name = self._clock(), (url, progress.process)
        with self._guard:
            processes = self._models.setdefault(model, {})
            process = processes.get(name) or _Process(seen_at=now, dropped=progress.rows_lost)
            if progress.rows_lost > process.dropped:
                process.growths.append((now, progress.rows_lost - process.dropped))
            process.growths = [grown for grown in process.growths if now - grown[0] <= _LATELY_S]
            process.seen_at, process.waiting, process.dropped = now, progress.rows_waiting, progress.rows_lost
            known = {**processes, name: process}.items()
            self._models[model] = {key: one for key, one in known if now - one.seen_at <= _KNOWN_S}

    def of(self, model: str) -> Losses:
        """What is known of a model's routers now."""
        now = self._clock()
        with self._guard:
            known = list(self._models.get(model, {}).values())
            lately = sum(rows for one in known for at, rows in one.growths if now - at <= _LATELY_S)
        return Losses(
            waiting=sum(one.waiting for one in known),
            dropped_lately=lately,
            dropped=sum(one.dropped for one in known),
        )
