"""What the processes of a server have used: processor time by part, and memory that is theirs."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["family", "parts_s", "pss_mb"]

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PARTS = {  # by a word of the command line, the first that fits
    "serving.door": "door",
    "tritonserver": "server",
    "triton_python_backend_stub": "stub",
    "ops.cli": "control",
}


def _stat(pid: int) -> list[str] | None:
    try:
        return (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def family(roots: Iterable[int]) -> frozenset[int]:
    """The processes, and whatever they or their children started."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children[int(fields[1])].append(int(entry.name))
    found, left = set[int](), list(roots)
    while left:
        if (pid := left.pop()) not in found:
            found.add(pid)
            left += children[pid]
    return frozenset(found)


def parts_s(pids: Iterable[int]) -> Mapping[str, float]:
    """Processor seconds so far by part; a child that ended counts for who waited for it."""
    used: dict[str, float] = defaultdict(float)
    for pid in pids:
        if (fields := _stat(pid)) is None:
            continue
        part = _part(pid)
        used[part] += (int(fields[11]) + int(fields[12])) / _TICKS
        used[f"{part} children" if part == "control" else part] += (int(fields[13]) + int(fields[14])) / _TICKS
    return used


def _part(pid: int) -> str:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    name = next((part for word, part in _PARTS.items() if word in words), "server")
    if name == "stub":
        return "engine" if "_engine" in words else "router"
    return name


def pss_mb(pids: Iterable[int]) -> float:
    """Memory of all of them, what is shared counted once."""
    total = 0
    for pid in pids:
        try:
            text = (_PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        total += next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
    return total / 1024
