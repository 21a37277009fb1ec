"""A job that has begun before what it is to do is known: it works ahead, and is told the rest when that is there."""

import json
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from perennial.continual.jobs.environment import job_environment
from perennial.continual.jobs.warm import ForkedJob, WarmJobs

__all__ = ["WaitingJobs"]

logger = logging.getLogger(__name__)
_FAILURES = 3  # of one that is begun by the same arguments, after which it is left alone


class WaitingJobs:
    """Keeps one waiting job of a module at most, a fork of a warm process.

    Args:
        warm: begins it; where it cannot, there is none.
        module: reads one line of JSON from its stdin, with the `arguments` to go on with and the `log` for its stderr;
            it ends before that only where its stdin does.
        log: where its stderr goes until then.
        niceness: of the work that it is told; what it does ahead is its own affair.
    """

    def __init__(self, warm: WarmJobs, module: str, *, log: Path, niceness: int) -> None:
        self._warm, self._module, self._log, self._niceness = warm, module, log, niceness
        self._guard = threading.Lock()
        self._job: ForkedJob | None = None
        self._by: tuple[str, ...] = ()
        self._failures = 0

    @property
    def pid(self) -> int | None:
        """The waiting job's process, while there is one."""
        with self._guard:
            return None if self._job is None or self._job.is_over() else self._job.pid

    def keep(self, arguments: Sequence[str]) -> None:
        """Have one wait that was begun by these arguments; harmless where it does so already.

        One that failed is begun again, a few times.
        """
        with self._guard:
            same = tuple(arguments) == self._by
            if same and self._job is not None and not self._job.is_over():
                return
            if not same:
                self._failures = 0
            elif self._job is not None:
                self._failures += 1
                logger.warning("job.waiting_failed", extra={"job": self._module, "exit_code": self._job.wait()})
            self._end()
            self._by = tuple(arguments)
            if self._failures < _FAILURES:
                self._begin(self._by)

    def _begin(self, arguments: tuple[str, ...]) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as errors:
            self._job = self._warm.begin(
                self._module,
                arguments,
                niceness=self._niceness,
                environment=job_environment(),
                errors=errors,
                told=True,
            )

    def take(self, arguments: Sequence[str], log: Path) -> ForkedJob | None:
        """Tell the waiting job what to do and give it away; None where there is none."""
        with self._guard:
            job, self._job, self._by, self._failures = self._job, None, (), 0
        if job is None:
            return None
        order = {"arguments": list(arguments), "log": str(log.absolute())}
        if not job.is_over() and job.tell(json.dumps(order).encode() + b"\n"):
            return job
        _ended(job)
        return None

    def drop(self) -> None:
        """Let the waiting job end, and what it has in memory go."""
        with self._guard:
            self._end()

    def _end(self) -> None:
        job, self._job, self._by = self._job, None, ()
        if job is not None:
            _ended(job)


def _ended(job: ForkedJob) -> None:
    with suppress(OSError):
        job.let_go()
    threading.Thread(target=_reaped, args=(job,), name="waiting-job", daemon=True).start()


def _reaped(job: ForkedJob) -> None:
    job.wait()
    job.stdout.close()
