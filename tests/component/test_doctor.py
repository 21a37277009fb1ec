"""`perennial doctor` on a Triton that is closed, on one that is open, and on none."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perennial.ops.commands.doctor import State, engine_question, examine, examine_binary
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.processes import end_group, free_port
from perennial.ops.serving.server.installation import assemble
from perennial.ops.serving.server.server import ServerSpec, TritonServer
from perennial.ops.serving.tasks.text_classification import SIDE
from tests.component.triton_fixtures import ENGINE, MODEL, Place

pytestmark = pytest.mark.component
QUESTIONS = {MODEL: engine_question(SIDE, None)}
_RISKS = {
    "load and unload models",
    "model configuration",
    "shared memory",
    "log settings",
    "trace settings",
    f"engine {ENGINE}",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("doctor"))
    place.install((1,), router_instances=1)
    return place


@pytest.fixture(scope="module")
def closed(place: Place) -> Iterator[ServerSpec]:
    server = TritonServer(place.spec())
    server.start()
    try:
        yield server.spec
    finally:
        server.stop()


@pytest.fixture(scope="module")
def opened(place: Place) -> Iterator[tuple[str, str]]:
    """A Triton as somebody starts it who knows nothing of secrets: where its gRPC and its HTTP answer."""
    folder = place.root / "foreign"
    folder.mkdir()
    installation, grpc, http = assemble(folder), free_port(), free_port()
    command = [
        str(installation.binary),
        f"--model-repository={place.repository.root}",
        f"--backend-directory={installation.backends}",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--allow-metrics=false",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc}",
        "--http-address=127.0.0.1",
        f"--http-port={http}",
        f"--load-model={ENGINE}",
        f"--load-model={MODEL}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=installation.environment(), stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    control = TritonControl(f"127.0.0.1:{grpc}")
    try:
        control.wait_live(60)
        time.sleep(0.5)  # HTTP opens after gRPC
        yield f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}"
    finally:
        control.close()
        end_group(process.pid, grace_s=5.0)
        process.wait()


def test_the_embedded_triton_is_closed(closed):
    found = examine(QUESTIONS, closed.url, http=f"http://127.0.0.1:{closed.http_port}")
    assert {finding.what for finding in found} == {*_RISKS, "reachable from other machines"}
    assert [finding for finding in found if finding.state is not State.CLOSED] == []


def test_an_open_triton_is_told_with_what_to_do(opened):
    url, http = opened
    found = examine(QUESTIONS, url, http=http)
    wrong = [finding for finding in found if finding.wrong]
    assert {finding.what for finding in wrong} == _RISKS
    assert len(wrong) == 2 * len(_RISKS)
    assert all("perennial-secret=SECRET" in finding.todo or "PERENNIAL_SECRET" in finding.todo for finding in wrong)


def test_an_open_engine_is_asked_what_its_task_asks_of_a_version(place, opened):
    """Where the version lies at hand, the question is its task's probe and no row that a graph may refuse."""
    url, http = opened
    question = engine_question(SIDE, place.repository.root / ENGINE / "1")
    assert question["input_ids"].size > QUESTIONS[MODEL]["input_ids"].size == 1
    engines = [finding for finding in examine({MODEL: question}, url, http=http) if finding.what == f"engine {ENGINE}"]
    assert [finding.state for finding in engines] == [State.OPEN] * 2


def test_nothing_is_claimed_of_a_triton_that_does_not_answer():
    found = examine(QUESTIONS, f"127.0.0.1:{free_port()}")
    assert {finding.state for finding in found if finding.what in _RISKS} == {State.UNKNOWN}


def test_a_server_that_runs_from_the_unchanged_binary_is_told(closed, tmp_path):
    """A request of sixty bytes would end it; no copy could be written where a file has the folder's name."""
    assert examine_binary(closed.folder).state is State.CLOSED
    assert examine_binary(tmp_path).state is State.UNKNOWN
    ports = {name: free_port() for name in ("grpc_port", "http_port", "metrics_port")}
    server = TritonServer(replace(closed, folder=tmp_path / "triton", models=(), **ports))
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "bin").write_text("in its way")
    server.start()
    try:
        found = examine_binary(server.spec.folder)
        settings = "".join(f"{name} = {port}\n" for name, port in ports.items())
        done = _doctor(tmp_path, f'state = "."\n[triton]\n{settings}', "--json")
    finally:
        server.stop()
    assert found.wrong
    assert str(tmp_path / "triton" / "bin") in found.todo
    assert done.returncode == 1, done.stderr
    assert found.todo in [row["todo"] for row in json.loads(done.stdout)]


def _doctor(folder: Path, toml: str, *more: str) -> subprocess.CompletedProcess[str]:
    config = folder / "perennial.toml"
    config.write_text(toml)
    command = [sys.executable, "-m", "perennial.ops.cli", "doctor", "--config", str(config), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_ends_with_1_when_something_dangerous_is_open(tmp_path, opened, closed):
    url, http = opened
    done = _doctor(tmp_path, f'[models.{MODEL}]\n[triton]\nurl = "{url}"\n', "--json", "--http", http)
    assert done.returncode == 1, done.stderr
    assert sum(bool(row["wrong"]) for row in json.loads(done.stdout) if row["state"] == "open") == 2 * len(_RISKS)
    ports = f"grpc_port = {closed.grpc_port}\nhttp_port = {closed.http_port}\nmetrics_port = {closed.metrics_port}\n"
    done = _doctor(tmp_path, f"[models.{MODEL}]\n[triton]\n{ports}")
    assert done.returncode == 0, done.stderr
    assert "open" in done.stdout  # the metrics are
