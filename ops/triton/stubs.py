"""The processes that hold our models inside Triton, and whether one of them is gone.

Triton 2.51 does not replace a stub that died: its model keeps saying READY, and each request that meets the dead one
fails after a second. So the stubs are watched from outside.
"""

from contextlib import suppress
from pathlib import Path

from continual.errors import PerennialError
from ops.triton.control import TritonControl
from ops.triton.processes import group_members, start_ticks

__all__ = ["StubWatch", "stubs_of"]

_STUB = b"triton_python_backend_stub"


def stubs_of(server: int) -> dict[int, str]:
    """The stub processes of the server with this process id: their ids, and the instance that each one is."""
    found = {}
    for pid in group_members(server):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[0].endswith(_STUB):
                found[pid] = _instance(words)
    return found


def _instance(words: list[bytes]) -> str:
    """`MODEL_0_0` out of a stub's command line; empty where it names none."""
    names = [word for word in words[1:] if word[:1].isalpha() and word.rsplit(b"_", 2)[1:] != [] and b"/" not in word]
    ours = [name for name in names if all(part.isdigit() for part in name.rsplit(b"_", 2)[1:])]
    return ours[-1].decode() if ours else ""


class StubWatch:
    """Notices within one `check` that a stub ended which Triton still counts on.

    Not thread-safe: the supervisor's thread asks.
    """

    def __init__(self, url: str) -> None:
        self._control = TritonControl(url, timeout_s=2.0)
        self._known: dict[int, tuple[str, int]] = {}

    def close(self) -> None:
        """Close the channel."""
        self._control.close()

    def learn(self, server: int) -> None:
        """Look at the server's stubs anew; costs one walk through `/proc`."""
        found = {pid: (name, start_ticks(pid) or 0) for pid, name in stubs_of(server).items()}
        self._known = {pid: self._known.get(pid, seen) for pid, seen in found.items()}

    def lost(self, server: int) -> str:
        """The instance whose process is gone although Triton counts on it; empty while all is well.

        Cheap while no stub ended. One that ended because its version was unloaded is forgotten.
        """
        ended = [(pid, name) for pid, (name, ticks) in self._known.items() if start_ticks(pid) != ticks]
        if not ended:
            return ""
        self.learn(server)
        try:
            short = self._short()
        except PerennialError:  # the server itself is in trouble; the probe tells
            return ""
        return next((name for _, name in ended if _model(name) in short), "")

    def _short(self) -> set[str]:
        """Models with fewer living stubs than Triton's ready versions have instances."""
        ready = [entry.model for entry in self._control.index() if entry.state == "READY"]
        living = [_model(name) for name, _ in self._known.values()]
        return {m for m in set(ready) if living.count(m) < ready.count(m) * self._control.instances(m)}


def _model(instance: str) -> str:
    return instance.rsplit("_", 2)[0]
