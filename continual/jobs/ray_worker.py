"""The end of a job that lies on a worker of a Ray cluster."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.jobs.environment import job_environment
from perennial.continual.jobs.module import module_command
from perennial.continual.jobs.ray_cluster import own_release

__all__ = ["RemoteJob"]

_BYTES = 1 << 16


class RemoteJob:
    """A job as a process of its own, which does not outlive this one; an actor, because signals must reach it.

    Its methods are called at once from several threads, and anew where an answer was lost on its way.

    Raises:
        DependencyUnreachable: another release of this package was meant.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], niceness: int, environment: Mapping[str, str], release: str
    ) -> None:
        if release != own_release():
            raise DependencyUnreachable(
                f"{os.uname().nodename} has perennial-serving {own_release()}, and {release} sends the job"
            )
        self._process = subprocess.Popen(
            module_command("perennial.continual.jobs.child", str(niceness), module, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**job_environment(), **environment},
            start_new_session=True,
        )
        self._locks = {errors: threading.Lock() for errors in (False, True)}
        self._told = dict.fromkeys((False, True), (0, b""))

    def place(self) -> str:
        """Where it runs."""
        return f"on {os.uname().nodename}, worker {os.getpid()}, process {self._process.pid}"

    def said(self, number: int, *, errors: bool) -> bytes:
        """The piece of this number, from 1 on, of its standard output, or error; nothing once that is closed.

        The last piece is given again as often as it is asked for.
        """
        pipe = self._process.stderr if errors else self._process.stdout
        with self._locks[errors]:
            last, data = self._told[errors]
            if number > last:
                data = b"" if pipe is None else os.read(pipe.fileno(), _BYTES)
                self._told[errors] = number, data
            return data

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        return self._process.wait()

    def kill(self, number: int) -> None:
        """Send a signal to it and whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.Signals(number))
