"""A workspace that is served for `make bench-label_to_served`: its settings, its first version, its control process."""

import json
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from perennial.continual.jobs.module import module_command
from perennial.continual.records import Example
from perennial.ops.commands.first_version import first_version
from perennial.ops.demo.data import Row
from perennial.ops.ledger import Ledger
from perennial.ops.settings import load_settings
from perennial.ops.store.workspace import Workspace

__all__ = ["ServedWorkspace"]

_UP_S = 120.0
_TOML = """
state = "state"
repository = "model_repository"

[triton]
grpc_port = {grpc}
http_port = {http}
metrics_port = {metrics}
engine_threads = 1
keep_after_control_dies = false

[api]
port = {api}

[schedule]
watch_s = 0.5
retrain_check_s = 0.5

[models.{model}.learning]
learner = "{learner}"
niceness = 0

[models.{model}.engine]
engine = "{engine}"

[models.{model}.cycle]
probation_s = 1.0

[models.{model}.policy]
kind = "feedback_count"
at_least = {at_least}
limits = {{ cooldown_s = 0.0, min_feedback = 1, budget_per_day = 1000 }}
"""


class ServedWorkspace:
    """One model in a workspace of its own, on free ports."""

    def __init__(self, root: Path, model: str, *, labels: int, learner: str, engine: str) -> None:
        self._root, self._model = root, model
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(4)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            grpc, http, metrics, api = (each.getsockname()[1] for each in sockets)
        self.grpc, self.api = f"127.0.0.1:{grpc}", f"http://127.0.0.1:{api}"
        self.log = root / "serve.log"
        self._settings_file = root / "perennial.toml"
        self._settings_file.write_text(
            _TOML.format(
                grpc=grpc,
                http=http,
                metrics=metrics,
                api=api,
                model=model,
                learner=learner,
                engine=engine,
                at_least=labels // 2,  # the training rows of an update are enough, whatever is held out
            ),
            encoding="utf-8",
        )
        self.workspace = Workspace(load_settings(self._settings_file))
        self._serve: subprocess.Popen[bytes] | None = None

    def first_version(self, rows: Sequence[Row]) -> float:
        """Make the first version and return the seconds that it took."""
        started, now = time.perf_counter(), datetime.now(UTC)
        examples = [Example(text=text, label=label, at=now) for text, label in rows]
        with Ledger.open(self.workspace.settings.ledger_address) as ledger:
            first_version(ledger, self.workspace, self._model, examples)
        return time.perf_counter() - started

    def start(self) -> None:
        """Start the control process and wait until it answers."""
        with self.log.open("ab") as log:
            command = ("perennial.ops.cli", "serve", "--config", str(self._settings_file))
            self._serve = subprocess.Popen(
                module_command("perennial.continual.jobs.child", "0", *command),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + _UP_S
        while time.monotonic() < deadline:
            if self._serve.poll() is not None:
                break
            try:
                if httpx.get(f"{self.api}/healthz", timeout=5).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        raise SystemExit(f"the loop did not come up; see {self.log}")

    def stop(self) -> None:
        """End the control process, and its server with it."""
        if self._serve is not None and self._serve.poll() is None:
            self._serve.terminate()
            try:
                self._serve.wait(timeout=45)
            except subprocess.TimeoutExpired:
                self._serve.kill()
                self._serve.wait()

    def events(self, http: httpx.Client, since: int) -> list[dict[str, Any]]:
        """What happened after an event's number."""
        found: list[dict[str, Any]] = http.get("/v1/events", params={"since": since}).json()
        return found

    def last_event(self, http: httpx.Client) -> int:
        """The number of the newest event."""
        events = self.events(http, 0)
        return int(events[-1]["number"]) if events else 0

    def stages(self, version: int) -> dict[str, float]:
        """Seconds of the export's stages, as its result tells them."""
        path = self.workspace.run(self._model, version) / "export.result.json"
        if not path.is_file():
            return {}
        seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")).get("seconds", {})
        return seconds
