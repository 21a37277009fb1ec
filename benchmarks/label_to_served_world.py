"""A workspace that is served for `make bench-label_to_served`: its settings, its first version, its control process."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.serving_processes import family, parts_s
from benchmarks.settings_file import write_settings
from perennial.continual.records import Example
from perennial.ops.commands.first_version import first_version
from perennial.ops.demo.data import Row
from perennial.ops.demo.served import ServedLoop
from perennial.ops.ledger import Ledger
from perennial.ops.settings import load_settings

__all__ = ["ServedWorkspace"]

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


class ServedWorkspace(ServedLoop):
    """One model in a workspace of its own, on free ports."""

    def __init__(self, root: Path, model: str, *, labels: int, learner: str, engine: str) -> None:
        at_least = labels // 2  # the training rows of an update are enough, whatever is held out
        config = write_settings(root, _TOML, model=model, learner=learner, engine=engine, at_least=at_least)
        super().__init__(root, load_settings(config), model, lambda _name, _facts: None)

    def first_version(self, rows: Sequence[Row]) -> float:
        """Make the first version and return the seconds that it took."""
        started, now = time.perf_counter(), datetime.now(UTC)
        examples = [Example(text=text, label=label, at=now) for text, label in rows]
        with Ledger.open(self.workspace.settings.ledger_address) as ledger:
            first_version(ledger, self.workspace, self._model, examples)
        return time.perf_counter() - started

    def events_since(self, since: int) -> list[dict[str, Any]]:
        """What happened after an event's number."""
        self.follow()
        return [event for event in self.events if event["number"] > since]

    def last_event(self) -> int:
        """The number of the newest event."""
        self.follow()
        return int(self.events[-1]["number"]) if self.events else 0

    def processor_s(self) -> float:
        """Seconds that its processes have had a processor for so far: they, Triton's and all jobs that have ended."""
        if self._serve is None:
            raise RuntimeError("it was not started")
        return sum(parts_s(family([self._serve.pid])).values())

    def stages(self, version: int) -> dict[str, float]:
        """Seconds of the export's stages, as its result tells them."""
        path = self.workspace.run(self._model, version) / "export.result.json"
        if not path.is_file():
            return {}
        seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")).get("seconds", {})
        return seconds
