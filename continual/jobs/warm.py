"""A process that has the jobs' modules loaded, and from which each job begins in milliseconds, as its own process."""

import json
import logging
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from perennial.continual.jobs.module import module_command

__all__ = ["ForkedJob", "WarmJobs"]

logger = logging.getLogger(__name__)
_REST_S = 5.0  # before one that died is replaced
_END_S = 5.0
_ANSWERS_S = 5.0  # for a fork


@dataclass(slots=True)
class ForkedJob:
    """A job that a warm process began; `wait` gives its exit code, negative for a signal, as `subprocess` does."""

    pid: int
    stdout: IO[bytes]
    _status: IO[bytes]
    _code: int | None = None

    def poll(self) -> int | None:
        """The exit code where `wait` has seen it."""
        return self._code

    def wait(self) -> int:
        """Wait for the end; where the warm process died, the job is dead too."""
        if self._code is None:
            with self._status:
                said = self._status.readline()
            self._code = int(said) if said else -signal.SIGKILL
            if not said:
                self.kill(signal.SIGKILL)
        return self._code

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the job and whatever it has started."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            logger.debug("job.already_gone", extra={"pid": self.pid})


class WarmJobs:
    """Keeps one warm process, which does no work itself, so that it neither grows nor fails with a job.

    It is started at once, loads the modules at low priority, and is replaced when it dies. A job is a fork of it:
    with its own priority, memory, log and end, exactly as one that was started cold.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = tuple(modules)
        self._guard = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed, self._loaded = threading.Event(), threading.Event()
        # the process gets SIGTERM when the thread that started it ends: this one lives as long as its owner
        self._keeper = threading.Thread(target=self._keep, name="warm-jobs", daemon=True)

    def start(self) -> None:
        """Have the process started; returns at once."""
        self._keeper.start()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        with self._guard:
            return None if self._process is None else self._process.pid

    def wait_loaded(self, within_s: float) -> bool:
        """Wait until jobs begin warm; False where they do not yet."""
        return self._loaded.wait(within_s)

    def begin(
        self, module: str, arguments: Sequence[str], *, niceness: int, environment: Mapping[str, str], errors: IO[bytes]
    ) -> ForkedJob | None:
        """Begin a job whose stderr goes to `errors`; None where there is no warm process now."""
        with self._guard:
            ours = None if self._socket is None else self._socket.dup()
        if ours is None:
            return None
        said_read, said_write = os.pipe()
        status_read, status_write = os.pipe()
        order = {
            "module": module,
            "arguments": list(arguments),
            "niceness": niceness,
            "environment": dict(environment),
        }
        stdout, status = os.fdopen(said_read, "rb"), os.fdopen(status_read, "rb", buffering=0)
        try:
            with ours:
                socket.send_fds(ours, [json.dumps(order).encode()], [said_write, errors.fileno(), status_write])
        except OSError as exc:
            logger.info("jobs.not_warm", extra={"error": str(exc)})
            stdout.close()
            status.close()
            return None
        finally:
            os.close(said_write)
            os.close(status_write)
        begun = status.readline() if select.select([status], [], [], _ANSWERS_S)[0] else self._given_up()
        if not begun:
            stdout.close()
            status.close()
            return None
        return ForkedJob(int(begun), stdout, status)

    def _given_up(self) -> bytes:
        """End a process that hangs, so that it does not begin later what is begun cold now."""
        with self._guard:
            process = self._process
        if process is not None:
            logger.warning("jobs.warm_process_hangs", extra={"pid": process.pid, "limit_s": _ANSWERS_S})
            process.kill()
            process.wait()
        return b""

    def close(self) -> None:
        """End the process and what it began."""
        self._closed.set()
        with self._guard:
            process, self._socket = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
        if self._keeper.is_alive():
            self._keeper.join(_END_S)

    def _keep(self) -> None:
        while not self._closed.is_set():
            process, orders = self._started()
            if orders.recv(1):  # it has loaded everything
                with self._guard:
                    self._socket = orders
                self._loaded.set()
            code = process.wait()
            orders.close()
            with self._guard:
                self._socket = self._process = None
            self._loaded.clear()
            if not self._closed.is_set():
                logger.warning("jobs.warm_process_ended", extra={"exit_code": code})
                self._closed.wait(_REST_S)

    def _started(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                module_command(
                    "perennial.continual.jobs.child",
                    "0",
                    "perennial.continual.jobs.warm_process",
                    str(theirs.fileno()),
                    *self._modules,
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        with self._guard:
            self._process = process
        if self._closed.is_set():  # closed meanwhile
            process.terminate()
        return process, ours
