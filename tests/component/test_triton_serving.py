"""The served contract, on the real embedded Triton."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from perennial.client import AsyncClient, BadInput, Client, Places
from perennial.client import NotFound as ClientNotFound
from perennial.continual.errors import BundleRejected, DependencyUnreachable, NotFound, PublishFailed
from perennial.exporters.golden import Golden
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.server.server import TritonServer
from perennial.ops.serving.server.stubs import stubs_of
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.collector import Collected, collect
from tests.component.databases import BACKENDS, fresh_url
from tests.component.strange_texts import TEXTS
from tests.component.triton_fixtures import ENGINE, LABELS, MODEL, Place
from tests.unit.deploy.queries import is_of_triton, labels_wrong, series_asked, series_told

pytestmark = [pytest.mark.component, pytest.mark.paired]
_PATIENCE_S = 60  # an answer that takes longer is none, on however busy a machine


class Served:
    """One server for the module, with versions 1 and 2 loaded."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.server = TritonServer(place.spec())
        self.epoch = 1

    def flip(self, **route: Any) -> None:
        self.epoch += 1
        self.place.route(epoch=self.epoch, **route)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = Place(tmp_path_factory.mktemp("triton"))
    place.install((1, 2), limit=1.0)
    served = Served(place)
    served.server.start()
    try:
        yield served
    finally:
        served.server.stop()


@pytest.fixture(autouse=True)
def _champion_is_one(served: Served) -> None:
    served.flip(champion=1, resident=(1, 2))


@pytest.fixture
def client(served: Served) -> Iterator[PerennialClient]:
    with PerennialClient(served.server.spec.url, MODEL, timeout_s=_PATIENCE_S) as client:
        yield client


@pytest.fixture
def control(served: Served) -> Iterator[TritonControl]:
    control = TritonControl(served.server.spec.url, secret=served.server.kept_secret, timeout_s=_PATIENCE_S)
    yield control
    control.close()


def _post(served: Served, body: dict[str, Any], model: str = MODEL) -> httpx.Response:
    url = f"http://127.0.0.1:{served.server.spec.http_port}/v2/models/{model}/infer"
    return httpx.post(url, json=body, timeout=_PATIENCE_S)


def _text(*texts: str, **more: Any) -> dict[str, Any]:
    tensor = {"name": "TEXT", "shape": [len(texts), 1], "datatype": "BYTES", "data": list(texts)}
    return {"inputs": [tensor], **more}


def _raw_grpc(served: Served, rows: list[bytes]) -> Any:
    tensor = InferInput("TEXT", [len(rows), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[row] for row in rows], dtype=object))
    with InferenceServerClient(served.server.spec.url) as client:
        return client.infer(MODEL, [tensor], client_timeout=_PATIENCE_S)


def test_grpc_client_gets_answers_in_order(client):
    answers = client.predict(["card lost", "money transfer", "hello"])
    assert [answer.label for answer in answers] == list(LABELS)
    assert {answer.version for answer in answers} == {1}
    assert len({answer.prediction_id for answer in answers}) == 3
    assert all(answer.scores is None for answer in answers)


def test_the_clients_own_distribution_asks_it_too(served):
    places, texts = Places(grpc=served.server.spec.url, timeout_s=_PATIENCE_S), ["card lost", "money transfer", "hello"]
    with Client(MODEL, places, rows_at_once=32) as client:
        answer = client.predict("card lost", key="me", scores=True, known=True)
        assert (answer.label, answer.known, max(answer.scores, key=answer.scores.get)) == (LABELS[0], True, LABELS[0])
        assert [one.label for one in client.predict_many(texts * 30)] == list(LABELS) * 30
        with pytest.raises(BadInput, match="half of a surrogate pair"):
            client.predict("\ud800")
    with Client("nobody", places) as stranger, pytest.raises(ClientNotFound, match="nobody"):
        stranger.predict("card lost")

    async def at_once():
        async with AsyncClient(MODEL, places) as client:
            return await asyncio.gather(*(client.predict(text) for text in texts * 5))

    assert [one.label for one in asyncio.run(at_once())] == list(LABELS) * 5
    (row,) = TrafficLog(served.place.traffic).lookup([answer.prediction_id], columns=["key", "text"]).to_pylist()
    assert (row["key"], row["text"]) == ("me", "card lost")


def test_tritons_series_are_those_that_rules_and_dashboard_read(client, served):
    client.predict(["card lost"])
    exposition = httpx.get(f"http://127.0.0.1:{served.server.spec.metrics_port}/metrics", timeout=_PATIENCE_S).text
    assert {name for name in series_asked() if is_of_triton(name)} - series_told(exposition) == set()
    assert labels_wrong(exposition) == []
    assert f'nv_inference_request_success{{model="{ENGINE}",version="1"}}' in exposition


def test_scores_come_when_they_are_asked_for(client):
    answer = client.predict(["card lost"], scores=True)[0]
    assert answer.scores is not None
    assert set(answer.scores) == set(LABELS)
    assert sum(answer.scores.values()) == pytest.approx(1, abs=1e-5)
    assert answer.scores[answer.label] == pytest.approx(answer.confidence)


def test_whether_a_text_is_of_any_class_is_told_when_it_is_asked_for_and_logged(client, served):
    texts = ["card lost", "something else", "hello"]
    answers = client.predict(texts, known=True)
    assert [answer.known for answer in answers] == [True, False, True]
    assert all(answer.scores is None for answer in answers)
    assert [answer.known for answer in client.predict(texts)] == [None] * 3
    response = _post(served, _text(*texts, outputs=[{"name": "KNOWN"}])).json()
    assert [(one["name"], one["datatype"], one["data"]) for one in response["outputs"]] == [
        ("KNOWN", "BOOL", [True, False, True])
    ]
    ids = [answer.prediction_id for answer in answers]
    logged = TrafficLog(served.place.traffic).lookup(ids, columns=["prediction_id", "known"]).to_pylist()
    assert {row["prediction_id"]: row["known"] for row in logged} == dict(zip(ids, [True, False, True], strict=True))


def test_of_a_version_that_cannot_tell_every_text_is_of_a_class(client, served):
    served.flip(champion=2, resident=(1, 2))
    (answer,) = client.predict(["something else"], known=True)
    assert (answer.version, answer.known) == (2, True)
    logged = TrafficLog(served.place.traffic).lookup([answer.prediction_id], columns=["known"])
    assert logged["known"].to_pylist() == [None]


def test_http_without_outputs_gives_the_usual_four(served):
    response = _post(served, _text("hello"))
    assert response.status_code == 200
    outputs = {tensor["name"]: tensor for tensor in response.json()["outputs"]}
    assert set(outputs) == {"LABEL", "CONFIDENCE", "VERSION", "PREDICTION_ID"}
    assert outputs["LABEL"]["data"] == ["greeting"]
    assert outputs["VERSION"]["shape"] == [1, 1]


def test_http_gives_only_the_outputs_asked_for(served):
    response = _post(served, _text("hello", outputs=[{"name": "LABELS"}, {"name": "SCORES"}]))
    assert {tensor["name"] for tensor in response.json()["outputs"]} == {"SCORES", "LABELS"}


def test_plain_http_as_curl_sends_it(served):
    connection = http.client.HTTPConnection("127.0.0.1", served.server.spec.http_port, timeout=_PATIENCE_S)
    connection.request("POST", f"/v2/models/{MODEL}/infer", body=json.dumps(_text("card")))
    response = connection.getresponse()
    assert response.status == 200
    assert json.loads(response.read())["outputs"][0]["data"] == ["card_issue"]
    connection.close()


def test_empty_and_huge_texts_are_answered(client):
    assert [answer.version for answer in client.predict(["", "card " * 20_000])] == [1, 1]


def test_invalid_utf8_is_refused_by_row_and_byte_and_harms_nobody_else(served, client):
    with pytest.raises(InferenceServerException, match=r"TEXT of row 1 is not UTF-8: byte 0xff at offset 2"):
        _raw_grpc(served, [b"fine", b"ab\xffc"])
    assert client.predict(["hello"])[0].label == "greeting"


def test_a_key_too_long_is_refused(client):
    with pytest.raises(PublishFailed, match="KEY of row 0"):
        client.predict(["hello"], keys=["k" * 5_000])


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ({"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "INT32", "data": [1]}]}, "data-type|datatype"),
        ({"inputs": [{"name": "TEXT", "shape": [1, 2], "datatype": "BYTES", "data": ["a", "b"]}]}, "shape"),
        ({"inputs": [{"name": "OTHER", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]}]}, "OTHER|TEXT"),
    ],
)
def test_wrong_type_shape_and_name_are_clear_errors(served, client, body, match):
    response = _post(served, body)
    assert response.status_code == 400
    assert any(word in response.json()["error"] for word in match.split("|"))
    assert client.predict(["hello"])[0].label == "greeting"


def _tensor(name: str, *rows: bytes, shape: list[int] | None = None) -> InferInput:
    tensor = InferInput(name, shape or [len(rows), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(rows, dtype=object).reshape(shape or [len(rows), 1]))
    return tensor


@pytest.mark.parametrize(
    "inputs",
    [
        [_tensor("TEXT", b"\xffa")],
        [_tensor("TEXT", b"a", b"\xed\xa0\x80")],
        [_tensor("TEXT", b"a"), _tensor("KEY", b"k" * 5_000)],
        [_tensor("TEXT", b"a"), _tensor("KEY", b"\xff")],
        [_tensor("TEXT", b"a"), _tensor("KEY", b"k", b"l")],
        [_tensor("TEXT", b"a", b"b"), _tensor("KEY", b"k")],
        [_tensor("KEY", b"k")],
        [_tensor("KEY", b"k"), _tensor("KEY", b"k")],
        [_tensor("TEXT", b"a", b"b", shape=[1, 2])],
        [_tensor("TEXT", *[b"a"] * 65)],
        [_tensor("TEXT", shape=[0, 1])],
    ],
)
def test_a_callers_mistake_is_an_invalid_argument_and_tells_no_path_of_the_server(served, client, inputs):
    with (
        InferenceServerClient(served.server.spec.url) as raw,
        pytest.raises(InferenceServerException) as refusal,
    ):
        raw.infer(MODEL, inputs, client_timeout=_PATIENCE_S)
    assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT", refusal.value
    for path in (served.place.root, Path(__file__).parents[2], "/tmp", "Traceback"):
        assert str(path) not in str(refusal.value)
    assert client.predict(["hello"])[0].label == "greeting"


def test_many_texts_of_a_megabyte_cost_no_more_than_such_that_fit(served):
    began = time.perf_counter()
    _raw_grpc(served, [b"card " * 4_000] * 64)
    fitting = time.perf_counter() - began
    began = time.perf_counter()
    _raw_grpc(served, [b"card " * 200_000] * 64)
    assert time.perf_counter() - began < 10 * fitting + 10.0


def test_an_unknown_model_is_an_error(served):
    assert _post(served, _text("hello"), model="nobody").status_code in {400, 404}
    with PerennialClient(served.server.spec.url, "nobody") as client, pytest.raises(NotFound, match="nobody"):
        client.predict(["hello"])


def test_a_flipped_route_answers_without_a_load(served, client):
    assert client.predict(["card lost"])[0].version == 1
    processes = stubs_of(served.server.pid or 0)
    served.flip(champion=2, resident=(1, 2))
    answer = client.predict(["card lost"])[0]
    assert (answer.version, answer.label) == (2, "money_issue")
    assert len(processes) == 4
    assert stubs_of(served.server.pid or 0) == processes


def test_the_same_key_stays_on_its_arm(served, client):
    served.flip(champion=1, challenger=2, share=0.5, resident=(1, 2))
    keys = [f"caller-{number}" for number in range(40)]
    first = [answer.version for answer in client.predict(["hello"] * 40, keys=keys)]
    assert set(first) == {1, 2}
    for _ in range(3):
        assert [answer.version for answer in client.predict(["hello"] * 40, keys=keys)] == first


def test_a_challenger_that_is_not_loaded_leaves_its_rows_to_the_champion(served, client):
    served.place.publish(7)
    served.flip(champion=1, challenger=7, share=1.0, resident=(1, 2, 7))
    assert {answer.version for answer in client.predict(["hello", "card"])} == {1}


def test_an_unloaded_champion_is_a_clear_error_and_no_hang(served, client):
    served.place.publish(8)
    served.flip(champion=8, resident=(1, 2, 8))
    with pytest.raises(DependencyUnreachable, match="cannot answer now: engine intent_engine version 8"):
        client.predict(["hello"])
    assert _post(served, _text("hello")).status_code == 503


def test_a_version_loaded_under_traffic_fails_no_request(served, client, control):
    stop, answered, failed = threading.Event(), [], []

    def ask() -> None:
        with PerennialClient(served.server.spec.url, MODEL, timeout_s=_PATIENCE_S) as mine:
            while not stop.is_set():
                try:
                    answered.append(mine.predict(["card lost"])[0].version)
                except Exception as exc:  # every failure counts
                    failed.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    served.place.publish(3, shift=2)
    served.place.repository.set_versions(ENGINE, (1, 2, 3))
    control.load(ENGINE)
    assert all(control.ready(ENGINE, version) for version in (1, 2, 3))
    served.flip(champion=3, resident=(1, 2, 3))
    assert client.predict(["card lost"])[0].version == 3
    served.flip(champion=1, resident=(1, 2))
    served.place.repository.set_versions(ENGINE, (1, 2))
    control.load(ENGINE)
    end = time.monotonic() + _PATIENCE_S
    while len(answered) <= 20 and not failed and time.monotonic() < end:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert set(answered) >= {1}
    assert len(answered) > 20
    assert not control.ready(ENGINE, 3)


def test_a_version_that_fails_its_golden_answers_is_not_loaded_and_the_old_ones_stay(served, client, control):
    served.place.publish(4, golden_error=0.5)
    served.place.repository.set_versions(ENGINE, (1, 2, 4))
    with pytest.raises(PublishFailed, match="golden"):
        control.load(ENGINE)
    assert control.ready(ENGINE, 1)
    assert not control.ready(ENGINE, 4)
    assert client.predict(["hello"])[0].version == 1
    served.place.repository.set_versions(ENGINE, (1, 2))
    control.load(ENGINE)


def test_a_probe_compares_with_the_golden_answers(served, control):
    golden = Golden.read(served.place.repository.root / ENGINE / "2")
    assert control.probe_engine(ENGINE, 2, golden) <= golden.tolerance
    with pytest.raises(BundleRejected, match="version 1"):
        control.probe_engine(ENGINE, 1, golden)


def test_the_index_names_models_and_versions_only(control):
    entries = control.index()
    assert {entry.model for entry in entries} == {MODEL, ENGINE}
    assert {(e.model, e.version) for e in entries if e.state == "READY"} >= {(MODEL, 1), (ENGINE, 1), (ENGINE, 2)}


def test_every_answer_is_on_disk_before_it_arrives(served, client):
    answers = client.predict(["card", "hello"], keys=["a", "b"])
    logged: set[str] = set()
    for path in served.place.traffic.rglob("*.arrows"):
        with pa.OSFile(str(path)) as file:
            for batch in pa.ipc.open_stream(file):
                logged.update(batch.column("prediction_id").to_pylist())
    assert {answer.prediction_id for answer in answers} <= logged


@pytest.mark.parametrize("backend", BACKENDS)
def test_labels_for_strange_texts_are_learnt_whatever_the_database(served, client, backend, tmp_path):
    answers = client.predict([*TEXTS, "", "\0\u200b"], keys=[" cafe\u0301 "] * (len(TEXTS) + 2))
    now = datetime.now(UTC)
    rows = [FeedbackRow(prediction_id=answer.prediction_id, label="strange", at=now) for answer in answers]
    with Ledger.open(fresh_url(backend, tmp_path)) as ledger:
        ledger.register_model(MODEL, {})
        ledger.add_feedback(MODEL, rows)
        found = collect(ledger, TrafficLog(served.place.traffic), MODEL, holdout_share=0.1, now=now)
        assert found == Collected(joined=len(TEXTS), refused=2)
        learnt = [row.example for row in ledger.examples(MODEL)]
    assert {row.text for row in learnt} == set(TEXTS.values()) - {"x" * 99_999} | {"x" * 20_000}
    assert {row.key for row in learnt} == {"café"}
    assert {row.text for row in learnt if row.redacted} == {"mail [email], card [card]"}


@pytest.mark.parametrize("key", ["a\0b", "a\u200bb", "\x1b[2J"])
def test_a_key_that_could_not_be_erased_again_is_refused_by_its_row(client, key):
    with pytest.raises(PublishFailed, match="KEY of row 1"):
        client.predict(["hello", "hello"], keys=["fine", key])
