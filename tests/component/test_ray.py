"""Trainings and sweeps on the workers of a real Ray cluster, one of which is killed."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.jobs.process import run_job
from perennial.continual.jobs.ray_cluster import RayCluster
from perennial.continual.learning.context import Context
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.sweep import sweep
from perennial.continual.learning.trainings import TrainingJobs
from tests.unit.learning.conftest import make_rows

pytestmark = [pytest.mark.component, pytest.mark.timeout(900)]

_PLACE = re.compile(r"worker (\d+), process (\d+)")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster with two workers."""
    nodes = subprocess.Popen(
        [sys.executable, "-m", "tests.component.ray_nodes", "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with nodes:
        assert nodes.stdout is not None
        yield next(line.split()[1] for line in nodes.stdout if line.startswith("address "))
        nodes.communicate(timeout=300)


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    """A training on the packaged encoder."""
    for name, seed in (("examples", 1), ("holdout", 9)):
        write_rows(tmp_path / f"{name}.jsonl", make_rows("card loan", 20, seed))
    files = {name: tmp_path / f"{name}.jsonl" for name in ("examples", "holdout")}
    return JobSpec(learner=LearnerName.KERNEL_LDA, out=tmp_path / "trained", threads=1, nice=0, **files)


def _places(log: Path, count: int) -> list[tuple[int, int]]:
    """The worker and the process of each of the first `count` tries, once they are told."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        told = _PLACE.findall(log.read_text(encoding="utf-8")) if log.exists() else []
        if len(told) >= count:
            return [(int(worker), int(process)) for worker, process in told[:count]]
        time.sleep(0.05)
    raise AssertionError(f"no try {count} in {log}")


def _gone(process: int) -> bool:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if not Path(f"/proc/{process}").exists():
            return True
        time.sleep(0.05)
    return False


def test_jobs_on_a_cluster_end_as_they_do_here(address: str, tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    cancel = threading.Event()

    def hear(told: dict[str, Any]) -> None:
        said.append(told)
        cancel.set()

    result = run_job(
        "tests.component.cycle.lasting_job",
        ["one", "two"],
        log=tmp_path / "job.log",
        timeout_s=600,
        niceness=19,
        cancel=cancel,
        on_progress=hear,
        killed_retries=2,
        environment={"TOLD": "yes"},
        cluster=RayCluster(address=address),
    )
    assert said == [{"module": "__main__", "arguments": ["one", "two"], "told": "yes", "niceness": 19}]
    assert result.tail.splitlines()[-1] == "its last words"
    assert (result.cancelled, result.exit_code, result.tries) == (True, 7, 1)


def test_a_sweep_on_a_cluster_goes_on_when_a_worker_is_killed(address: str, tmp_path: Path, spec: JobSpec) -> None:
    seen: list[tuple[int, int]] = []
    log = tmp_path / "trained" / "trial-0.log"

    def kill_the_first_worker() -> None:
        [(worker, _)] = _places(log, 1)
        os.kill(worker, signal.SIGKILL)
        seen.extend(_places(log, 2))

    killer = threading.Thread(target=kill_the_first_worker)
    killer.start()
    jobs = TrainingJobs(cluster=RayCluster(address=address))
    found = sweep(spec, trials=2, storage=tmp_path / "sweep.db", train=jobs, at_once=2)
    killer.join(300)
    assert [trial.number for trial in found.trials] == [0, 1], "what was killed was begun again, and is no failed trial"
    (worker, process), (other, _) = seen
    assert other != worker
    assert _gone(process), "a job does not outlive its worker"
    assert list(spec.out.iterdir()) == []
    alive = [trial.accuracy for trial in found.trials]
    assert min(alive) > 0.8


def test_a_cluster_that_is_away_is_named(tmp_path: Path, spec: JobSpec) -> None:
    jobs = TrainingJobs(cluster=RayCluster(address="127.0.0.1:9"))
    with pytest.raises(
        DependencyUnreachable, match=r"no Ray cluster answers at '127\.0\.0\.1:9' .* correct ray\.address"
    ):
        jobs(spec, Context())
