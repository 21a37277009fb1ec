"""The processes that hold our models inside Triton, and whether one of them is gone.

Triton 2.51 does not replace a stub that died: its model keeps saying READY, and each request that meets the dead one
fails after a second. So the stubs are watched from outside.
"""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from perennial.continual.errors import PerennialError
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.processes import ended_members, group_members, start_ticks
from perennial.ops.serving.server_record import Secret

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

    `missing` may be called by any thread, `load_is_stuck` beside a load, the rest by the supervisor's thread alone.
    """

    def __init__(self, url: str, secret: Secret) -> None:
        self._control = TritonControl(url, secret=secret, timeout_s=2.0)
        self._known: dict[int, tuple[str, int]] = {}

    def close(self) -> None:
        """Close the channel."""
        self._control.close()

    def forget(self) -> None:
        """Count on no stub: the server is a new one."""
        self._known = {}

    def learn(self, server: int) -> None:
        """Count on the server's stubs of now too; one that ended meanwhile stays known until `lost` has seen it.

        Costs one walk through `/proc`.
        """
        found = {pid: (name, start_ticks(pid) or 0) for pid, name in stubs_of(server).items()}
        self._known = found | self._known

    def lost(self, server: int) -> tuple[str, ...]:
        """The models with a process that is gone although Triton counts on it; empty while all is well.

        Cheap while no stub ended. One that ended because its version was unloaded is forgotten.
        """
        ended = {pid: name for pid, (name, ticks) in self._known.items() if start_ticks(pid) != ticks}
        if not ended:
            return ()
        try:
            short = self._short(server)
        except PerennialError:  # the server itself is in trouble; the probe tells, and the next check asks again
            return ()
        self._known = {pid: seen for pid, seen in self._known.items() if pid not in ended}
        return tuple(sorted({_model(name) for name in ended.values()} & short))

    def load_is_stuck(self, server: int, before: Collection[int]) -> bool:
        """Whether Triton loads a model of which it has started no process that lives, and one that ended.

        Triton 2.51 waits for ever for a stub that is killed some milliseconds after its start. For another thread,
        while the supervisor's own waits for the load. `before` are the processes that had ended when it began.
        """
        if not set(ended_members(server)) - set(before) - set(self._known):
            return False
        started = {_model(name) for pid, name in stubs_of(server).items() if pid not in self._known}
        try:
            loading = {entry.model for entry in self._control.index() if entry.state == "LOADING"}
        except PerennialError:  # it may be too busy with this very load to say so
            return not started
        return bool(loading - started)

    def missing(self, server: int) -> tuple[str, ...]:
        """The models with fewer stubs than Triton counts on, though nobody saw one end; empty while all is well.

        Raises:
            DependencyUnreachable: Triton does not answer.
        """
        return tuple(sorted(self._short(server)))

    def _short(self, server: int) -> set[str]:
        """Models with fewer living stubs than Triton's ready versions have instances, at two looks in a row.

        A version that is loaded or unloaded between the two halves of one look seems short at that one.
        """
        first = self._short_now(server)
        return first & self._short_now(server) if first else first

    def _short_now(self, server: int) -> set[str]:
        living = [_model(name) for name in stubs_of(server).values()]
        ready = [entry.model for entry in self._control.index() if entry.state == "READY"]
        return {m for m in set(ready) if living.count(m) < ready.count(m) * self._control.instances(m)}


def _model(instance: str) -> str:
    return instance.rsplit("_", 2)[0]
