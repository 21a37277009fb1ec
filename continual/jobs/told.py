"""The inside of a waiting job: it works ahead at the lowest priority until it is told what to do."""

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from perennial.continual.jobs.priority import give_way, lower_this_thread

__all__ = ["told_after"]

_WORKING_NICENESS = 19


def told_after(work: Callable[[], None]) -> Sequence[str] | None:
    """The arguments of the order, one line on the standard input; None where the other end was closed instead.

    `work` is begun at once, in a thread of its own, which has a priority of its own: it cannot be raised again. It need
    not be done when this returns, and what it raises ends it alone. From the order on, the standard error goes to the
    log that it names. See `WaitingJobs`, which is the other end.
    """
    give_way(_WORKING_NICENESS)
    threading.Thread(target=_lowered, args=(work,), name="ahead", daemon=True).start()
    line = sys.stdin.readline()
    if not line:
        return None
    give_way(os.nice(0))
    order = json.loads(line)
    with Path(order["log"]).open("ab") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    arguments: list[str] = order["arguments"]
    return arguments


def _lowered(work: Callable[[], None]) -> None:
    lower_this_thread(_WORKING_NICENESS)
    work()
