"""How much memory this process has, and how much is left for another one."""

import ctypes
import mmap
import os
import sys
from collections.abc import Iterable, Mapping
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

__all__ = [
    "available_mb",
    "keep_freed",
    "keep_little",
    "let_go_of_pages",
    "resident_mb",
    "take_ahead",
    "trim_heaps",
    "without_pandas",
]

_MEGABYTE = 2**20
_CGROUP = Path("/sys/fs/cgroup")
_NEVER = 2**31 - 1
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8  # mallopt(3), malloc.h


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
    _tell_glibc({_ARENA_MAX: 2, _MMAP_THRESHOLD: _MEGABYTE, _TRIM_THRESHOLD: _MEGABYTE})


def keep_freed() -> None:
    """Let this process keep what it frees for what it takes next, in one heap for all its threads.

    By itself glibc gives each large block back to the system, and a new one costs a fault a page: a sixth of a
    training's processor time. For a process that computes without pause and then ends. Call it before its threads
    begin; without glibc nothing changes.
    """
    _tell_glibc({_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER})


def take_ahead(megabytes: float) -> None:
    """Have so much memory ready for what is taken next; of use after `keep_freed` alone."""
    bytes([1]) * int(megabytes * _MEGABYTE)  # written, and free again: of zeros glibc may leave the pages untouched


def _tell_glibc(settings: Mapping[int, int]) -> None:
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for parameter, value in settings.items():
            mallopt(parameter, value)


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not used in this process", name=fullname)


def without_pandas() -> None:
    """Have every import of pandas fail in this process with the error of a package that is not installed.

    `importlib.util.find_spec("pandas")` raises that error too, where it would return None if there were no pandas: a
    finder that returns None only has the next one asked.

    Arrow (25) imports it at its first conversion, to know its objects when it meets them: 27 MB and 0.2 s of a
    processor for a process that has none.
    """
    if not any(isinstance(finder, _NoPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoPandas())


def trim_heaps() -> None:
    """Give back what was freed; glibc alone keeps any, and knows how."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def let_go_of_pages(files: Iterable[Path], *, maps: Path = Path("/proc/self/maps")) -> int:
    """Have this process hold no page of the files that it has mapped to read; returns the bytes of those mappings.

    A page that is read again comes back from the system's cache, or from the disk where that has dropped it. What may
    be written to is left alone: a change of this process would be lost. Without such a list of mappings nothing is
    done.
    """
    wanted = {str(file.resolve()) for file in files}
    advise, bytes_ = getattr(ctypes.CDLL(None), "madvise", None), 0
    if advise is None or not wanted:
        return 0
    try:
        lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    for line in lines:
        edges, rights, _, _, _, *name = line.split(maxsplit=5)
        if name and name[0] in wanted and rights.startswith("r-"):
            begin, end = (int(edge, 16) for edge in edges.split("-"))
            if advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED) == 0:
                bytes_ += end - begin
    return bytes_


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
