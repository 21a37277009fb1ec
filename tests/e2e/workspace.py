"""A workspace with a tiny random encoder, and the command line run in it as a user would."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from perennial.client.texts import Prediction
from perennial.ops.cli.main import app
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.processes import free_port

# How a workspace begins that is served; the sections of its models follow.
SERVED_TOML = """
state = "state"
repository = "model_repository"
[triton]
grpc_port = {grpc}
http_port = {http}
metrics_port = {metrics}
router_instances = 1
keep_after_control_dies = false
[api]
port = {api}
[schedule]
watch_s = 0.5
retrain_check_s = 0.5
"""
_TOML = (
    SERVED_TOML.replace("dies = false", "dies = {keep}")
    + """reconcile_s = 2.0
compact_s = 3.0
[models.intent.learning]
encoder = "{encoder}"
max_length = 32
replay_rows = 60
[models.intent.learning.params]
features = 256
lexical = 256
[models.intent.drift]
window_rows = 100
reference_rows = 200
cooldown_requests = 100
report_every_windows = 1000
[models.intent.cycle]
{cycle}
min_fresh_rows = 5
[models.intent.policy]
kind = "any"
policies = [{{ kind = "drift" }}, {{ kind = "label_count", at_least = 5000 }}]
limits = {{ cooldown_s = 1.0, min_labels = 40 }}
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class E2eWorkspace:
    """Where it lies and on which ports it listens."""

    folder: Path
    grpc: int
    http: int
    api: int

    @classmethod
    def written(cls, folder: Path, settings: str, **more: object) -> "E2eWorkspace":
        """One with these settings: `{grpc}`, `{http}`, `{metrics}` and `{api}` in them become free ports."""
        ports = {name: free_port() for name in ("grpc", "http", "metrics", "api")}
        made = cls(folder=folder, grpc=ports["grpc"], http=ports["http"], api=ports["api"])
        folder.mkdir(parents=True, exist_ok=True)
        made.config.write_text(settings.format(**ports, **more))
        return made

    @property
    def config(self) -> Path:
        return self.folder / "perennial.toml"

    def cli(self, *arguments: str, check: int | None = 0) -> Any:
        """Run `perennial`; returns its JSON, or the finished process where no exit code is expected."""
        command = [sys.executable, "-m", "perennial.ops.cli", *arguments, "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        if check is None:
            return done
        assert done.returncode == check, f"{arguments} ended with {done.returncode}: {done.stderr[-2000:]}"
        return json.loads(done.stdout) if done.stdout.strip() and check == 0 else done.stderr

    def here(self, *arguments: str) -> Any:
        """Run `perennial` in this process, beside the one that serves, which is quicker; returns its JSON.

        An error of the command is raised.
        """
        done = CliRunner().invoke(app, [*arguments, "--config", str(self.config)])
        if done.exception is not None:
            raise done.exception
        return json.loads(done.stdout) if done.stdout.strip() else None

    def client(self) -> PerennialClient:
        return PerennialClient(f"127.0.0.1:{self.grpc}", "intent")

    def status(self) -> dict[str, Any]:
        answer = httpx.get(f"http://127.0.0.1:{self.api}/v1/models/intent", timeout=20)
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document

    def feedback(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
        labels = [{"prediction_id": number, "label": label} for number, label in pairs]
        url = f"http://127.0.0.1:{self.api}/v1/feedback"
        answer = httpx.post(url, json={"model": "intent", "labels": labels}, timeout=20)
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document

    def triton_pid(self) -> int:
        return int(json.loads((self.folder / "state" / "triton" / "server.json").read_text())["pid"])

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """`perennial serve` until the block ends; what it started ends with it."""
        log = (self.folder / "serve.log").open("ab")
        command = [
            sys.executable,
            "-m",
            "perennial.ops.cli",
            "--log-level",
            "info",
            "serve",
            "--config",
            str(self.config),
        ]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        try:
            wait_for(lambda: self._healthy(process), 120, "serve to be healthy")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)

    def _healthy(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, (self.folder / "serve.log").read_text()[-3000:]
        try:
            return httpx.get(f"http://127.0.0.1:{self.api}/healthz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


def make_workspace(
    folder: Path, encoder: Path, *, keep: bool = False, cycle: str = "probation_s = 1.0"
) -> E2eWorkspace:
    return E2eWorkspace.written(folder, _TOML, keep="true" if keep else "false", encoder=encoder, cycle=cycle)


def write_csv(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(rows)
    return path


def wait_for(done: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.2)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def ask(client: PerennialClient, texts: Sequence[str]) -> list[Prediction]:
    return [client.predict([text])[0] for text in texts]
