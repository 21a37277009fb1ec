"""What a client of the embedded Triton may do, and what only the secret of its start opens, over gRPC."""

import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from perennial.exporters.text_classification.tokens import padded
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.processes import group_members
from perennial.ops.serving.secret import KEY, PARAMETER, VARIABLE
from perennial.ops.serving.server.server import TritonServer
from perennial.ops.serving.server_record import ServerRecord
from tests.component.triton_fixtures import ENGINE, MODEL, Place

pytestmark = [pytest.mark.component, pytest.mark.alone]

_EVIL = """
import triton_python_backend_utils as pb_utils
from pathlib import Path
Path({mark!r}).write_text("ran")
class TritonPythonModel:
    def execute(self, requests):
        return []
"""
_CLOSED: dict[str, Callable[[InferenceServerClient, dict[str, str]], Any]] = {
    "index": lambda client, headers: client.get_model_repository_index(headers=headers),
    "config": lambda client, headers: client.get_model_config(MODEL, headers=headers),
    "load": lambda client, headers: client.load_model(MODEL, headers=headers),
    "unload": lambda client, headers: client.unload_model("nobody", headers=headers),
    "shared memory status": lambda client, headers: client.get_system_shared_memory_status(headers=headers),
    "shared memory removed": lambda client, headers: client.unregister_system_shared_memory(headers=headers),
    "cuda shared memory status": lambda client, headers: client.get_cuda_shared_memory_status(headers=headers),
    "trace": lambda client, headers: client.get_trace_settings(headers=headers),
    "trace changed": lambda client, headers: client.update_trace_settings(settings={}, headers=headers),
    "log": lambda client, headers: client.get_log_settings(headers=headers),
    "log changed": lambda client, headers: client.update_log_settings({"log_verbose_level": 0}, headers=headers),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    place = Place(tmp_path_factory.mktemp("doors"))
    place.install((1,), router_instances=1)
    server = TritonServer(place.spec())
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def client(server: TritonServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.spec.url) as client:
        yield client


def _secret(server: TritonServer) -> str:
    return server.kept_secret()


@pytest.mark.parametrize("call", _CLOSED.values(), ids=_CLOSED.keys())
@pytest.mark.parametrize("headers", [{}, {f"triton-grpc-protocol-{KEY}": "guessed"}], ids=["none", "wrong"])
def test_what_clients_do_not_need_is_closed_without_the_secret(client, call, headers):
    with pytest.raises(InferenceServerException, match="restricted"):
        call(client, headers)


@pytest.mark.parametrize("call", _CLOSED.values(), ids=_CLOSED.keys())
def test_what_clients_do_not_need_is_open_to_the_secret(server, client, call):
    call(client, {f"triton-grpc-protocol-{KEY}": _secret(server)})


def test_a_stranger_cannot_have_code_of_his_own_loaded(server, client, tmp_path):
    mark = tmp_path / "ran"
    config = '{"name": "evil", "backend": "python", "max_batch_size": 0}'
    code = {"file:1/model.py": _EVIL.format(mark=str(mark)).encode()}
    with pytest.raises(InferenceServerException, match="restricted"):
        client.load_model("evil", config=config, files=code)
    assert not mark.exists()
    assert _answer(server) == "card_issue"


def test_a_stranger_cannot_register_the_memory_that_the_server_shares_with_its_processes(server, client):
    region = next(iter(server.segments()))
    with pytest.raises(InferenceServerException, match="restricted"):
        client.register_system_shared_memory("stolen", f"/{region}", 1024)


@pytest.mark.parametrize("output", ["LABEL", "PREDICTION_ID", "LABELS", "SCORES", "CONFIDENCE", "VERSION"])
def test_asking_for_the_classes_of_an_output_ends_nothing(server, client, output):
    before = server.pid
    text = InferInput("TEXT", [1, 1], "BYTES")
    text.set_data_from_numpy(np.array([[b"my card was stolen"]], dtype=object))
    output_of_classes = InferRequestedOutput(output, class_count=2)
    assert client.infer(MODEL, [text], outputs=[output_of_classes]).as_numpy(output).shape[0] == 1
    assert _answer(server) == "card_issue"
    assert server.pid == before


def _ask_engine(client: InferenceServerClient, **more: Any) -> Any:
    inputs = []
    for name in ("input_ids", "attention_mask"):
        inputs.append(InferInput(name, [1, 2], "INT64"))
        inputs[-1].set_data_from_numpy(np.ones((1, 2), dtype=np.int64))
    return client.infer(ENGINE, inputs, **more)


@pytest.mark.parametrize(
    "parameters", [None, {PARAMETER: ""}, {PARAMETER: "guessed"}, {PARAMETER: True}, {PARAMETER: 7}, {"other": "x"}]
)
def test_an_engine_answers_nobody_who_does_not_know_the_secret(client, parameters):
    with pytest.raises(InferenceServerException, match="answers the routers alone") as refused:
        _ask_engine(client, parameters=parameters)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_an_engine_answers_the_control_process_and_the_routers(server, client):
    assert _ask_engine(client, parameters={PARAMETER: _secret(server)}).as_numpy("logits").shape == (1, 3)
    assert _answer(server) == "card_issue"


def _answer(server: TritonServer) -> str:
    with PerennialClient(server.spec.url, MODEL) as asking:
        return asking.predict(["card lost"])[0].label


def test_a_client_keeps_health_metadata_inference_and_statistics(server, client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.get_server_metadata().name == "triton"
    assert client.get_model_metadata(MODEL).name == MODEL
    assert client.get_inference_statistics(MODEL).model_stats[0].name == MODEL
    assert _answer(server) == "card_issue"


def test_the_secret_stands_nowhere_but_in_the_owners_file(server):
    secret = _secret(server)
    assert len(secret) >= 32
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert str(server.spec.folder) in shown
    assert secret not in shown
    folder = server.spec.folder
    holding = [path.name for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert holding == ["server.json"]
    assert stat.S_IMODE((folder / "server.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert secret not in repr(ServerRecord.read(folder / "server.json"))
    assert server.pid is not None
    for pid in group_members(server.pid):
        assert f"{VARIABLE}={secret}".encode() in Path(f"/proc/{pid}/environ").read_bytes()


def test_each_start_makes_another_secret_and_a_control_that_lives_on_uses_it(server):
    control, before = TritonControl(server.spec.url, secret=server.kept_secret), _secret(server)
    try:
        control.index()
        server.kill()
        server.start()
        assert _secret(server) not in ("", before)
        assert control.index()
        assert control.infer_engine(ENGINE, 1, padded([[1, 1]]))["logits"].shape == (1, 3)
    finally:
        control.close()


@pytest.mark.parametrize("kind", ["BYTES", "UINT8", "INT64", "FP16", "NOPE", ""])
@pytest.mark.parametrize("shape", [[2**62], [1, 1, 2**62], [2**31, 2**31], [-1, -1], [0], []], ids=str)
def test_a_shape_that_asks_for_all_memory_is_refused_over_grpc_too(server, client, shape, kind):
    for content in (b"\4\0\0\0card", b""):
        tensor = InferInput("TEXT", shape, kind)
        tensor._raw_content = content
        with pytest.raises(InferenceServerException) as refused:
            client.infer(MODEL, [tensor], client_timeout=10)
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert _answer(server) == "card_issue"
