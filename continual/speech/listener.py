"""A recogniser in a process of its own, for many who ask: in turn, bounded, begun when it is needed."""

import json
import logging
import subprocess
import threading
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import IO, Any

import perennial.continual.errors
from perennial.continual.errors import DependencyUnreachable, PerennialError
from perennial.continual.jobs.environment import job_environment
from perennial.continual.jobs.module import module_command
from perennial.continual.speech.heard import Heard, RecogniserSpec
from perennial.continual.speech.sound import check_kind
from perennial.continual.speech.turns import Turns

__all__ = ["Listener", "NoRecogniser"]

logger = logging.getLogger(__name__)
_CHILD = "perennial.continual.speech.child"
_NICENESS = 5  # what serves goes before it
_END_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    sent: bytes
    language: str | None
    heard: "Future[Heard]"


class NoRecogniser(DependencyUnreachable):
    """None can be loaded, whatever is sent."""


class Listener:
    """Understands recordings one after the other, those who ask in turn. Safe to share between threads.

    The process starts with the first recording, ends after a pause, and is begun anew where it died. It dies with
    this process.

    Args:
        spec: which recogniser.
        waiting: recordings that may wait. One more is refused at once, or the newest of whoever has most of them.
        limit_s: the longest that one takes, the start of the process within it.
        idle_s: the pause after which the process ends and gives its memory back.

    >>> Listener(RecogniserSpec()).pid is None
    True
    """

    def __init__(self, spec: RecogniserSpec, *, waiting: int = 8, limit_s: float = 60.0, idle_s: float = 600.0) -> None:
        self._spec, self._limit_s, self._idle_s = spec, limit_s, idle_s
        self._most = waiting
        self._waiting: Turns[_Asked] = Turns(waiting)
        self._guard = threading.Lock()
        self._worker: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    @property
    def waiting(self) -> int:
        """Recordings that wait."""
        return len(self._waiting)

    def hear(self, sent: bytes, *, language: str | None = None, caller: str = "") -> Heard:
        """What is said in a file of sound, in the spec's language where none is named; waits for the caller's turn.

        Raises:
            DataError: the file breaks a rule of `sound_of`, or nobody speaks in it.
            ConfigurationError: the recogniser does not hear the language that was named.
            NoRecogniser: none can be loaded.
            DependencyUnreachable: too many wait, it took too long, or the process ended.
        """
        check_kind(sent)  # before it waits
        asked = _Asked(sent=sent, language=language, heard=Future())
        with self._guard:
            if self._closed:
                raise _stopping()
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="listener", daemon=True)
                self._worker.start()
            gone = self._waiting.offer(caller, asked)
        if gone is not None:  # perhaps this one
            gone.heard.set_exception(
                DependencyUnreachable(f"{self._most} recordings wait already; retry a little later")
            )
        return asked.heard.result()

    def close(self) -> None:
        """End the process; whoever waits is told so."""
        with self._guard:
            self._closed = True
        if (process := self._process) is not None:
            process.kill()
        if self._worker is not None:
            self._tell_all()
            self._waiting.close()
            self._worker.join(_END_S)

    def _work(self) -> None:
        # the process gets SIGTERM when the thread that started it ends: this one lives as long as its owner
        while True:
            asked = self._waiting.take(self._idle_s)
            if asked is None:
                self._end()
                if self._closed:
                    return
                continue
            try:
                asked.heard.set_result(self._answered(asked))
            except Exception as exc:
                asked.heard.set_exception(exc)

    def _answered(self, asked: _Asked) -> Heard:
        if self._closed:  # it may have been taken before whoever closes could tell it so
            raise _stopping()
        late = threading.Event()

        def give_up() -> None:
            late.set()
            if (process := self._process) is not None:
                process.kill()

        watch = threading.Timer(self._limit_s, give_up)
        watch.daemon = True
        watch.start()
        try:
            child = self._begun(late)
            order = json.dumps({"bytes": len(asked.sent), "language": asked.language}).encode() + b"\n"
            told, said = _pipes(child)
            told.write(order + asked.sent)
            told.flush()
            return Heard(**_read(said))
        except (OSError, EOFError, ValueError) as exc:
            ended = self._end()
            if late.is_set():
                raise DependencyUnreachable(
                    f"the recording was given up after {self._limit_s:g} s; send it again, or a shorter one"
                ) from exc
            raise DependencyUnreachable(
                f"the recogniser's process ended (exit code {ended}); send the recording again, and save it anew "
                "where that happens twice"
            ) from exc
        finally:
            watch.cancel()

    def _begun(self, late: threading.Event) -> "subprocess.Popen[bytes]":
        """The process, ready to be asked.

        Raises:
            EOFError: it ended, or it is too late to begin one. NoRecogniser: it could load none.
        """
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        spec = json.dumps(asdict(self._spec))
        command = module_command("perennial.continual.jobs.child", str(_NICENESS), _CHILD, spec)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**job_environment(), "OMP_WAIT_POLICY": "PASSIVE"},
            start_new_session=True,
        )
        if self._closed:  # since it was asked: nobody else would end this one
            self._end()
            raise _stopping()
        if late.is_set():  # whoever gave it up may have found no process to end
            raise EOFError
        logger.info("speech.begun", extra={"recogniser": self._spec.name, "pid": self._process.pid})
        try:
            _read(_pipes(self._process)[1])
        except PerennialError as exc:  # of the service's own, whatever was asked
            self._end()
            raise NoRecogniser(f"no recogniser can be loaded: {exc}") from exc
        return self._process

    def _end(self) -> int | None:
        """End the process, where there is one, and give its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        code = process.wait()
        for pipe in _pipes(process):
            try:
                pipe.close()
            except OSError:  # what was not taken any more
                logger.debug("speech.pipe_broken")
        return code

    def _tell_all(self) -> None:
        for asked in self._waiting.empty():
            asked.heard.set_exception(_stopping())


def _stopping() -> DependencyUnreachable:
    return DependencyUnreachable("nobody listens any more: the service stops; ask again once it is back")


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise OSError("the process was started without pipes")
    return process.stdin, process.stdout


def _read(said: IO[bytes]) -> dict[str, Any]:
    """One line of the child's, or the error that it tells.

    Raises:
        EOFError: it said nothing more.
    """
    line = said.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    told: dict[str, Any] = json.loads(line)
    if "error" in told:
        kind = getattr(perennial.continual.errors, told["error"])
        raise kind(told["message"])
    return told
