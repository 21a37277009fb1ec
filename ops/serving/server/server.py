"""The embedded Triton: started, adopted, stopped."""

import hashlib
import logging
import math
import os
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from perennial.continual.errors import DependencyUnreachable, PerennialError
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.door.limits import DoorLimits, DoorSettings
from perennial.ops.serving.processes import (
    check_port_free,
    end_group,
    free_port,
    group_members,
    hide_argument,
    is_listening,
    is_running,
    processor_s,
    start_ticks,
)
from perennial.ops.serving.secret import KEY, VARIABLE, new_secret
from perennial.ops.serving.server.exposure import is_local
from perennial.ops.serving.server.front_door import FrontDoor
from perennial.ops.serving.server.guard import Guard
from perennial.ops.serving.server.installation import Installation, assemble
from perennial.ops.serving.server.shared_memory import FOLDER, SEGMENT
from perennial.ops.serving.server.stubs import stubs_of
from perennial.ops.serving.server_record import FILE, KeptSecret, ServerRecord

__all__ = ["OnParentDeath", "ServerSpec", "StartLost", "TraceSpec", "TritonServer"]

logger = logging.getLogger(__name__)
_LOOK_S = 0.02  # between two looks at a server that starts
_STUBS_S = 0.25  # and at its processes: a walk through /proc
_AFTER_LOSS_S = 8.0  # of rest, for one that lost a process: 2.51 may wait for it for ever, or go on without it
_AT_REST = 0.02  # of a processor: one that waits for ever uses a thousandth, one that loads an engine many times this
# What clients may do over gRPC without the secret is left: health, metadata, inference, statistics.
_RESTRICTED = "shared-memory,model-config,model-repository,trace,logging"
_ALL = f"health,metadata,inference,statistics,{_RESTRICTED}"  # HTTP is the front door's alone


class StartLost(DependencyUnreachable):
    """A server ended, or lost a process, while it started; the next try may well succeed."""


class OnParentDeath(StrEnum):
    """What becomes of the server when the process that started it dies."""

    STOP = "stop"  # for demonstrations and tests
    KEEP = "keep"  # it goes on answering, and the next process adopts it


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSpec:
    """Where the server sends traces of requests: one of `every`, and those that their callers trace."""

    url: str
    every: int

    @property
    def arguments(self) -> list[str]:
        """The server's arguments for it."""
        named = {"mode": "opentelemetry", "level": "TIMESTAMPS", "rate": self.every}
        own = {"url": self.url, "resource": "service.name=perennial-triton"}
        return [
            *(f"--trace-config={name}={value}" for name, value in named.items()),
            *(f"--trace-config=opentelemetry,{name}={value}" for name, value in own.items()),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """How to run the server. `models` are loaded at the start; a missing one does not keep it from starting."""

    folder: Path  # <state>/triton
    repository: Path
    models: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002
    http: bool = True  # else there is gRPC alone
    http_body_bytes: int = 64 * 2**20
    http_hosts: tuple[str, ...] = ()
    http_origins: tuple[str, ...] = ()
    routes: Path | None = None  # the folder of the route files: where it is known, small questions are put together
    together_rows: int = 64
    traces: TraceSpec | None = None
    on_parent_death: OnParentDeath = OnParentDeath.KEEP
    start_timeout_s: float = 300.0  # it answers only when its models are loaded, and an engine may take minutes
    stop_timeout_s: float = 15.0

    @property
    def url(self) -> str:
        """Where gRPC answers; a server that listens everywhere is asked on the loopback."""
        return f"{'127.0.0.1' if self.host in {'', '0', '0.0.0.0'} else self.host}:{self.grpc_port}"

    @property
    def fingerprint(self) -> str:
        """Equal for specs whose servers answer alike: a running one with the same may be adopted."""
        parts = (
            self.repository.resolve(),
            self.host,
            self.grpc_port,
            self.http,
            *(self.traces.arguments if self.traces else ()),
        )
        return hashlib.sha256(repr(tuple(map(str, parts))).encode()).hexdigest()[:16]

    @property
    def door(self) -> DoorSettings:
        """The front door of its HTTP and metrics."""
        return DoorSettings(
            host=self.host,
            http_port=self.http_port if self.http else 0,
            metrics_port=self.metrics_port,
            record=self.folder / FILE,
            local=is_local(self.host),
            hosts=self.http_hosts,
            origins=self.http_origins,
            routes=self.routes,
            traces=self.traces is not None,
            limits=DoorLimits(body_bytes=self.http_body_bytes, together_rows=self.together_rows),
        )


class _Progress:
    """Whether a server that starts lacks a process, and has done nothing worth waiting for meanwhile."""

    def __init__(self) -> None:
        self._used_s, self._at = 0.0, math.inf  # processor time when it last counted as progress, and when that was

    def look(self, *, lacks: bool, used_s: float, now: float) -> None:
        """Take in whether a process is lacking, and how much processor time the others have used."""
        self._used_s = min(self._used_s, used_s)  # what ended took its time with it
        if not lacks or self._at == math.inf or used_s - self._used_s >= _AT_REST * _AFTER_LOSS_S:
            self._used_s, self._at = used_s, now

    def given_up(self, now: float) -> bool:
        """Whether it has lacked a process and been at rest for so long that it will not come up."""
        return now - self._at > _AFTER_LOSS_S


class TritonServer:
    """One embedded server, known by `server.json`: process id, start time, ports and settings."""

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self.door = FrontDoor(spec.door, spec.folder, guarded=spec.on_parent_death is OnParentDeath.STOP)
        self._record: ServerRecord | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id, while it runs."""
        return self._record.pid if self._record is not None and self.alive() else None

    @property
    def launched(self) -> bool:
        """Whether this process started it, and did not find it."""
        return self._process is not None

    @property
    def kept_secret(self) -> KeptSecret:
        """Gives the secret of the present start, also after a restart."""
        return KeptSecret(self._path)

    @property
    def log_path(self) -> Path:
        """What the server and its backends print."""
        return self.spec.folder / "tritonserver.log"

    def alive(self) -> bool:
        """Whether the process runs; it may still hang."""
        if self._process is not None:
            self._process.poll()
        return self._record is not None and is_running(self._record.pid, self._record.ticks)

    def start(self, cancel: threading.Event | None = None) -> bool:
        """Adopt the server that `server.json` names, or start one; returns once it answers, True when adopted.

        A named server with other settings is stopped first, what a dead one left behind is cleared away. When `cancel`
        is set meanwhile, the start is given up and cleared away.

        Raises:
            StartLost: the disk refuses, or it does not come up; DependencyUnreachable: something it needs is missing,
                or a port is taken.
        """
        try:
            return self._start(cancel or threading.Event())
        except OSError as exc:
            if self.launched:
                with suppress(OSError):
                    self._clear(0.0)
            raise StartLost(
                f"Triton at {self.spec.url} cannot be started in {self.spec.folder}: {exc}; make room there, or see to "
                f"its rights, then start it again"
            ) from exc

    def _start(self, cancel: threading.Event) -> bool:
        self.spec.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.spec.folder.chmod(0o700)  # it holds the secret and the server's log
        if self._adopt():
            self.door.prepare()
            self.door.wait()
            return True
        self._clear(self.spec.stop_timeout_s)
        check_port_free(self.spec.host, self.spec.grpc_port, "grpc")
        try:
            self.door.prepare()
            self.spec.repository.mkdir(parents=True, exist_ok=True)
            self._launch(assemble(self.spec.folder))
            self._wait(cancel)
            self.door.wait()
        except DependencyUnreachable:
            self._clear(0.0)
            raise
        finally:
            self.door.leave_unless_kept()
        logger.info("triton.started", extra={"pid": self.pid, "url": self.spec.url})
        return False

    def stop(self) -> None:
        """End the server, its stubs and what it left in shared memory. A second call does nothing."""
        self.door.stop()
        self._clear(self.spec.stop_timeout_s)
        logger.info("triton.stopped", extra={"url": self.spec.url})

    def kill(self) -> None:
        """End a server that does not answer, without waiting for it; its front door stays for the next start."""
        self._clear(0.0)
        logger.warning("triton.killed", extra={"url": self.spec.url})

    def release(self) -> None:
        """Let go of a server that is to go on without this process (KEEP)."""
        self.door.release()
        self._process = None

    def _adopt(self) -> bool:
        seen = self._read()
        if seen is None or not is_running(seen.pid, seen.ticks) or seen.fingerprint != self.spec.fingerprint:
            return False
        if not seen.secret:
            return False  # without it the server cannot be told anything
        control = TritonControl(self.spec.url, secret=lambda: seen.secret)
        try:
            control.wait_live(5.0)
            control.index()
        except PerennialError:
            return False
        finally:
            control.close()
        self._note(seen)
        self._hide_secret()  # its first control process may have been killed before it could
        if self.spec.on_parent_death is OnParentDeath.STOP and self._guard is None:
            self._guard = Guard(seen.pid)
        logger.info("triton.adopted", extra={"pid": seen.pid, "url": self.spec.url})
        return True

    def segments(self) -> frozenset[str]:
        """The shared memory of the running server and its stubs, by name; a killed one leaves it behind."""
        record = self._record or self._read()
        found: set[bytes] = set()
        for pid in () if record is None else group_members(record.pid):
            for source in ("maps", "cmdline"):
                with suppress(OSError):
                    found.update(SEGMENT.findall(Path(f"/proc/{pid}/{source}").read_bytes()))
        return frozenset(name.decode() for name in found)

    def _clear(self, grace_s: float) -> None:
        record = self._record or self._read()
        segments: frozenset[str] = frozenset()
        # A process id may be another's by now: without its leader, a group counts only if its members are ours.
        if record is not None and (is_running(record.pid, record.ticks) or _ours(record.pid, self.spec.folder)):
            segments = self.segments()
            end_group(record.pid, grace_s=grace_s if is_running(record.pid, record.ticks) else 0.0)
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
        if self._guard is not None:
            self._guard.dismiss()
        self._process = self._guard = self._record = None
        self._path.unlink(missing_ok=True)
        for name in segments:
            Path(FOLDER, name).unlink(missing_ok=True)

    def _launch(self, installation: Installation) -> None:
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        secret, http, metrics = new_secret(), free_port() if self.spec.http else 0, free_port()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(installation, secret, http, metrics),
                env={**installation.environment(), VARIABLE: secret},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.spec.folder,
                start_new_session=True,
            )
        pid = self._process.pid
        ticks = start_ticks(pid) or 0
        self._note(
            ServerRecord(
                pid=pid,
                ticks=ticks,
                fingerprint=self.spec.fingerprint,
                secret=secret,
                http_port=http,
                metrics_port=metrics,
            )
        )
        if self.spec.on_parent_death is OnParentDeath.STOP:
            self._guard = Guard(pid)

    def _note(self, record: ServerRecord) -> None:
        """Keep which process it is, here and in `server.json`."""
        self._record = record
        record.keep(self._path)

    def _hide_secret(self) -> bool:
        """Take the secret out of the command line, once the server has read that: it prints nothing before.

        Triton takes it from nowhere else. Until then, a fraction of a second, local users can read it there.
        """
        if self._record is None or not self.log_path.exists() or not self.log_path.stat().st_size:
            return False
        if not hide_argument(self._record.pid, self._record.secret):
            logger.warning("triton.secret_shown", extra={"pid": self._record.pid, "where": "its command line"})
        return True

    def _command(self, installation: Installation, secret: str, http: int, metrics: int) -> list[str]:
        command = [
            str(installation.binary),
            *self._identity(),
            f"--backend-directory={installation.backends.resolve()}",
            "--model-control-mode=explicit",
            "--strict-readiness=false",
            "--disable-auto-complete-config",
            "--exit-on-error=false",
            "--exit-timeout-secs=10",
            "--allow-gpu-metrics=false",
            "--grpc-infer-allocation-pool-size=0",  # a request kept for reuse keeps its largest size, 64 of them a lot
            f"--grpc-restricted-protocol={_RESTRICTED}:{KEY}={secret}",
            "--allow-grpc=true",
            "--allow-metrics=true",
            "--metrics-address=127.0.0.1",
            f"--metrics-port={metrics}",
            f"--allow-http={'true' if http else 'false'}",
        ]
        if http:
            command += ["--http-address=127.0.0.1", f"--http-port={http}"]
            command += [f"--http-restricted-api={_ALL}:{KEY}={secret}"]
        if self.spec.traces is not None:
            command += self.spec.traces.arguments
        return [*command, *(f"--load-model={model}" for model in self.spec.models)]

    def _wait(self, cancel: threading.Event) -> None:
        control, end = TritonControl(self.spec.url), time.monotonic() + self.spec.start_timeout_s
        progress, next_walk, hidden = _Progress(), 0.0, False
        try:
            # a channel that was refused pauses before it tries again: it is used once the port is open, not before
            while not (is_listening(self.spec.url) and control.live(timeout_s=1.0) and self._all_open()):
                hidden = hidden or self._hide_secret()
                if cancel.is_set():
                    self._fail("was told to stop before it answered")
                if not self.alive() or time.monotonic() > end:
                    self._fail("ended at once" if not self.alive() else "did not answer in time")
                if (now := time.monotonic()) >= next_walk and self.pid is not None:
                    stubs, next_walk = set(stubs_of(self.pid)), now + _STUBS_S
                    progress.look(lacks=_lacks(self.pid, stubs), used_s=processor_s({self.pid, *stubs}), now=now)
                if progress.given_up(now):
                    self._fail("lost a process while it started and waits for it")
                time.sleep(_LOOK_S)
            if not hidden:
                self._hide_secret()
        finally:
            control.close()

    def _all_open(self) -> bool:
        """Whether Triton has opened the ports behind the front door, which it does after the one for gRPC."""
        record = self._record
        ports = [] if record is None else [port for port in (record.http_port, record.metrics_port) if port]
        return all(is_listening(f"127.0.0.1:{port}") for port in ports)

    def _fail(self, how: str) -> None:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        wrong = [line for line in lines if line[:1] == "E" and line[1:2].isdigit()][-3:] or lines[:1]
        self._clear(0.0)
        raise StartLost(f"Triton {how} at {self.spec.url}: {' | '.join(wrong)}; see {self.log_path}")

    def _read(self) -> ServerRecord | None:
        return ServerRecord.read(self._path) or self._unnoted()

    def _unnoted(self) -> ServerRecord | None:
        """The server of a process that was killed between starting it and writing `server.json`."""
        wanted = {word.encode() for word in self._identity()}
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and wanted <= set((entry / "cmdline").read_bytes().split(b"\0")):
                    return ServerRecord.of_process(int(entry.name), self.spec.fingerprint)
        return None

    def _identity(self) -> list[str]:
        """The arguments by which a server is this one: no two run with the same port."""
        return [
            f"--model-repository={self.spec.repository.resolve()}",
            f"--grpc-address={self.spec.host}",
            f"--grpc-port={self.spec.grpc_port}",
        ]

    @property
    def _path(self) -> Path:
        return self.spec.folder / FILE


def _lacks(server: int, stubs: set[int]) -> bool:
    """Whether the server shares memory with a process that is not there: it was made for a stub that has died.

    Also for one that died before anybody saw it.
    """
    with suppress(OSError):
        shared = set(SEGMENT.findall(Path(f"/proc/{server}/maps").read_bytes()))
        for stub in stubs:
            shared -= set(SEGMENT.findall(Path(f"/proc/{stub}/cmdline").read_bytes()))
        return bool(shared)
    return False


def _ours(group: int, folder: Path) -> bool:
    marker = str(folder.resolve()).encode()
    for pid in group_members(group):
        with suppress(OSError):
            if marker not in Path(f"/proc/{pid}/cmdline").read_bytes():
                return False
    return bool(group_members(group)) and os.getpgid(0) != group
