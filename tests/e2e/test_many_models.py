"""Twenty models in one workspace: all are served, one drifts and is retrained, and the broken ones harm no other."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, PerennialError
from perennial.continual.records import Example, Route
from perennial.ops.app.service import Service
from perennial.ops.app.wiring import open_parts, server_spec
from perennial.ops.cli.main import app
from perennial.ops.commands.first_version import first_version
from perennial.ops.ledger import FeedbackRow, VersionRow, VersionState, version_card
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.processes import free_port
from perennial.ops.store.settings_file import add_model
from tests.component.triton_fixtures import LABELS, write_bundle
from tests.e2e.conftest import requests_about

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
_TOML = """
[triton]
grpc_port = {grpc}
http_port = {http}
metrics_port = {metrics}
router_instances = 1
engine_threads = 1
[api]
port = {api}
[schedule]
watch_s = 3.0
retrain_check_s = 3.0
reconcile_s = 5.0
compact_s = 600
retention_s = 600
report_s = 600
notify_s = 600
"""
_LEARNT = """
[models.{model}.learning]
encoder = "{encoder}"
max_length = 32
replay_rows = 60
[models.{model}.learning.params]
features = 256
lexical = 256
[models.{model}.drift]
window_rows = 100
reference_rows = 200
cooldown_requests = 100
[models.{model}.cycle]
min_fresh_rows = 5
probation_s = 0
[models.{model}.policy]
kind = "drift"
limits = {{ cooldown_s = 1.0, min_labels = 40 }}
"""
_NAMES = [f"m{number:02}" for number in range(20)]
_KNOWN = ["card", "loan", "trip"]
_CHANGED = ["fees", "fees", "fees", "card"]
DRIFTS, WAITS, DAMAGED, MISSET, UNROUTED = _NAMES[:5]
_SOUND = [name for name in _NAMES if name not in {DAMAGED, UNROUTED}]


class City:
    """The workspace, its service, and a client that never stops asking a sound model."""

    def __init__(self, root: Path, encoder: Path) -> None:
        self.root, self.config, self.api = root, root / "perennial.toml", free_port()
        ports = {name: free_port() for name in ("grpc", "http", "metrics")}
        text = _TOML.format(**ports, api=self.api)
        for name in _NAMES:
            learns = name in {DRIFTS, WAITS}
            text += _LEARNT.format(model=name, encoder=encoder) if learns else f"[models.{name}]\n"
        self.config.write_text(text + f"[models.{MISSET}.learning]\nholdout_share = 0.9\n")
        self.bundle = write_bundle(root / "bundle", 1)
        self.parts = open_parts(self.config)
        for name in _NAMES:
            if name != DRIFTS:
                self.publish(name)
        now = datetime.now(UTC)
        rows = [Example(text=text, label=label, at=now) for text, label in requests_about(_KNOWN, 300, seed=1)]
        first_version(self.parts.ledger, self.parts.workspace, DRIFTS, rows)
        engine = self.parts.workspace.bundle(DAMAGED, 1) / "model.onnx"
        engine.write_bytes(engine.read_bytes()[:-20])
        self.service = Service(self.parts)

    def publish(self, name: str) -> None:
        """A first version, by its files and its rows."""
        shutil.copytree(self.bundle, self.parts.workspace.bundle(name, 1))
        ledger = self.parts.ledger
        ledger.register_model(name, {})
        ledger.add_version(
            VersionRow(model=name, version=1, state=VersionState.CHAMPION, card=version_card(labels=LABELS))
        )
        if name != UNROUTED:
            first = Route(model=name, epoch=1, champion=1, resident=(1,))
            ledger.set_route(first, expected_epoch=0, actor="test", reason="first")

    def client(self, name: str) -> PerennialClient:
        return PerennialClient(server_spec(self.parts.settings).url, name, timeout_s=20.0)

    def answers(self, name: str) -> int | None:
        with self.client(name) as client:
            try:
                return client.predict(["card lost"])[0].version
            except PerennialError:
                return None

    def get(self, path: str) -> Any:
        return httpx.get(f"http://127.0.0.1:{self.api}{path}", timeout=20).json()

    def cli(self, *words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--config", str(self.config)])
        if done.exception is not None:
            raise done.exception
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Iterator[City]:
    made = City(tmp_path_factory.mktemp("city"), tiny_encoder)
    failed: list[str] = []
    over = threading.Event()

    def ask() -> None:
        with made.client(_NAMES[-1]) as client:
            while not over.wait(0.1):
                try:
                    client.predict(["money"])
                except PerennialError as exc:
                    failed.append(str(exc))

    asking = threading.Thread(target=ask)
    try:
        made.service.start()
        _until(lambda: all(made.answers(name) == 1 for name in _SOUND), 120)
        asking.start()
        yield made
    finally:
        over.set()
        if asking.is_alive():
            asking.join()
        made.service.stop()
    assert failed == []


def _until(true: Callable[[], bool], within_s: float) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"not so within {within_s} s"
        time.sleep(0.2)


def _jobs_of(city: City, model: str) -> set[str]:
    parts = (part.split(":") for part in city.get("/healthz")["parts"])
    return {part[1] for part in parts if part[0] == "job" and part[2] == model}


def test_the_broken_ones_are_named_and_the_others_are_well(city: City) -> None:
    assert city.answers(DAMAGED) is None
    assert city.answers(UNROUTED) is None
    health = city.get("/healthz")
    assert {name for name, state in health["models"].items() if not state["healthy"]} == {DAMAGED, MISSET}
    assert {f"model:{DAMAGED}", f"model:{MISSET}"} <= set(health["unhealthy"])
    assert {"compact", "retention", "reconcile", "notify"} == _jobs_of(city, MISSET)
    url = city.parts.controls[0].url
    assert f"{DAMAGED}_engine" in health["models"][DAMAGED]["wrong"][url]
    assert f"{DAMAGED}: " in health["triton"]["servers"][url]
    assert "holdout_share" in health["models"][MISSET]["loop"]
    serving = city.get("/healthz/ready")["serving"]
    assert {name for name, state in serving.items() if state == "ok"} == set(_SOUND)
    assert health["triton"]["restarts"] == 0


def test_commands_take_a_model_by_its_name(city: City) -> None:
    assert [row["version"] for row in city.cli("model", "list", "--json", "--model", "m07")] == [1]
    assert city.cli("predict", "card lost", "--model", "m08")[0]["label"] == LABELS[0]
    with pytest.raises(ConfigurationError, match="20 models are configured, and --model names none; choose m00, m01"):
        city.cli("model", "list", "--json")
    with pytest.raises(ConfigurationError, match=f"settings of model {MISSET} cannot be used"):
        city.cli("retrain", "--model", MISSET)
    assert [row["version"] for row in city.cli("model", "list", "--json", "--model", MISSET)] == [1]
    body = {"labels": [{"text": "a card", "label": "card_issue"}]}
    refused = httpx.post(f"http://127.0.0.1:{city.api}/v1/feedback", json=body, timeout=20)
    assert (refused.status_code, "there are 20" in refused.text) == (422, True)


def test_one_drifts_and_is_retrained_while_another_waits_its_turn(city: City) -> None:
    with city.client(DRIFTS) as client:
        for text, _ in requests_about(_KNOWN, 250, seed=2):
            client.predict([text])
        for seed in range(3, 9):  # a window in a row is not always an alert
            answered = [(client.predict([text])[0], label) for text, label in requests_about(_CHANGED, 200, seed)]
            now = datetime.now(UTC)
            rows = [FeedbackRow(prediction_id=answer.prediction_id, label=label, at=now) for answer, label in answered]
            city.parts.ledger.add_feedback(DRIFTS, rows)
            with suppress(AssertionError):
                _until(lambda: (city.get(f"/v1/models/{DRIFTS}")["training"] or {}).get("works") is True, 15)
                break
    assert "drift" in city.get(f"/v1/models/{DRIFTS}")["cycle"]["reason"]

    reply = httpx.post(f"http://127.0.0.1:{city.api}/v1/models/{WAITS}/retrain", json={}, timeout=20)
    assert reply.status_code == 202
    _until(lambda: (city.get(f"/v1/models/{WAITS}")["training"] or {}).get("behind") == [DRIFTS], 20)
    assert city.parts.ledger.journal_of(reply.json()["cycle"]) == ()
    assert city.cli("rollout", "abort", "--model", WAITS)["outcome"] == "done"
    _until(lambda: city.get(f"/v1/models/{WAITS}")["cycle"] is None, 20)

    cycles = lambda: city.get(f"/v1/models/{DRIFTS}/cycles")  # noqa: E731
    _until(lambda: any(cycle["closed_at"] for cycle in cycles()), 200)
    assert cycles()[-1]["outcome"] == "promoted", cycles()[-1]["note"]
    _until(lambda: city.answers(DRIFTS) == 2, 20)
    assert {city.answers(name) for name in _SOUND if name != DRIFTS} == {1}


def test_a_model_comes_and_goes_while_the_service_runs(city: City) -> None:
    city.publish("m20")
    assert add_model(city.config, "m20")
    _until(lambda: city.answers("m20") == 1, 60)
    _until(lambda: bool(city.get("/healthz")["models"]["m20"] == {"healthy": True}), 20)  # the next probe tells
    assert "job:watch:m20" in city.get("/healthz")["parts"]
    removed = city.cli("model", "remove", "m20", "--although-it-answers")
    assert (removed["model"], removed["champion"]) == ("m20", 1)
    _until(lambda: city.answers("m20") is None, 60)
    _until(lambda: "m20" not in city.get("/healthz")["models"], 20)
    _until(lambda: _jobs_of(city, "m20") == {"compact", "retention"}, 20)  # its rows grow old all the same
    assert city.parts.ledger.versions("m20")[0].version == 1
    assert {city.answers(name) for name in _SOUND if name != DRIFTS} == {1}
    assert city.get("/healthz")["triton"]["restarts"] == 0
