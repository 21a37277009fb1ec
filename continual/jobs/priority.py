"""How a job gives way to whatever else wants a processor."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["give_way", "giving_way", "lower_priority", "lower_this_thread"]

_GROUP = Path("/proc/self/autogroup")  # sched(7): "The autogroup feature"
_THREADS = Path("/proc/self/task")
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


@contextmanager
def giving_way(niceness: int, *, within_s: float) -> Iterator[None]:
    """Let every thread of this process have little of a processor that others want, while the block runs.

    After `within_s` they have as much as before, even where the block still runs. Nothing changes where the system
    would not raise them again: that takes a privilege, CAP_SYS_NICE or a limit of niceness.

    Args:
        niceness: 0 to 19, the lowest priority; a process that is lower already stays so.
    """
    lowered = _Lowered(niceness)
    clock = threading.Timer(within_s, lowered.end)
    try:
        if _may_be_raised():
            clock.start()
            lowered.begin(but=clock.native_id)
    except (OSError, RuntimeError):  # no thread may be started, say: whoever wants an answer gets it all the same
        pass
    try:
        yield
    finally:
        clock.cancel()
        if clock.is_alive():
            clock.join()
        lowered.end()


class _Lowered:
    """This process's threads at a lower priority than they had."""

    def __init__(self, niceness: int) -> None:
        self._niceness, self._own = niceness, os.getpriority(os.PRIO_PROCESS, 0)
        self._before: dict[int, int] = {}  # niceness by thread, of those that are lowered
        self._as_low: set[int] = set()  # threads that were
        self._lock, self._over = threading.Lock(), False

    def begin(self, *, but: int | None) -> None:
        """Lower every thread that is not as low already."""
        with self._lock:
            for thread, now in _niceness_by_thread().items():
                if now >= self._niceness:
                    self._as_low.add(thread)
                elif thread != but and not self._over:
                    self._before[thread] = now
                    _set_niceness(thread, self._niceness)

    def end(self) -> None:
        """Give each what it had, and those that began meanwhile what this thread had."""
        with self._lock:
            self._over = True
            for _ in range(_TRIES if self._before else 0):  # one that is still low may begin another one
                low = [thread for thread, now in _niceness_by_thread().items() if now >= self._niceness]
                if not (low := [thread for thread in low if thread not in self._as_low]):
                    break
                for thread in low:
                    _set_niceness(thread, self._before.get(thread, self._own))
            self._before = {}


def _niceness_by_thread() -> dict[int, int]:
    found = {}
    for entry in _THREADS.iterdir():
        with suppress(OSError):  # it ended
            found[int(entry.name)] = os.getpriority(os.PRIO_PROCESS, int(entry.name))
    return found


def _set_niceness(thread: int, niceness: int) -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, niceness)


def _may_be_raised() -> bool:
    """Whether a thread of this process may go back to the priority that it had; one that ends then tries it."""
    found = list[bool]()

    def try_it() -> None:
        before = os.getpriority(os.PRIO_PROCESS, 0)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, before + 1)
            os.setpriority(os.PRIO_PROCESS, 0, before)
            found.append(True)

    tries = threading.Thread(target=try_it, name="priority")
    tries.start()
    tries.join()
    return bool(found)
