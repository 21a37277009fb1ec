"""Versions as they are here are versions, runs and aliases in a real MLflow; a classifier out of one is served here."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, DataError, DependencyUnreachable
from perennial.continual.learning.adoption import Adoptable
from perennial.continual.records import Route
from perennial.ops.cli.main import app
from perennial.ops.commands.adopted_version import AdoptedVersion, read_adoptable
from perennial.ops.commands.mlflow_mirror import mirror_model
from perennial.ops.commands.mlflow_model import is_registered, registered_classifier, registered_name
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.store.workspace import Workspace
from tests.component.api_server import RunningApi, answering
from tests.component.encoders.tiny import write_classifier

pytestmark = [pytest.mark.component, pytest.mark.filterwarnings("ignore:.*noload:DeprecationWarning")]  # MLflow's own
LABELS = ["down", "涨", "🙂"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An empty store, whose tables take their time to be made."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with answering(tmp_path_factory.mktemp("mlflow")) as api:
        yield api


def test_versions_runs_and_aliases_are_mirrored_once_and_follow(site: RunningApi, store: str) -> None:
    parts, uri = site.parts, store
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


class _Killed(BaseException):
    """What nothing catches."""


@pytest.mark.parametrize("after", ["create_run", "log_param", "log_metric", "set_terminated", "create_model_version"])
def test_a_mirroring_that_was_killed_is_gone_on_with_in_the_same_run(
    site: RunningApi, store: str, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """Killed when that step of the version is done; the next one and the one after it add nothing twice."""
    model = f"torn-{after}"
    site.parts.ledger.register_model(model, {})
    row = VersionRow(model=model, version=3, card=version_card(labels=("a", "b")), metrics={"figures": {"f1": 0.5}})
    site.parts.ledger.add_version(row)
    with monkeypatch.context() as torn:
        whole = getattr(MlflowClient, after)

        def step(*given: object, **named: object) -> None:
            whole(*given, **named)
            raise _Killed

        torn.setattr(MlflowClient, after, step)
        with pytest.raises(_Killed):
            mirror_model(site.parts, model, store)
    assert mirror_model(site.parts, model, store).added == (() if after == "create_model_version" else (3,))
    assert mirror_model(site.parts, model, store).added == ()
    client = MlflowClient(tracking_uri=store, registry_uri=store)
    (run,) = client.search_runs([client.get_experiment_by_name(f"perennial/{model}").experiment_id])
    assert (run.info.status, run.data.metrics, run.data.params["classes"]) == ("FINISHED", {"figures.f1": 0.5}, "2")
    assert len(client.get_metric_history(run.info.run_id, "figures.f1")) == 1
    (version,) = client.search_model_versions(f"name = '{model}'")
    assert version.run_id == run.info.run_id


@pytest.mark.parametrize("uri", ["file:///proc/nowhere", "http://127.0.0.1:9"])
def test_a_store_that_cannot_be_had_is_told(site: RunningApi, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(DependencyUnreachable, match="does not take it"):
        mirror_model(site.parts, "intent", uri)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true", "nothing is told to anybody else"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "30"


@pytest.fixture(scope="module")
def registered(store: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A classifier in two parts, one without a tokenizer, one of another kind and two that are no good."""
    folder = tmp_path_factory.mktemp("theirs")
    given = write_classifier("roberta", folder / "given", LABELS)
    client = MlflowClient(tracking_uri=store, registry_uri=store)
    for name in ("mood", "torn", "elsewhere", "other", "broken"):
        client.create_registered_model(name)
        client.create_model_version(name, _written(given, folder / name, name).as_uri())
    client.set_registered_model_alias("mood", "live", "1")


@pytest.fixture
def theirs(registered: None, store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store that the environment names."""
    del registered
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(None)
    yield
    mlflow.set_tracking_uri(None)


def _written(given: Path, folder: Path, kind: str) -> Path:
    """What `mlflow.transformers.log_model` writes of a network and its tokenizer, or what is not that."""
    binary = {"elsewhere": "../../given"}.get(kind, "model")
    flavor = {"transformers": {"model_binary": binary, "components": ["tokenizer"], "task": "text-classification"}}
    flavors = {"sklearn": {"pickled_model": "model.pkl"}} if kind == "other" else flavor
    for part in ("model", "components/tokenizer"):
        (folder / part).mkdir(parents=True)
    for file in given.iterdir():
        words = "token" in file.name
        if not (kind == "torn" and words):
            (folder / ("components/tokenizer" if words else "model") / file.name).write_bytes(file.read_bytes())
    if kind == "torn":
        (folder / "components/tokenizer").rmdir()
    document = "flavors: [" if kind == "broken" else json.dumps({"flavors": flavors, "artifact_path": kind})
    (folder / "MLmodel").write_text(document, encoding="utf-8")
    return folder


@pytest.mark.parametrize("place", ["models:/mood/1", "models:/mood@live"])
def test_a_registered_classifier_is_taken_over_under_its_name(theirs: None, tmp_path: Path, place: str) -> None:
    with registered_classifier(place) as folder:
        assert Adoptable.read(folder, max_length=24).labels == tuple(LABELS)
    config = tmp_path / "perennial.toml"
    told = CliRunner().invoke(app, ["init", "--model", place, "--dry-run", "--config", str(config)])
    assert told.exit_code == 0, told.output
    plan = json.loads(told.stdout)
    assert (plan["model"], plan["labels"], plan["then"]) == ("mood", LABELS, "publish version 1")
    assert not config.exists()


def test_a_version_that_was_fetched_is_known_by_its_address(
    theirs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = []

    def adopted(
        ledger: Ledger, workspace: Workspace, model: str, folder: Path, *_: object, source: str
    ) -> AdoptedVersion:
        cards.append(read_adoptable(workspace, model, folder, source=source).adopt(tmp_path / "trained"))
        return AdoptedVersion(version=1, bundle=folder, labels=cards[0].labels, max_length=cards[0].max_length)

    monkeypatch.setattr("perennial.ops.commands.adopted_version.adopted_version", adopted)
    config = tmp_path / "perennial.toml"
    made = CliRunner().invoke(app, ["init", "--model", "models:/mood@live", "--config", str(config)])
    assert made.exit_code == 0, made.output
    assert [card.settings for card in cards] == [{"adopted_from": "models:/mood@live"}]


@pytest.mark.parametrize(
    ("place", "error", "reason"),
    [
        ("models:/torn/1", DataError, "no folder 'components/tokenizer'"),
        ("models:/elsewhere/1", DataError, "no folder '../../given'"),
        ("models:/other/1", DataError, "flavours sklearn; a classifier of the flavour transformers or onnx"),
        ("models:/broken/1", DataError, "not a model of MLflow"),
        ("models:/mood/7", DependencyUnreachable, "MLflow does not give models:/mood/7"),
        ("models:/nobody/1", DependencyUnreachable, "MLflow does not give models:/nobody/1"),
    ],
)
def test_what_is_no_classifier_is_refused(theirs: None, place: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason), registered_classifier(place):
        pytest.fail("it was fetched")


def test_without_a_named_store_none_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    with pytest.raises(ConfigurationError, match="set MLFLOW_TRACKING_URI"), registered_classifier("models:/mood/1"):
        pytest.fail("it was fetched")
    assert not list(tmp_path.iterdir())


def test_addresses_and_names() -> None:
    assert not is_registered("folder/models:/x")
    assert registered_name("models:/mood/3") == registered_name("models:/mood@live") == "mood"
    assert registered_name("runs:/0a1b/classifier") == "classifier"
