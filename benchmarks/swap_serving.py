"""`perennial serve` in a process of its own, as the benchmarks run it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from perennial.ops.serving.processes import end_group, group_members
from perennial.ops.settings import Settings, load_settings

__all__ = ["Serving"]

_ROOT = Path(__file__).parents[1]


class Serving:
    """`perennial serve` in a process of its own."""

    def __init__(self, config: Path, checkout: Path | None = None) -> None:
        """With a `checkout` it is the program of another one, by the environment in its `.venv`."""
        self.settings: Settings = load_settings(config)
        self._config = config
        self._root = checkout or _ROOT
        self._python = sys.executable if checkout is None else str(checkout / ".venv" / "bin" / "python")
        self.api = f"http://{self.settings.api.host}:{self.settings.api.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(timeout=5)  # made once: each one reads the system's certificates

    def start(self, limit_s: float = 120.0) -> None:
        """Return once it is healthy.

        Raises:
            RuntimeError: it is not, within the limit; see `serve.log` beside the settings.
        """
        self.launch()
        end = time.monotonic() + limit_s
        while not self.healthy():
            if self.process is None or self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"perennial serve did not come up; see {self._config.parent / 'serve.log'}")
            time.sleep(0.1)

    def launch(self) -> None:
        """Start the process and wait for nothing."""
        command = [
            self._python,
            "-m",
            "perennial.ops.cli",
            "--log-level",
            "warning",
            "serve",
            "--config",
            str(self._config),
        ]
        with (self._config.parent / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self._root)

    def healthy(self) -> bool:
        """Whether `/healthz` says so."""
        try:
            return self._http.get(f"{self.api}/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """SIGTERM, as a service manager would."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise

    @property
    def triton_pid(self) -> int:
        """The server's process id; 0 between two starts of it."""
        try:
            return int(json.loads((self.settings.state / "triton" / "server.json").read_text(encoding="utf-8"))["pid"])
        except (FileNotFoundError, ValueError):
            return 0

    def end_triton(self) -> None:
        """End an inference server that outlived its control process."""
        if triton := self.triton_pid:
            end_group(triton, grace_s=5.0)

    def memory_mb(self) -> dict[str, float]:
        """Resident memory by part."""
        serve = 0 if self.process is None else self.process.pid
        found = {"control": _rss_mb(serve), "triton": 0.0, "stubs": 0.0}
        triton = self.triton_pid
        for pid in group_members(triton):
            found["triton" if pid == triton else "stubs"] += _rss_mb(pid)
        return found | {"total": sum(found.values())}


def _rss_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
