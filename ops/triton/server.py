"""The embedded Triton: assembled from the `nvidia-pytriton` wheel, started, adopted, stopped."""

import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from continual.errors import DependencyUnreachable

__all__ = ["OnParentDeath", "ServerAddress", "TritonServer", "assemble", "free_port"]

logger = logging.getLogger(__name__)
_BACKENDS = ("perennial", "perennial_engine")
_STOP_S = 30.0


class OnParentDeath(StrEnum):
    """What becomes of the server when the control process dies."""

    STOP = "stop"
    KEEP = "keep"  # it goes on answering; the next control process adopts it


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Where the server listens."""

    host: str
    grpc_port: int
    http_port: int
    metrics_port: int

    @property
    def grpc(self) -> str:
        """For clients: `host:port`; a wildcard address is reached over loopback."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host
        return f"{host}:{self.grpc_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """Who runs: enough to tell our server from a stranger that got its pid."""

    pid: int
    started_ticks: int
    fingerprint: str


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def assemble(folder: Path) -> Path:
    """Put the wheel's server, its python backend and our two backends together, and return the backends' folder.

    Raises:
        DependencyUnreachable: the wheel is missing, or has no stub for this Python.
    """
    wheel = _wheel()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise DependencyUnreachable(f"nvidia-pytriton has no Triton stub for Python {version}; use Python 3.11")
    backends = folder / "backends"
    python = backends / "python"
    python.mkdir(parents=True, exist_ok=True)
    for source in ((wheel / "backends" / "python").iterdir(), [stub]):
        for file in source:
            if file.is_file():
                _copy(file, python / file.name)
    ours = Path(__file__).with_name("backends")
    for name in _BACKENDS:
        (backends / name).mkdir(exist_ok=True)
        _copy(ours / name / "model.py", backends / name / "model.py")
    return backends


class TritonServer:
    """One embedded server process, started here or adopted from a control process that died."""

    def __init__(
        self,
        folder: Path,
        repository: Path,
        address: ServerAddress,
        *,
        on_parent_death: OnParentDeath = OnParentDeath.STOP,
    ) -> None:
        self.address = address
        self._folder, self._repository, self._on_parent_death = folder, repository, on_parent_death
        self._process: subprocess.Popen[bytes] | None = None
        self._adopted: _Record | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        if self._process is not None:
            return self._process.pid if self._process.poll() is None else None
        if self._adopted is not None and _is_running(self._adopted):
            return self._adopted.pid
        return None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.pid is not None

    @property
    def log(self) -> Path:
        """What the server and its stubs wrote."""
        return self._folder / "triton.log"

    def adopt(self) -> bool:
        """Take over a server that an earlier control process left running with the same settings.

        One with other settings, or one that no longer answers for itself, is ended.
        """
        record = self._read_record()
        if record is None or not _is_running(record):
            self._record_path.unlink(missing_ok=True)
            return False
        if record.fingerprint == self._fingerprint():
            self._adopted = record
            logger.info("triton.adopted", extra={"pid": record.pid})
            return True
        logger.warning("triton.replaced", extra={"pid": record.pid})
        _end(record.pid, _STOP_S, lambda: _is_running(record))
        self._record_path.unlink(missing_ok=True)
        return False

    def start(self, models: Sequence[str]) -> None:
        """Start the server with these models loaded. Returns at once; wait with `TritonControl.wait_live`.

        Raises:
            DependencyUnreachable: a port is taken, or the wheel is incomplete.
        """
        self._check_ports()
        backends = assemble(self._folder)
        self._repository.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "ops.triton.launch",
                    self._on_parent_death.value,
                    *self._command(backends, models),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment(),
                start_new_session=True,
            )
        self._adopted = None
        record = _Record(
            pid=self._process.pid, started_ticks=_started_ticks(self._process.pid) or 0, fingerprint=self._fingerprint()
        )
        temporary = self._record_path.with_suffix(".tmp")
        temporary.write_text(json.dumps({**asdict(record), "grpc": self.address.grpc}), encoding="utf-8")
        temporary.replace(self._record_path)
        logger.info("triton.started", extra={"pid": record.pid, "grpc": self.address.grpc})

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """End the server and its stubs; calling it again does nothing."""
        process, adopted = self._process, self._adopted
        if process is not None:
            _end(process.pid, timeout_s, lambda: process.poll() is None)
            process.wait()
        elif adopted is not None and _is_running(adopted):
            _end(adopted.pid, timeout_s, lambda: _is_running(adopted))
        self._process = self._adopted = None
        self._record_path.unlink(missing_ok=True)

    def kill(self) -> None:
        """End a server that hangs, stubs included, without asking."""
        self.stop(timeout_s=0.0)

    @property
    def _record_path(self) -> Path:
        return self._folder / "server.json"

    def _read_record(self) -> _Record | None:
        try:
            told = json.loads(self._record_path.read_text(encoding="utf-8"))
            return _Record(**{name: told[name] for name in ("pid", "started_ticks", "fingerprint")})
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            return None

    def _command(self, backends: Path, models: Sequence[str]) -> list[str]:
        address = self.address
        return [
            str(_wheel() / "bin" / "tritonserver"),
            f"--model-repository={self._repository.resolve()}",
            f"--backend-directory={backends.resolve()}",
            "--model-control-mode=explicit",
            "--strict-readiness=false",
            "--disable-auto-complete-config",
            "--exit-on-error=false",
            "--exit-timeout-secs=10",
            f"--grpc-address={address.host}",
            f"--grpc-port={address.grpc_port}",
            f"--http-address={address.host}",
            f"--http-port={address.http_port}",
            f"--metrics-address={address.host}",
            f"--metrics-port={address.metrics_port}",
            "--allow-gpu-metrics=false",
            "--log-verbose=0",
            *(f"--load-model={model}" for model in models),
        ]

    def _environment(self) -> dict[str, str]:
        libraries = [str(_wheel().parent.parent / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
        if existing := os.environ.get("LD_LIBRARY_PATH"):
            libraries.append(existing)
        return {
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "PERENNIAL_PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TOKENIZERS_PARALLELISM": "false",
        }

    def _fingerprint(self) -> str:
        """Settings and code that a server must share with ours to be adopted."""
        command = self._command(self._folder / "backends", ())
        return hashlib.sha256(json.dumps([command, sys.path]).encode()).hexdigest()

    def _check_ports(self) -> None:
        address = self.address
        for name in ("grpc_port", "http_port", "metrics_port"):
            port = getattr(address, name)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((address.host, port))
                except OSError as exc:
                    raise DependencyUnreachable(
                        f"port {port} on {address.host} is taken ({exc.strerror}); set triton.{name} in perennial.toml "
                        f"to a free one, or stop whoever listens there"
                    ) from exc


def _wheel() -> Path:
    from importlib.util import find_spec

    spec = find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise DependencyUnreachable("package nvidia-pytriton is not installed; run `make setup`, or set triton.url")
    folder = Path(spec.origin).with_name("tritonserver")
    if not (folder / "bin" / "tritonserver").is_file():
        raise DependencyUnreachable(f"{folder} has no tritonserver; reinstall nvidia-pytriton==0.7.0")
    return folder


def _copy(source: Path, target: Path) -> None:
    """Copy when it differs, by replacement: a running server may have the old file mapped."""
    if (
        target.is_file()
        and target.stat().st_size == source.stat().st_size
        and target.read_bytes() == source.read_bytes()
    ):
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(source, temporary)
    temporary.replace(target)


def _started_ticks(pid: int) -> int | None:
    """When the kernel started this process, in clock ticks since boot; None without one, or for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _is_running(record: _Record) -> bool:
    return _started_ticks(record.pid) == record.started_ticks


def _end(pid: int, timeout_s: float, check: Callable[[], bool]) -> None:
    """SIGTERM, then SIGKILL for the whole group: a stub must not outlive its server."""
    deadline = time.monotonic() + timeout_s
    if timeout_s > 0 and check():
        _signal(pid, signal.SIGTERM, group=False)
        while check() and time.monotonic() < deadline:
            time.sleep(0.05)
    _signal(pid, signal.SIGKILL, group=True)
    while check():
        time.sleep(0.02)


def _signal(pid: int, number: signal.Signals, *, group: bool) -> None:
    try:
        os.killpg(pid, number) if group else os.kill(pid, number)
    except ProcessLookupError:
        logger.debug("triton.already_gone", extra={"pid": pid})
