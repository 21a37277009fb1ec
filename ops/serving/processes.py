"""Processes by id: alive or not, since when, and their whole group ended without leaving orphans."""

import os
import secrets
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from perennial.continual.errors import DependencyUnreachable

__all__ = [
    "check_port_free",
    "end_group",
    "environment_of",
    "free_port",
    "group_members",
    "hide_argument",
    "is_listening",
    "is_running",
    "processor_s",
    "start_ticks",
]

_PROC = Path("/proc")
_LOWEST_PORT = 10_000
_TRIES_FOR_A_PORT = 100


def _fields(pid: int) -> list[str] | None:
    """`/proc/PID/stat` after the command's name, which may hold spaces and brackets."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with the id it names one process for ever. None if gone."""
    fields = _fields(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def is_running(pid: int, ticks: int) -> bool:
    """Whether this very process still runs; a zombie does not."""
    return start_ticks(pid) == ticks


def processor_s(pids: Iterable[int]) -> float:
    """Processor time that these processes have used so far; one that is gone counts nothing."""
    used = sum(int(fields[11]) + int(fields[12]) for pid in pids if (fields := _fields(pid)) is not None)
    return used / os.sysconf("SC_CLK_TCK")


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty where it is gone or another user's."""
    try:
        words = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (word.decode(errors="replace").partition("=") for word in words)
    return {name: value for name, _, value in pairs if name}


def hide_argument(pid: int, text: str) -> bool:
    """Overwrite `text` by stars in the command line that `/proc` shows of a process; returns whether it is gone.

    Every local user may read a command line, and some programs take a secret nowhere else. To be called once the
    program has read its arguments, which it then holds in memory of its own.
    """
    fields = _fields(pid)
    if fields is None:
        return True
    begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    try:
        with (_PROC / str(pid) / "mem").open("r+b", buffering=0) as memory:
            memory.seek(begin)
            shown = memory.read(end - begin)
            memory.seek(begin)
            memory.write(shown.replace(text.encode(), b"*" * len(text.encode())))
    except (OSError, ValueError):
        pass  # a kernel may forbid it; what the file says now counts
    try:
        return text.encode() not in (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return True


def group_members(group: int) -> tuple[int, ...]:
    """The living processes of a group."""
    return tuple(pid for pid, state in _states(group) if state not in "ZX")


def ended_members(group: int) -> tuple[int, ...]:
    """The processes of a group that ended, and that their parent has not asked about."""
    return tuple(pid for pid, state in _states(group) if state == "Z")


def _states(group: int) -> Iterator[tuple[int, str]]:
    """Each process of a group, and its state as `/proc/PID/stat` has it."""
    for entry in _PROC.iterdir():
        fields = _fields(int(entry.name)) if entry.name.isdigit() else None
        if fields is not None and int(fields[2]) == group:
            yield int(entry.name), fields[0]


def end_group(group: int, *, grace_s: float) -> None:
    """SIGTERM to the leader, `grace_s` to finish, then SIGKILL to whoever is left of its group; waits for the end."""
    with suppress(ProcessLookupError):
        os.kill(group, signal.SIGTERM)
    _wait_empty(group, grace_s)
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    _wait_empty(group, 5.0)


def _wait_empty(group: int, wait_s: float) -> None:
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        with suppress(ChildProcessError):
            os.waitpid(group, os.WNOHANG)  # reap it, where it is a child of this process
        if not group_members(group):
            return
        time.sleep(0.01)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now, and that the system gives to no outgoing connection before it is used."""
    first = _first_ephemeral_port()
    for _ in range(_TRIES_FOR_A_PORT):
        port = _LOWEST_PORT + secrets.randbelow(first - _LOWEST_PORT) if first > _LOWEST_PORT else 0
        with socket.socket() as probe, suppress(OSError):
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    raise DependencyUnreachable(f"no port of {host} from {_LOWEST_PORT} to {first - 1} is free; end what holds them")


def _first_ephemeral_port() -> int:
    """Where the range begins that outgoing connections have their ports from."""
    try:
        return int((_PROC / "sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def is_listening(address: str, timeout_s: float = 1.0) -> bool:
    """Whether a connection to `host:port` is taken."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout_s).close()
    except OSError:
        return False
    return True


def check_port_free(host: str, port: int, purpose: str) -> None:
    """Return when nobody listens there.

    Raises:
        DependencyUnreachable: the port is taken or the address is not of this machine.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise DependencyUnreachable(
                f"Triton's {purpose} port {port} on {host} cannot be used ({exc.strerror}); stop what listens there "
                f"or set another port (triton.{purpose}_port)"
            ) from exc
