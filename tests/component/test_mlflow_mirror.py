"""Versions as they are here are versions, runs and aliases in a real MLflow."""

import json
import os
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.records import Route
from perennial.ops.cli.main import app
from perennial.ops.commands.mlflow_mirror import mirror_model
from perennial.ops.ledger import VersionRow, VersionState, version_card
from tests.component.api_server import RunningApi, answering

pytestmark = [pytest.mark.component, pytest.mark.filterwarnings("ignore:.*noload:DeprecationWarning")]  # MLflow's own


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with answering(tmp_path_factory.mktemp("mlflow")) as api:
        yield api


def test_versions_runs_and_aliases_are_mirrored_once_and_follow(
    site: RunningApi, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parts = site.parts
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    metrics = {"training": {"holdout_accuracy": 0.91, "holdout_rows": 40.0}, "gate": {"accepted": True, "reasons": []}}
    row = VersionRow(
        model="intent",
        version=5,
        parent=2,
        learner="kernel_lda",
        card=version_card(labels=("card", "loan")),
        metrics=metrics,
        lineage={"reason": "drift: alert", "rows": 120},
    )
    parts.ledger.add_version(row)  # 3 and 4 never came to be
    told = mirror_model(parts, "intent", uri)
    assert (told.added, told.versions, told.aliases) == ((1, 2, 5), 3, {"champion": "2", "previous": "1"})

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    seen = client.get_model_version("intent", "3")
    assert (seen.tags["perennial.version"], seen.tags["perennial.state"]) == ("5", "training")
    assert seen.source == parts.workspace.bundle("intent", 5).resolve().as_uri()
    run = client.get_run(seen.run_id)
    assert run.data.metrics == {"training.holdout_accuracy": 0.91, "training.holdout_rows": 40.0, "gate.accepted": 1.0}
    assert run.data.params["reason"] == "drift: alert"
    assert (run.data.params["parent"], run.data.params["classes"]) == ("2", "2")
    assert run.info.status == "FINISHED"
    assert client.get_experiment_by_name("perennial/intent") is not None
    assert client.get_model_version_by_alias("intent", "champion").tags["perennial.version"] == "2"

    parts.ledger.set_version_state("intent", 5, VersionState.CHAMPION)
    route = Route(model="intent", epoch=2, champion=5, resident=(5,))
    parts.ledger.set_route(route, expected_epoch=1, actor="test", reason="better")
    command = ["model", "mirror", uri, "--config", str(parts.config)]
    plan = json.loads(CliRunner().invoke(app, [*command, "--dry-run"]).stdout)
    assert plan["versions"] == [1, 2, 5]
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert (json.loads(again.stdout)["added"], json.loads(again.stdout)["aliases"]) == ([], {"champion": "3"})
    model = client.get_registered_model("intent")
    assert {name: str(number) for name, number in model.aliases.items()} == {"champion": "3"}
    assert client.get_model_version("intent", "3").tags["perennial.state"] == "champion"


@pytest.mark.parametrize("uri", ["file:///proc/nowhere", "http://127.0.0.1:9"])
def test_a_store_that_cannot_be_had_is_told(site: RunningApi, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(DependencyUnreachable, match="does not take it"):
        mirror_model(site.parts, "intent", uri)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true", "nothing is told to anybody else"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "30"
