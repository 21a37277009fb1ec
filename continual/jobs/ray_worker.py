"""The end of a job that lies on a worker of a Ray cluster."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from perennial.continual.jobs.environment import job_environment
from perennial.continual.jobs.module import module_command

__all__ = ["RemoteJob"]

_BYTES = 1 << 16


class RemoteJob:
    """A job as a process of its own, which does not outlive this one; an actor, because signals must reach it.

    Its methods are called at once from several threads.
    """

    def __init__(self, module: str, arguments: Sequence[str], niceness: int, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            module_command("perennial.continual.jobs.child", str(niceness), module, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**job_environment(), **environment},
            start_new_session=True,
        )

    def place(self) -> str:
        """Where it runs."""
        return f"on {os.uname().nodename}, worker {os.getpid()}, process {self._process.pid}"

    def said(self, *, errors: bool) -> bytes:
        """What it wrote next to its standard output, or error; nothing when that is closed."""
        pipe = self._process.stderr if errors else self._process.stdout
        return b"" if pipe is None else os.read(pipe.fileno(), _BYTES)

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        return self._process.wait()

    def kill(self, number: int) -> None:
        """Send a signal to it and whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.Signals(number))
