"""What became of a job that did not do its work, as one of our errors."""

import json
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import perennial.continual.errors
from perennial.continual.errors import PerennialError, Refused
from perennial.continual.jobs.process import JobResult

__all__ = ["JobErrors"]

_CAUSES = {"SIGKILL": "the system may be out of memory", "SIGTERM": "somebody ended it"}
_NO_ROOM = 1 << 16  # bytes free, with which not even a log can be written


@dataclass(frozen=True, slots=True, kw_only=True)
class JobErrors:
    """The words and the classes for the ends of one job, which the message calls `what`.

    The error in the job's own `report` comes back as it was raised there. Exit code 4 becomes `refused`, with the last
    line that the job said. Any other end becomes `failed`. A message names the `log` that stays; without one it holds
    all that is known of what the job said.
    """

    what: str
    failed: type[PerennialError]
    refused: type[Refused] | None = None  # None: exit code 4 is an end like any other
    report: Path | None = None  # {"error": class, "message": text}, written by the job
    log: Path | None = None
    if_late: str = "raise the model's timeout_s or give it fewer rows"
    next_step: str | None = None  # what holds in spite of the failure, and what to do

    def of(self, result: JobResult) -> PerennialError:
        """The error to raise for this end; it is made even where the exit code is 0."""
        if (reported := self._reported(result)) is not None:
            return reported
        if self.refused is not None and result.exit_code == self.refused.exit_code:
            line = _last_line(result)
            reason = (
                line.partition(f"{self.refused.__name__}: ")[2] or line
            )  # as jobs log an error: its class, its words
            return self.refused(reason or f"{self.what} was refused without a reason{self._place()}")
        after = "" if self.next_step is None else f"; {self.next_step}"
        return self.failed(f"{self.what} {self._end(result)}{after}")

    def _end(self, result: JobResult) -> str:
        if result.cancelled:
            return "was cancelled"
        if result.timed_out:
            limit = "" if result.limit_s is None else f" of {result.limit_s:g} s"
            return f"took longer than its limit{limit}; {self.if_late}{self._place()}"
        last_words = (_last_line(result) if self.log else result.tail) or self._nothing_said()
        if result.exit_code < 0:
            name = signal.Signals(-result.exit_code).name
            times = f" {result.tries} times" if result.tries > 1 else ""
            return f"was ended by {name}{times} ({_CAUSES.get(name, 'it crashed')}): {last_words}{self._place()}"
        return f"ended with exit code {result.exit_code}: {last_words}{self._place()}"

    def _reported(self, result: JobResult) -> PerennialError | None:
        if self.report is None:
            return None
        last_words = f"; it said: {result.tail}" if self.log is None and result.tail else ""
        try:
            report = json.loads(self.report.read_text(encoding="utf-8"))
            kind, message = getattr(perennial.continual.errors, report["error"]), report["message"]
            return kind(f"{message}{last_words}") if issubclass(kind, PerennialError) else None
        except (OSError, ValueError, KeyError, AttributeError, TypeError):  # no report, or not one of ours
            return None

    def _nothing_said(self) -> str:
        """Why a job may have said nothing: a log on a full disk stays empty."""
        folder = Path() if self.log is None else self.log.parent
        with suppress(OSError):
            if shutil.disk_usage(folder).free < _NO_ROOM:
                return f"nothing on stderr, and the disk of {folder.resolve()} is full; make room and start it again"
        return "nothing on stderr"

    def _place(self) -> str:
        return f" (log: {self.log})" if self.log else ""


def _last_line(result: JobResult) -> str:
    return result.tail.splitlines()[-1] if result.tail else ""
