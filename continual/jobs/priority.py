"""How a job gives way to whatever else wants a processor."""

import errno
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["give_way", "lower_priority", "lower_this_thread"]

_GROUP = Path("/proc/self/autogroup")  # sched(7): "The autogroup feature"
_TRIES, _PAUSE_S = 5, 0.12  # the kernel takes one such wish in a tenth of a second from all who are not root


def lower_priority(niceness: int) -> None:
    """Run at this niceness from now on, or at the one that is there if that is lower in priority.

    Where the kernel groups processes by session, a niceness counts only within the session: a job in one of its own
    would have as much of a processor as everything that serves. So the group of a session's leader is lowered too.

    Args:
        niceness: 0 to 19, the lowest priority.
    """
    reached = os.nice(max(0, niceness - os.nice(0)))
    if reached > 0:
        give_way(reached)


def give_way(niceness: int) -> None:
    """Let the session that this process leads have so little of a processor that others want; it may be raised again.

    Where this process leads no session, or the kernel groups nothing by it, nothing changes.

    Args:
        niceness: 0 to 19, the lowest priority.
    """
    if os.getsid(0) != os.getpid():  # the group of somebody else is left alone
        return
    for _ in range(_TRIES):
        try:
            if _GROUP.read_text(encoding="ascii").split()[-1:] != [str(niceness)]:
                _GROUP.write_text(str(niceness), encoding="ascii")
        except OSError as error:  # no such groups here, or not for us
            if error.errno != errno.EAGAIN:
                return
            time.sleep(_PAUSE_S)
        else:
            return


def lower_this_thread(niceness: int) -> None:
    """Let this thread have little of a processor that others want; for good, so call it in one that does nothing else.

    Args:
        niceness: 0 to 19, the lowest priority; a thread that is lower already stays so.
    """
    thread = threading.get_native_id()
    with suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, thread) < niceness:
            os.setpriority(os.PRIO_PROCESS, thread, niceness)
