"""The life of the front door's process: found or started, kept alive, ended."""

import json
import logging
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import perennial
from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DependencyUnreachable
from perennial.continual.jobs.module import module_command
from perennial.ops.serving.door.limits import DoorSettings
from perennial.ops.serving.processes import check_port_free, end_group, is_listening, is_running, start_ticks
from perennial.ops.serving.server.guard import Guard

__all__ = ["FrontDoor"]

logger = logging.getLogger(__name__)
_ROOT = Path(perennial.__file__).resolve().parents[1]
_OPEN_S = 20.0  # it opens within a fifth of a second on a machine that is not busy
_GLANCE_S = 0.2
_PAUSE_S = 1.0  # after a start that failed
_GRACE_S = 6.0  # a little more than it gives requests that are under way
_LEFT: list[subprocess.Popen[bytes]] = []  # go on without this process; a handle that is dropped warns of its child


class FrontDoor:
    """One process, known by `door.json`. It outlives restarts of Triton, and says meanwhile when to try again."""

    def __init__(self, settings: DoorSettings, folder: Path, *, guarded: bool) -> None:
        self.settings = settings
        self._folder, self._guarded = folder, guarded
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: tuple[int, int] | None = None  # process id and start time
        self._guard: Guard | None = None
        self._stop = threading.Event()
        self._keeper: threading.Thread | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The process id, while it lives."""
        if self._process is not None:
            self._process.poll()
        return self._seen[0] if self._seen is not None and is_running(*self._seen) else None

    def prepare(self) -> None:
        """Begin to open it, or find it open; `wait` returns once it is.

        Raises:
            DependencyUnreachable: a port is another's.
        """
        if self.pid is not None or self._adopt():
            return
        self._end()
        for port, purpose in ((self.settings.http_port, "http"), (self.settings.metrics_port, "metrics")):
            if port:
                check_port_free(self.settings.host, port, purpose)
        self._launch()

    def wait(self) -> None:
        """Return once it lets clients in, and see to it from then on that it lives.

        Raises:
            DependencyUnreachable: it does not open.
        """
        self._wait_open()
        if self._keeper is None:
            self._stop.clear()
            self._keeper = threading.Thread(target=self._keep, name="front-door", daemon=True)
            self._keeper.start()

    def stop(self) -> None:
        """Close it: requests under way are answered first. A second call does nothing."""
        self._leave()
        self._end()

    def leave_unless_kept(self) -> None:
        """Close it where `wait` was never reached: the first start of what is behind it failed."""
        if self._keeper is None:
            self._end()

    def release(self) -> None:
        """Let go of it: it goes on without this process."""
        self._leave()
        if self._process is not None:
            _LEFT.append(self._process)
        self._process = None

    def _leave(self) -> None:
        self._stop.set()
        if self._keeper is not None:
            self._keeper.join()
        self._keeper = None

    def _keep(self) -> None:
        while not self._stop.wait(_GLANCE_S):
            if self.pid is not None:
                continue
            self.restarts += 1
            logger.error("door.restarting", extra={"restarts": self.restarts})
            try:
                self._end()
                self._launch()
                self._wait_open()
            except Exception as exc:  # who gives up here leaves everybody without HTTP
                logger.error("door.not_restarted", extra={"error": str(exc)})
                self._stop.wait(_PAUSE_S)

    def _adopt(self) -> bool:
        recorded = self._read()
        if recorded is None or not is_running(*recorded[0]) or recorded[1] != self.settings.fingerprint:
            return False
        self._seen = recorded[0]
        if self._guarded and self._guard is None:
            self._guard = Guard(self._seen[0])
        logger.info("door.adopted", extra={"pid": self._seen[0]})
        return True

    def _launch(self) -> None:
        with (self._folder / "door.log").open("ab") as log:
            self._process = subprocess.Popen(
                module_command("perennial.ops.serving.door", self.settings.to_json()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=_ROOT,
                start_new_session=True,
            )
        pid = self._process.pid
        self._seen = (pid, start_ticks(pid) or 0)
        write_atomically(self._path, json.dumps([*self._seen, self.settings.fingerprint]), mode=0o600, durable=False)
        if self._guarded:
            self._guard = Guard(pid)

    def _wait_open(self) -> None:
        end = time.monotonic() + _OPEN_S
        ports = [port for port in (self.settings.http_port, self.settings.metrics_port) if port]
        host = self.settings.host if self.settings.host not in {"", "0", "0.0.0.0"} else "127.0.0.1"
        while not all(is_listening(f"{host}:{port}") for port in ports):
            if self.pid is None or time.monotonic() > end or self._stop.is_set():
                raise DependencyUnreachable(
                    f"the front door of Triton's HTTP does not open its ports {ports} on {self.settings.host}; "
                    f"see {self._folder / 'door.log'}"
                )
            time.sleep(0.01)

    def _end(self) -> None:
        recorded = self._read()
        seen = self._seen or (None if recorded is None else recorded[0])
        if seen is not None and is_running(*seen):
            end_group(seen[0], grace_s=_GRACE_S)
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
        if self._guard is not None:
            self._guard.dismiss()
        self._process = self._guard = self._seen = None
        self._path.unlink(missing_ok=True)

    def _read(self) -> tuple[tuple[int, int], str] | None:
        try:
            pid, ticks, fingerprint = json.loads(self._path.read_text(encoding="utf-8"))
            return (int(pid), int(ticks)), str(fingerprint)
        except (OSError, ValueError, TypeError):
            return None

    @property
    def _path(self) -> Path:
        return self._folder / "door.json"
