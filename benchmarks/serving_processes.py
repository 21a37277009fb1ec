"""What the processes of a server have used: processor time by part, and memory that is theirs."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Held", "family", "held_by_role", "parts_s", "pss_mb"]

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PARTS = {  # by a word of the command line, the first that fits
    "serving.door": "door",
    "tritonserver": "server",
    "triton_python_backend_stub": "stub",
    "ops.cli": "control",
    "jobs.child": "job",
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


def _words(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _part(pid: int) -> str:
    words = _words(pid)
    if not words:
        return "gone"
    name = next((part for word, part in _PARTS.items() if word in words), "server")
    if name == "stub":
        return "engine" if "_engine" in words else "router"
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Memory in MB: `pss` counts what others have too by shares; `private` is what its end would give back."""

    role: str
    pid: int
    pss: float
    private: float
    shared: float


def held_by_role(pids: Iterable[int]) -> tuple[Held, ...]:
    """Each process's memory, with what it is: a part of the server, or the module that it runs."""
    found = []
    for pid in pids:
        if kilobytes := _rollup(pid):
            shared = kilobytes["Shared_Clean"] + kilobytes["Shared_Dirty"]
            found.append(
                Held(
                    role=_role(pid),
                    pid=pid,
                    pss=kilobytes["Pss"] / 1024,
                    private=kilobytes["Private_Dirty"] / 1024,
                    shared=shared / 1024,
                )
            )
    return tuple(sorted(found, key=lambda held: (held.role, held.pid)))


def _role(pid: int) -> str:
    words = _words(pid).split()
    run = [word for word in words if word.startswith("perennial.")]
    return run[1] if run[:1] == ["perennial.continual.jobs.child"] else _part(pid)


def _rollup(pid: int) -> Mapping[str, int]:
    """Kilobytes by name; empty where the process is gone or another user's."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    return {name: int(amount.split()[0]) for name, _, amount in (line.partition(":") for line in lines)}


def pss_mb(pids: Iterable[int]) -> float:
    """Memory of all of them, what is shared counted once."""
    return sum(_rollup(pid).get("Pss", 0) for pid in pids) / 1024
