"""Which jobs of a model go to the workers of a cluster, where the settings name one."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import ConfigurationError, PublishFailed, TrainingFailed
from perennial.continual.jobs.process import JobResult, run_job
from perennial.continual.jobs.ray_cluster import RayCluster, RayOrder
from perennial.continual.jobs.warm import WarmJobs
from perennial.continual.records import Example, Split
from perennial.ops.comparing import comparison
from perennial.ops.ledger import Ledger, StoredExample
from perennial.ops.making import version_maker
from perennial.ops.making.challenger import ChallengerMaker
from perennial.ops.making.rows import TrainingRows
from perennial.ops.making.version_maker import PROVING, TRAINING
from perennial.ops.settings import Settings
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace

FAILED = JobResult(exit_code=1, cancelled=False, timed_out=False, tail="of the test")
ROW = Example(text="text", label="a", at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("address", ["", "10.0.0.5:6379"])
def test_trainings_and_replays_go_to_the_cluster_and_exports_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    models = {"intent": {"learning": {"encoder": "base", "reuse_logged_embeddings": False}}}
    settings = Settings(
        state=tmp_path / "state",
        repository=tmp_path / "repository",
        models=models,
        ray={"address": address, "cpus": 4, "gpus": 0.5},
    )
    taken: dict[str, RayCluster | None] = {}

    def job(module: str, arguments: list[str], *, log: Path, cluster: RayCluster | None = None, **_: Any) -> JobResult:
        taken[module] = cluster
        log.touch()
        return FAILED

    for room in (version_maker, comparison):
        monkeypatch.setattr(room, "run_job", job)
    rows = TrainingRows(fresh=(StoredExample(id=1, example=ROW, split=Split.TRAIN),), replay=(), learnt=(1,))
    workspace = Workspace(settings)
    with Ledger.open(settings.ledger_address) as ledger:
        ledger.register_model("intent", {})
        maker = ChallengerMaker(ledger, workspace, "intent", warm=WarmJobs([]))
        with pytest.raises(TrainingFailed, match="of the test"):
            maker.train(2, None, rows, lambda _: None)
        maker._run(PROVING, tmp_path, "export", 1.0, lambda _: None)
        traffic = traffic_of(workspace, "intent")
        with pytest.raises(PublishFailed, match="of the test"):
            comparison.replay_shadow(
                ledger, workspace, "intent", traffic, champion=1, challenger=2, rows=5, cancel=threading.Event()
            )
    cluster = RayCluster(address=address, cpus=4, gpus=0.5) if address else None
    assert taken == {TRAINING: cluster, PROVING: None, "perennial.ops.comparing.shadow": cluster}
    assert set(maker._waiting) == ({PROVING} if address else {TRAINING, PROVING}), "nothing works ahead for a worker"


def test_a_worker_is_told_the_job_and_the_variables_that_belong_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []

    def begin(argv: list[str], errors: object, environment: dict[str, str]) -> None:
        begun.append(argv)
        assert environment["TOLD"] == "a secret"
        raise ConfigurationError("enough")

    monkeypatch.setattr("perennial.continual.jobs.process._ColdJob", begin)
    cluster = RayCluster(address="auto")
    with pytest.raises(ConfigurationError, match="enough"):
        run_job(
            "m", ["a"], log=tmp_path / "log", timeout_s=1, niceness=3, environment={"TOLD": "a secret"}, cluster=cluster
        )
    [argv] = begun
    named = ("HF_HUB_OFFLINE", "TOLD")
    assert RayOrder.from_json(argv[-1]) == RayOrder(
        cluster=cluster, module="m", arguments=("a",), niceness=3, named=named
    )
    assert "a secret" not in json.dumps(argv), "anybody on this machine reads the arguments of a process"


def test_a_cluster_without_an_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="give an address such as HOST:6379"):
        RayCluster(address="")
