"""Callers whose requests are answered together on the real Triton: one's bad text is no other's error."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

from perennial.continual.errors import PerennialError
from perennial.exporters.contract import PROGRESS
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.probe import ChampionSilent
from perennial.ops.serving.router.progress import Progress
from perennial.ops.serving.secret import PARAMETER
from perennial.ops.serving.server.server import TritonServer
from perennial.ops.traffic import TrafficLog
from tests.component.triton_fixtures import ENGINE, MODEL, Place, probe, trips_for

pytestmark = [pytest.mark.component, pytest.mark.alone]
_ROUNDS = 40
_TRIES = 8  # on a machine that others use a try may fail


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, TritonServer]]:
    """Version 2 raises an error at "hello", 1 does at nothing, 3 takes time for "transfer"; one router process."""
    place = Place(tmp_path_factory.mktemp("shared"))
    place.install((1,), router_instances=1)
    place.repository.publish(place.stage(2, fails=True), ENGINE, 2)
    place.publish(3, shift=0, hang=trips_for(0.003))
    place.repository.set_versions(ENGINE, (1, 2, 3))
    server = TritonServer(place.spec())
    server.start()
    try:
        yield place, server
    finally:
        server.stop()


def _ask(server: TritonServer, text: str, answers: list[str]) -> None:
    with PerennialClient(server.spec.url, MODEL, timeout_s=20.0) as client:
        for _ in range(_ROUNDS):
            try:
                answers.append(f"{client.predict([text])[0].version}")
            except PerennialError as exc:
                answers.append(str(exc))


def _together(server: TritonServer, texts: list[str]) -> list[list[str]]:
    answers: list[list[str]] = [[] for _ in texts]
    threads = [
        threading.Thread(target=_ask, args=(server, text, into)) for text, into in zip(texts, answers, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_a_text_that_the_champion_refuses_fails_nobody_elses_request(served):
    place, server = served
    place.route(champion=2, resident=(1, 2), epoch=2)
    *good, bad = _together(server, ["card lost"] * 5 + ["hello"])
    assert {answer for answers in good for answer in answers} == {"2"}
    assert all("did not answer" in answer for answer in bad)


def test_nobody_elses_request_goes_to_the_version_before_it_either(served):
    place, server = served
    place.route(champion=2, previous=1, resident=(1, 2), epoch=3)
    *good, bad = _together(server, ["card lost"] * 5 + ["hello"])
    assert {answer for answers in good for answer in answers} == {"2"}
    assert set(bad) == {"1"}


def test_a_probe_is_answered_by_the_version_before_a_failing_champion_and_told_so(served):
    place, server = served
    place.route(champion=2, previous=1, resident=(1, 2), epoch=4)
    tensor = InferInput("TEXT", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"hello"]], dtype=object))
    with InferenceServerClient(server.spec.url) as client:
        outputs = [InferRequestedOutput(PROGRESS)]
        answer = client.infer(MODEL, [tensor], parameters={PARAMETER: server.kept_secret()}, outputs=outputs)
    assert Progress.read(answer.as_numpy(PROGRESS).item().decode()).substituted
    with pytest.raises(ChampionSilent, match="champion of intent at"):
        _probe_with(server, "hello")
    assert not probe(server).substituted


def _probe_with(server: TritonServer, text: str) -> None:
    """A probe that asks the text which the champion refuses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perennial.ops.serving.tasks.text_classification._TextClassification.probe", text)
        probe(server)


def _posted(
    server: TritonServer, texts: list[str], rounds: int = 15, keys: list[str] | None = None
) -> list[list[httpx.Response]]:
    """What each of so many clients got over HTTP, all of them at once, each one request after the other."""
    url = f"http://127.0.0.1:{server.spec.http_port}/v2/models/{MODEL}/infer"

    async def client(number: int, text: str, http: httpx.AsyncClient) -> list[httpx.Response]:
        rows = 1 + number % 3
        inputs = [{"name": "TEXT", "shape": [rows, 1], "datatype": "BYTES", "data": [text] * rows}]
        if keys is not None:
            inputs.append({"name": "KEY", "shape": [rows, 1], "datatype": "BYTES", "data": [keys[number]] * rows})
        return [await http.post(url, json={"inputs": inputs, "id": f"{number}-{turn}"}) for turn in range(rounds)]

    async def together() -> list[list[httpx.Response]]:
        async with httpx.AsyncClient(timeout=20, verify=False) as http:
            return await asyncio.gather(*(client(number, text, http) for number, text in enumerate(texts)))

    return asyncio.run(together())


def _asked_of_triton(server: TritonServer) -> int:
    url = f"http://127.0.0.1:{server.spec.http_port}/v2/models/{MODEL}/stats"
    return int(httpx.get(url).json()["model_stats"][0]["inference_stats"]["success"]["count"])


def test_requests_over_http_that_wait_are_handed_on_as_one_and_each_gets_its_own_answer(served):
    """Were none put together, every share would be 1. Few wait while others slow these clients down: so they go on."""
    place, server = served
    place.route(champion=3, resident=(1, 2, 3), epoch=4)
    shares = [1.0]
    while min(shares) >= 0.5 and len(shares) <= _TRIES:
        shares.append(_handed_on(server))
    assert min(shares) < 0.5, shares


def _handed_on(server: TritonServer) -> float:
    """How many requests Triton got for each one of its clients', all of which got their own answer."""
    said = {"card lost": "card_issue", "transfer": "money_issue", "hello": "greeting"}
    before = _asked_of_triton(server)
    texts = list(said) * 5
    replies = _posted(server, texts)
    ids = set()
    for number, (text, got) in enumerate(zip(texts, replies, strict=True)):
        for turn, reply in enumerate(got):
            answer = reply.json()
            outputs = {output["name"]: output for output in answer["outputs"]}
            assert outputs["LABEL"]["data"] == [said[text]] * (1 + number % 3)
            assert outputs["CONFIDENCE"]["shape"] == [1 + number % 3, 1]
            assert answer["id"] == f"{number}-{turn}"
            ids.update(outputs["PREDICTION_ID"]["data"])
    assert len(ids) == sum((1 + number % 3) * len(got) for number, got in enumerate(replies))
    return (_asked_of_triton(server) - before) / sum(len(got) for got in replies)


def test_what_spoils_an_answer_that_several_share_fails_its_own_sender_alone(served):
    place, server = served
    place.route(champion=2, previous=1, resident=(1, 2), epoch=5)
    *good, bad = _posted(server, ["card lost"] * 5 + ["hello"])
    assert {reply.json()["outputs"][2]["data"][0] for got in good for reply in got} == {2}
    assert {reply.json()["outputs"][2]["data"][0] for reply in bad} == {1}


def test_while_a_challenger_has_a_share_every_request_goes_alone(served):
    place, server = served
    place.route(champion=1, challenger=2, share=0.5, resident=(1, 2), epoch=6)
    before = _asked_of_triton(server)
    replies = _posted(server, ["card lost"] * 6, rounds=5)
    assert {reply.status_code for got in replies for reply in got} == {200}
    assert _asked_of_triton(server) - before == 30


def test_a_key_that_breaks_its_rule_fails_its_own_sender_and_each_row_has_its_own_key_in_the_log(served):
    place, server = served
    place.route(champion=1, resident=(1, 2), epoch=7)
    keys = [f"person {number}" for number in range(5)]
    *good, bad = _posted(server, ["card lost"] * 6, rounds=8, keys=[*keys, "x" * 300])
    assert {reply.status_code for got in good for reply in got} == {200}
    assert {reply.status_code for reply in bad} == {400}
    assert "300 bytes" in bad[0].json()["error"]
    rows = TrafficLog(place.traffic).read(columns=["prediction_id", "key"]).to_pylist()
    key_of = {row["prediction_id"]: row["key"] for row in rows}
    for key, got in zip(keys, good, strict=True):
        for reply in got:
            outputs = {output["name"]: output["data"] for output in reply.json()["outputs"]}
            assert {key_of[number] for number in outputs["PREDICTION_ID"]} == {key}


def test_a_larger_batch_that_the_engine_refuses_is_told_so_and_leaves_its_place_to_the_next_one(served):
    """Its process computes two of them at once, in threads of their own."""
    place, server = served
    place.route(champion=2, resident=(1, 2), epoch=8)
    with PerennialClient(server.spec.url, MODEL, timeout_s=20.0) as client:
        for _ in range(3):
            with pytest.raises(PerennialError, match="did not answer"):
                client.predict(["hello lost"] * 40)
        assert {answer.version for answer in client.predict(["card lost"] * 40)} == {2}


def _message(text: str) -> bytes:
    tensor = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [text]}
    body = json.dumps({"inputs": [tensor], "outputs": [{"name": "LABEL"}], "id": text}).encode()
    head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_requests_sent_ahead_and_one_that_is_never_read_keep_their_order_and_hold_up_nobody(served):
    place, server = served
    place.route(champion=1, resident=(1, 2), epoch=9)
    address = ("127.0.0.1", server.spec.http_port)
    with socket.create_connection(address, 20) as deaf, socket.create_connection(address, 20) as ahead:
        deaf.sendall(_message("money"))
        ahead.sendall(b"".join(map(_message, ("card", "money", "hello", "lost"))))
        assert {reply.status_code for got in _posted(server, ["card lost"] * 5, rounds=5) for reply in got} == {200}
        received = b""
        while received.count(b"HTTP/1.1 200") < 4 or not received.endswith(b"}"):
            received += ahead.recv(65_536)
    said = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in received.split(b"HTTP/1.1 200")[1:]]
    assert [answer["id"] for answer in said] == ["card", "money", "hello", "lost"]
    labels = [answer["outputs"][0]["data"][0] for answer in said]
    assert labels == ["card_issue", "money_issue", "greeting", "card_issue"]


def test_a_request_with_a_time_limit_keeps_it(served):
    place, server = served
    place.route(champion=1, resident=(1, 2), epoch=10)
    url = f"http://127.0.0.1:{server.spec.http_port}/v2/models/{MODEL}/infer"
    tensor = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["card"]}
    reply = httpx.post(url, json={"inputs": [tensor], "parameters": {"timeout": 1}}, timeout=20, verify=False)
    assert reply.status_code != 200
    assert "deadline" in reply.json()["error"] or "timeout" in reply.json()["error"].lower()
    kept = httpx.post(url, json={"inputs": [tensor], "parameters": {"timeout": 9_000_000}}, timeout=20, verify=False)
    assert kept.status_code == 200


def test_clients_that_leave_while_they_are_worked_for_harm_nobody(served):
    """What was given up is cancelled in Triton, at whichever place it was."""
    place, server = served
    place.route(champion=3, resident=(1, 2, 3), epoch=11)
    pid, address = server.pid, ("127.0.0.1", server.spec.http_port)
    for turn in range(4):
        clients = [socket.create_connection(address, 20) for _ in range(12)]
        for client in clients:
            client.sendall(_message("transfer"))
        for number, client in enumerate(clients):
            if (turn + number) % 2:  # with a reset
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        replies = [reply for got in _posted(server, ["transfer"] * 3, rounds=2) for reply in got]
        assert {reply.status_code for reply in replies} == {200}
        assert {reply.json()["outputs"][0]["data"][0] for reply in replies} == {"money_issue"}
    assert server.pid == pid
