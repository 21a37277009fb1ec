"""The servers of the benchmark, each started, asked and stopped in the same way."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from unittest.mock import patch

import httpx

from benchmarks.serving_processes import family
from benchmarks.serving_rivals import CACHE, Rival, environment, kserve_body, script_of, version_of
from benchmarks.serving_world import MODEL, World, perennial
from benchmarks.swap_serving import Serving
from perennial.ops.serving.processes import end_group, free_port

__all__ = ["Ours", "Peer", "Server"]

_ROOT = Path(__file__).parents[1]
_START_S = 120.0


class Server(Protocol):
    """`grpc` is the address of that protocol, empty where it has none."""

    name: str
    version: str
    url: str
    grpc: str

    def body(self, texts: Sequence[str]) -> str:
        """A request of these texts."""
        ...

    def start(self, engine: str) -> float:
        """Serve that engine; the seconds until it answered."""
        ...

    def processes(self) -> frozenset[int]:
        """All of them."""
        ...

    def stop(self) -> None:
        """End them all."""
        ...


@dataclass
class Ours:
    """`perennial serve` on the workspace, the loop on and everything logged.

    `changed` are settings by environment; `checkout` has another state of the program.
    """

    world: World
    name: str = "perennial"
    version: str = "this"
    changed: Mapping[str, str] = field(default_factory=dict)
    checkout: Path | None = None
    url: str = ""
    grpc: str = ""

    def body(self, texts: Sequence[str]) -> str:
        """See `Server`."""
        return kserve_body(texts)

    def start(self, engine: str) -> float:
        """See `Server`."""
        with patch.dict(os.environ, self.changed):
            self._serving = Serving(self.world.config, self.checkout)
            triton = self._serving.settings.triton
            self.url = f"http://{triton.host}:{triton.http_port}/v2/models/{MODEL}/infer"
            self.grpc = f"{triton.host}:{triton.grpc_port}"
            self._promote(engine)
            began = time.perf_counter()
            self._serving.start()
            _until_answered(self.url, self.body(["hello"]))
            return time.perf_counter() - began

    def _promote(self, engine: str) -> None:
        wanted = self.world.versions[engine]
        told = json.loads((self.world.workspace.settings.state / "route" / f"{MODEL}.json").read_text(encoding="utf-8"))
        if told["champion"] != wanted:
            self._serving.start()
            try:
                perennial(self.world.config, "model", "promote", str(wanted), "--model", MODEL)
            finally:
                self.stop()

    def processes(self) -> frozenset[int]:
        """See `Server`."""
        serve = self._serving.process
        return family([pid for pid in (0 if serve is None else serve.pid, self._serving.triton_pid) if pid])

    def stop(self) -> None:
        """See `Server`."""
        self._serving.stop()
        self._serving.end_triton()


class Peer:
    """Another server, with our engine in it."""

    def __init__(self, rival: Rival, world: World) -> None:
        self.name, self.version = rival.name, version_of(rival)
        self._rival, self._world, self.url, self.grpc = rival, world, "", ""
        self._process: subprocess.Popen[bytes] | None = None

    def body(self, texts: Sequence[str]) -> str:
        """See `Server`."""
        return self._rival.body(texts)

    def start(self, engine: str) -> float:
        """See `Server`."""
        port, folder = free_port(), CACHE / "run" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{port}{self._rival.path}"
        command = [str(environment(self._rival)), str(script_of(self._rival)), "--port", str(port)]
        command += ["--bundle", str(self._world.bundle(engine)), "--cache", str(folder / "compiled")]
        if self._rival.grpc:
            grpc_port = free_port()
            self.grpc = f"127.0.0.1:{grpc_port}"
            command += ["--grpc-port", str(grpc_port)]
        began = time.perf_counter()
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(_ROOT)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _until_answered(self.url, self.body(["hello"]), self._process)
        return time.perf_counter() - began

    def processes(self) -> frozenset[int]:
        """See `Server`."""
        return frozenset() if self._process is None else family([self._process.pid])

    def stop(self) -> None:
        """See `Server`."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            end_group(self._process.pid, grace_s=10.0)
            self._process.wait()
            self._process = None


def _until_answered(url: str, body: str, process: subprocess.Popen[bytes] | None = None) -> None:
    end = time.monotonic() + _START_S
    with httpx.Client(timeout=5.0) as client:
        while True:
            try:
                if client.post(url, content=body, headers={"Content-Type": "application/json"}).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            if time.monotonic() > end or (process is not None and process.poll() is not None):
                raise RuntimeError(f"no answer from {url}; see the log of that server")
            time.sleep(0.02)
