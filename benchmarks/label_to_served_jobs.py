"""The two jobs of an update once more, on a copy of what they read: their processor seconds, whoever else is at work.

It takes a workspace that `--keep` has left. Both are told after they have worked ahead, as in the loop; what the engine
gives for the rows that judge the version is known already.
"""

import importlib
import io
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from perennial.continual.jobs.memory import keep_freed, take_ahead
from perennial.continual.learning import job
from perennial.continual.learning.ahead import Ahead
from perennial.continual.learning.spec import JobSpec
from perennial.ops.making import proving, proving_ahead
from perennial.ops.making.challenger import JOB_MODULES

__all__ = ["jobs_again"]


def jobs_again(root: Path, model: str, *, times: int) -> dict[str, list[float]]:
    """Processor seconds of the newest update's training, and of its export with the judgement, so many times each.

    Raises:
        FileNotFoundError: the newest version there is not an update.
    """
    keep_freed()
    for name in JOB_MODULES:
        importlib.import_module(name)
    runs = root / "state" / "runs" / model
    newest = max(int(folder.name) for folder in runs.iterdir() if folder.name.isdigit())
    seconds: dict[str, list[float]] = {"training": [], "export_and_judgement": []}
    for _ in range(times):
        with tempfile.TemporaryDirectory(dir=root, prefix="again-") as folder:
            again = _Again(runs, newest, Path(folder))
            seconds["training"].append(again.train())
            seconds["export_and_judgement"].append(again.prove())
    return seconds


class _Again:
    def __init__(self, runs: Path, version: int, folder: Path) -> None:
        self._runs, self._version, self._folder = runs, version, folder
        shutil.copytree(runs.parents[1] / "embeddings", folder / "embeddings")

    def _spec(self, version: int, name: str, **own: str) -> Path:
        spec: dict[str, Any] = json.loads((self._runs / str(version) / name).read_text(encoding="utf-8"))
        known = {key: str(self._folder / "embeddings") for key in ("cache", "embeddings") if key in spec}
        if name == "judge.json":
            del known["cache"]  # of engines
        path = self._folder / f"{version}-{name}"
        path.write_text(json.dumps(spec | known | own), encoding="utf-8")
        return path

    def train(self) -> float:
        last = self._spec(self._version - 1, "train.json")
        spec = self._spec(self._version, "train.json", out=str(self._folder / "trained"))
        previous = JobSpec.read(spec).previous
        if previous is None:
            raise FileNotFoundError(f"version {self._version} goes on from none")
        ahead = Ahead.of(previous, JobSpec.read(last))
        take_ahead(0.0 if ahead is None else ahead.takes_mb)
        return _processor_s(lambda: job.main([str(spec)], ahead))

    def prove(self) -> float:
        staged, last = str(self._folder / "staged"), self._spec(self._version - 1, "export.json")
        result = str(self._folder / "result.json")
        spec = self._spec(self._version, "export.json", out_dir=staged, result=result)
        judge = self._spec(self._version, "judge.json", challenger_bundle=staged)
        told = json.loads(spec.read_text(encoding="utf-8"))
        ready = proving_ahead._made_ready(Path(told["previous_bundle"]), last, told["engine_threads"])
        return _processor_s(lambda: proving.main([str(spec), str(judge)], ready))


def _processor_s(work: Callable[[], int]) -> float:
    began = time.process_time()
    with redirect_stdout(io.StringIO()):
        code = work()
    if code:
        raise RuntimeError(f"the job ended with {code}")
    return time.process_time() - began
