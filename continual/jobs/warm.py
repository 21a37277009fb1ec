"""A process that has the jobs' modules loaded, and from which each job begins in milliseconds, as its own process."""

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from perennial.continual.jobs.module import module_command

__all__ = ["ForkedJob", "WarmJobs"]

logger = logging.getLogger(__name__)
_RESTS_S = (1.0, 5.0, 10.0, 20.0, 40.0, 80.0, 3_600.0)  # before the next, after so many failures in a row
_SOUND_S = 600.0  # one that lived so long has not failed
_LEAST = 19  # the lowest priority
_END_S = 5.0
_ANSWERS_S = 5.0  # for a fork
_LOOKS_S = 0.5
_MESSAGE_BYTES = 64
_INSTALLED = (Path(__file__), Path(sysconfig.get_path("purelib")))  # an installer touches one of them or both


@dataclass(slots=True)
class ForkedJob:
    """A job that a warm process began; `wait` gives its exit code, negative for a signal, as `subprocess` does."""

    pid: int
    stdout: IO[bytes]
    _status: socket.socket
    stdin: IO[bytes] | None = None
    _code: int | None = None
    _killed_at: float | None = None

    def poll(self) -> int | None:
        """The exit code where `wait` has seen it."""
        return self._code

    @property
    def waits(self) -> bool:
        """Whether it is there to be told something that nobody has told it yet."""
        return self.stdin is not None and not self.stdin.closed

    def is_over(self) -> bool:
        """Whether `wait` would return at once."""
        return self._code is not None or bool(select.select([self._status], [], [], 0)[0])

    def tell(self, line: bytes) -> bool:
        """Write the one line that it waits for; False where it is no more."""
        if self.stdin is None:
            return False
        try:
            with self.stdin as told:
                told.write(line)
        except (OSError, ValueError):
            return False
        return True

    def let_go(self) -> None:
        """Have one that waits end without having been told anything."""
        if self.stdin is not None:
            self.stdin.close()

    def wait(self) -> int:
        """Wait for the end; where the warm process died, or tells nothing after a SIGKILL, the job is dead too."""
        if self._code is None:
            with self._status:
                word, _, code = self._said().partition(b" ")
            if word != b"end":
                self.kill(signal.SIGKILL)
            self._code = int(code) if word == b"end" else -signal.SIGKILL
        return self._code

    def _said(self) -> bytes:
        self._status.settimeout(_LOOKS_S)
        while True:
            try:
                return self._status.recv(_MESSAGE_BYTES)
            except TimeoutError:
                if self._killed_at is not None and time.monotonic() > self._killed_at + _END_S:
                    return b""
            except OSError:
                return b""

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the job and whatever it has started."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            logger.debug("job.already_gone", extra={"pid": self.pid})
        if number == signal.SIGKILL and self._killed_at is None:
            self._killed_at = time.monotonic()


class WarmJobs:
    """Keeps one warm process, which does no work itself, so that it neither grows nor fails with a job.

    It is started at once, loads the modules at its `niceness`, by default the lowest priority, and is replaced when it
    dies, ever later where it dies again and again, and when another release was `installed`. A job is a fork of it:
    with its own priority, memory, log and end, exactly as one that was started cold.
    """

    def __init__(
        self, modules: Sequence[str], *, niceness: int = _LEAST, installed: Sequence[Path] = _INSTALLED
    ) -> None:
        self._modules, self._niceness, self._installed = tuple(modules), niceness, tuple(installed)
        self._guard = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._release = self._identity()
        self._jobs: list[ForkedJob] = []
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
        self,
        module: str,
        arguments: Sequence[str],
        *,
        niceness: int,
        environment: Mapping[str, str],
        errors: IO[bytes],
        told: bool = False,
    ) -> ForkedJob | None:
        """Begin a job whose stderr goes to `errors`; None where it has not begun, and never will.

        One that is to be `told` something has a stdin. Until then it does not count as work.
        """
        order = {
            "module": module,
            "arguments": list(arguments),
            "niceness": niceness,
            "environment": dict(environment),
            "stdin": int(told),
        }
        try:
            job = self._begun(json.dumps(order).encode(), errors.fileno(), told)
        except (TimeoutError, BlockingIOError):  # the latter where many orders wait
            self._hangs()
            return None
        except OSError as exc:
            logger.info("jobs.not_warm", extra={"error": str(exc)})
            return None
        if job is not None:
            with self._guard:
                self._jobs = [*self._running(), job]
        return job

    def _begun(self, order: bytes, errors: int, told: bool) -> ForkedJob | None:
        with ExitStack() as kept, ExitStack() as lent:
            with self._guard:
                if self._socket is None or self._retired():
                    return None
                ours = lent.enter_context(self._socket.dup())
            said, out = os.pipe()
            stdout = kept.enter_context(os.fdopen(said, "rb"))
            lent.callback(os.close, out)
            status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            kept.enter_context(status)
            lent.enter_context(theirs)
            handed = array("i", [out, errors, theirs.fileno()])
            stdin = None
            if told:
                heard, says = os.pipe()
                stdin = kept.enter_context(os.fdopen(says, "wb"))
                lent.callback(os.close, heard)
                handed.append(heard)
            ours.sendmsg([order], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handed)], socket.MSG_DONTWAIT)
            lent.close()  # else its end would not be seen
            status.settimeout(_ANSWERS_S)
            word, _, pid = status.recv(_MESSAGE_BYTES).partition(b" ")
            if word != b"pid":
                return None
            status.send(b"go")
            kept.pop_all()
            return ForkedJob(int(pid), stdout, status, stdin)

    def _running(self) -> list[ForkedJob]:
        return [job for job in self._jobs if job.poll() is None]

    def _identity(self) -> tuple[tuple[int, int] | None, ...]:
        seen: list[tuple[int, int] | None] = []
        for path in self._installed:
            try:
                found = path.stat()
                seen.append((found.st_ino, found.st_mtime_ns))
            except OSError:  # replaced just now
                seen.append(None)
        return tuple(seen)

    def _retired(self) -> bool:
        """Whether another release was installed; then the process ends after the jobs that it has begun."""
        if self._identity() == self._release or self._socket is None:
            return False
        logger.info("jobs.warm_process_outdated")
        for job in self._running():
            job.let_go()
        self._socket.close()
        self._socket = None
        self._loaded.clear()
        return True

    def _hangs(self) -> None:
        """End a process that does not answer, unless that would end the work of others."""
        with self._guard:
            process, running = self._process, sum(not job.waits for job in self._running())
        logger.warning("jobs.warm_process_hangs", extra={"limit_s": _ANSWERS_S, "running": running})
        if process is not None and not running:
            process.kill()

    def close(self) -> None:
        """End the process and what it began."""
        self._closed.set()
        with self._guard:
            process, self._socket = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
        if self._keeper.is_alive():
            self._keeper.join(_END_S)
        if process is not None and process.poll() is None:  # stopped, perhaps
            process.kill()

    def _keep(self) -> None:
        failures = 0
        while not self._closed.is_set():
            began = time.monotonic()
            code = self._serve()
            if self._closed.is_set():
                return
            sound = code == 0 or time.monotonic() - began > _SOUND_S
            failures = 0 if sound else min(failures + 1, len(_RESTS_S) - 1)
            logger.warning("jobs.warm_process_ended", extra={"exit_code": code, "next_in_s": _RESTS_S[failures]})
            self._closed.wait(_RESTS_S[failures])

    def _serve(self) -> int | None:
        """Start a process and wait for its exit code; None where it could not be started."""
        with ExitStack() as opened:
            try:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                opened.enter_context(ours)
                with theirs:
                    process = opened.enter_context(self._started(theirs.fileno()))
            except OSError as exc:
                logger.warning("jobs.warm_process_not_started", extra={"error": str(exc)})
                return None
            opened.callback(self._forget)
            with suppress(OSError):
                if ours.recv(1):  # it has loaded everything
                    with self._guard:
                        self._socket = ours
                    self._loaded.set()
            return process.wait()

    def _started(self, orders: int) -> subprocess.Popen[bytes]:
        release = self._identity()  # before it loads anything
        process = subprocess.Popen(
            module_command(
                "perennial.continual.jobs.child",
                "0",
                "perennial.continual.jobs.warm_process",
                str(orders),
                str(self._niceness),
                *self._modules,
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[orders],
            start_new_session=True,
        )
        with self._guard:
            self._process, self._release = process, release
        if self._closed.is_set():  # closed meanwhile
            process.terminate()
        return process

    def _forget(self) -> None:
        with self._guard:
            self._socket = self._process = None
        self._loaded.clear()
