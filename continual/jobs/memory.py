"""How much memory this process has, and how much is left for another one."""

import ctypes
import os
from pathlib import Path

__all__ = ["available_mb", "keep_little", "resident_mb"]

_MEGABYTE = 2**20
_CGROUP = Path("/sys/fs/cgroup")
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3), malloc.h


def resident_mb() -> float:
    """This process's resident memory now, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MEGABYTE


def keep_little() -> None:
    """Let this process give memory back to the system as soon as it is free, and keep two heaps for all its threads.

    By itself glibc keeps a heap for each few threads, and holds on to blocks as large as any that was ever freed. For
    a process of many threads that mostly wait; one that computes without pause would pay with page faults. Call it
    before the threads begin; without glibc nothing changes.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # or Arrow keeps a pool of its own
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for parameter, value in ((_ARENA_MAX, 2), (_MMAP_THRESHOLD, _MEGABYTE), (_TRIM_THRESHOLD, _MEGABYTE)):
            mallopt(parameter, value)


def available_mb(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> float | None:
    """What may still be taken without swapping, in MB: of the machine or of this container, whichever is less.

    None where the system does not say.
    """
    limits = [_machine_mb(meminfo), _container_mb(cgroup)]
    return min((value for value in limits if value is not None), default=None)


def _machine_mb(meminfo: Path) -> float | None:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) / 1024 if kilobytes else None


def _container_mb(cgroup: Path) -> float | None:
    """By cgroup v2; file pages that can be given back count as free."""
    try:
        limit = (cgroup / "memory.max").read_text(encoding="ascii").strip()
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None
    if not limit.isdigit():
        return None
    return max(0.0, int(limit) - used + int(statistics.get("inactive_file", 0))) / _MEGABYTE
