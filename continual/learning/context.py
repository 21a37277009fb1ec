"""What a learner may do to the world while it works: tell how far it is, and stop when told to."""

import json
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TextIO

from perennial.continual.learning.encoder import Progress

__all__ = ["Cancelled", "Context", "WorkedAhead"]

_EVERY_S = 0.2


class Cancelled(BaseException):
    """The job was told to stop and has saved what it had; not an Exception, so that nothing swallows it on the way."""


class WorkedAhead(Protocol):
    """What was read of a version before its update came."""

    def taken(self, bundle: Path, /) -> Any:
        """The sums of this bundle, which are the caller's from now on; None where they are not those."""
        ...


@dataclass(slots=True, kw_only=True)
class Context:
    """Progress as JSON lines, a flag that SIGTERM raises, and a time of `time.monotonic()` when work is given up.

    >>> import io
    >>> out = io.StringIO()
    >>> Context(stream=out).report("solve", 1, 1)
    >>> out.getvalue()
    '{"stage": "solve", "done": 1, "total": 1}\\n'
    """

    stream: TextIO | None = None
    cancelled: bool = False
    until: float = math.inf
    ahead: WorkedAhead | None = None
    _last: float = 0.0

    def report(self, stage: str, done: int, total: int) -> None:
        """Writes one progress line; lines between the first and the last of a stage are thinned out."""
        now = time.monotonic()
        if self.stream is None or (0 < done < total and now - self._last < _EVERY_S):
            return
        self._last = now
        self.stream.write(json.dumps({"stage": stage, "done": done, "total": total}) + "\n")
        self.stream.flush()

    def stage(self, name: str) -> Progress:
        """A progress callback for one stage."""
        return lambda done, total: self.report(name, done, total)

    def checkpoint(self) -> None:
        """Call where everything so far is on disk.

        Raises:
            Cancelled: the job was told to stop, or its time is over.
        """
        if self.cancelled or time.monotonic() >= self.until:
            raise Cancelled

    def listen(self) -> Callable[[], None]:
        """Makes SIGTERM and SIGINT set the flag; returns what puts the old handlers back. Main thread only."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def stop(number: int, frame: FrameType | None) -> None:
            del number, frame
            self.cancelled = True

        for number in before:
            signal.signal(number, stop)

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        return restore

    @classmethod
    def on_stdout(cls) -> "Context":
        """Progress to standard output."""
        return cls(stream=sys.stdout)
