"""Jobs in processes of their own: started, followed, cancelled, and told apart by how they ended."""

import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from perennial.continual.jobs.environment import job_environment
from perennial.continual.jobs.module import module_command
from perennial.continual.jobs.ray_cluster import RayCluster
from perennial.continual.jobs.waiting import WaitingJobs
from perennial.continual.jobs.warm import ForkedJob, WarmJobs

__all__ = ["KILLED_RETRIES", "JobResult", "Progress", "run_job"]

logger = logging.getLogger(__name__)
Progress = Callable[[dict[str, Any]], None]
_GRACE_S = 10.0
_TOLD_WORKERS = ("HF_HUB_OFFLINE",)  # of this process's environment; a worker of a cluster has its own
KILLED_RETRIES = 2  # of a job that makes or compares versions


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """How a job ended. `tail` is the end of what it wrote to stderr; `JobErrors` makes an error of it."""

    exit_code: int
    cancelled: bool
    timed_out: bool
    tail: str
    tries: int = 1  # how often it was begun
    limit_s: float | None = None  # what each try was given


def run_job(
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    timeout_s: float,
    niceness: int = 0,
    cancel: threading.Event | None = None,
    on_progress: Progress = lambda _: None,
    killed_retries: int = 0,
    environment: Mapping[str, str] | None = None,
    warm: WarmJobs | None = None,
    waiting: WaitingJobs | None = None,
    cluster: RayCluster | None = None,
) -> JobResult:
    """Run a module as a program to its end; each JSON line on its stdout goes to `on_progress`.

    The job dies with this process. When `cancel` is set or the time is up it gets SIGTERM, and SIGKILL ten seconds
    later. One that something else killed, as the out-of-memory killer often does, is begun again `killed_retries`
    times; each has `timeout_s` for itself. `environment` is added to this process's own. A `warm` process begins it
    sooner; while there is none it starts cold. One that is `waiting` for these arguments is told them instead. Where
    there is a `cluster` a worker of it does the job, and neither of these; the time that it waits for a worker counts.
    """
    order = _Order(
        module=module,
        arguments=tuple(arguments),
        niceness=niceness,
        environment=environment or {},
        warm=warm,
        waiting=waiting,
        cluster=cluster,
    )
    never = threading.Event()
    for left in range(killed_retries, -1, -1):
        result = _run_once(order, log, timeout_s, cancel or never, on_progress)
        if result.exit_code >= 0 or result.cancelled or result.timed_out:
            break
        logger.warning("job.killed", extra={"job": module, "signal": -result.exit_code, "tries_left": left})
    return replace(result, tries=1 + killed_retries - left)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What to run, and how."""

    module: str
    arguments: tuple[str, ...]
    niceness: int
    environment: Mapping[str, str]
    warm: WarmJobs | None
    waiting: WaitingJobs | None
    cluster: RayCluster | None

    def begin(self, log: Path, errors: IO[bytes]) -> "ForkedJob | _ColdJob":
        """Start it: on the cluster, or here, warm where that is possible."""
        if self.cluster is not None:
            return self._on(self.cluster, errors)
        told = None if self.waiting is None else self.waiting.take(self.arguments, log)
        if told is not None:
            return told
        whole = {**job_environment(), **self.environment}
        if self.warm is not None:
            begun = self.warm.begin(
                self.module, self.arguments, niceness=self.niceness, environment=whole, errors=errors
            )
            if begun is not None:
                return begun
        return _ColdJob(_child(self.niceness, self.module, *self.arguments), errors, whole)

    def _on(self, cluster: RayCluster, errors: IO[bytes]) -> "_ColdJob":
        whole = {**job_environment(), **self.environment}
        named = {*self.environment, *_TOLD_WORKERS}
        argv = cluster.command(self.module, self.arguments, niceness=self.niceness, named=sorted(named))
        return _ColdJob(_child(self.niceness, *argv), errors, whole)


def _child(niceness: int, module: str, *arguments: str) -> list[str]:
    return module_command("perennial.continual.jobs.child", str(niceness), module, *arguments)


class _ColdJob:
    """A job as a new program."""

    def __init__(self, argv: Sequence[str], errors: IO[bytes], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        self.pid, self.poll = self._process.pid, self._process.poll

    @property
    def stdout(self) -> IO[bytes]:
        """What it says."""
        if self._process.stdout is None:
            raise ValueError("the process was started without a pipe")
        return self._process.stdout

    def wait(self) -> int:
        """Wait for the end."""
        return self._process.wait()

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the job and whatever it has started."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            logger.debug("job.already_gone", extra={"pid": self.pid})


def _run_once(order: _Order, log: Path, timeout_s: float, cancel: threading.Event, on_progress: Progress) -> JobResult:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        job = order.begin(log, errors)
        ended = threading.Event()
        watch = _Watch(job, cancel, ended, timeout_s)
        thread = threading.Thread(target=watch.run, name="watch-job", daemon=True)
        thread.start()
        try:
            _follow(job.stdout, on_progress)
            code = job.wait()
        finally:
            ended.set()
            thread.join()
            if job.poll() is None:
                job.kill(signal.SIGKILL)
                job.wait()
            job.stdout.close()
    return JobResult(
        exit_code=code, cancelled=watch.cancelled, timed_out=watch.timed_out, tail=_tail(log), limit_s=timeout_s
    )


class _Watch:
    """Ends the job when it is cancelled or late."""

    def __init__(
        self, job: ForkedJob | _ColdJob, cancel: threading.Event, ended: threading.Event, timeout_s: float
    ) -> None:
        self._job, self._cancel, self._ended, self._left_s = job, cancel, ended, timeout_s
        self.cancelled = self.timed_out = False

    def run(self) -> None:
        while not self._ended.wait(0.2):
            self._left_s -= 0.2
            if self._cancel.is_set():
                self.cancelled = True
            elif self._left_s <= 0:
                self.timed_out = True
            else:
                continue
            self._job.kill(signal.SIGTERM)
            if not self._ended.wait(_GRACE_S):
                self._job.kill(signal.SIGKILL)
            return


def _follow(said: IO[bytes], on_progress: Progress) -> None:
    for line in said:
        try:
            report = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError):
            logger.debug("job.output", extra={"line": line[:500].decode(errors="replace")})
            continue
        if isinstance(report, dict):
            on_progress(report)


def _tail(log: Path, size: int = 2_000) -> str:
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - size))
        return file.read().decode(errors="replace").strip()
