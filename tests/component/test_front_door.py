"""The HTTP port of the embedded Triton against whatever a client may send, on the real server."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from perennial.ops.serving.secret import KEY
from perennial.ops.serving.server.server import TraceSpec, TritonServer
from perennial.ops.serving.server_record import ServerRecord
from tests.component.otlp_receiver import Receiver, facts_of, receiving
from tests.component.triton_fixtures import ENGINE, MODEL, Place

pytestmark = [pytest.mark.component, pytest.mark.alone]
_MIB = 2**20
_CLOSED = [
    ("POST", "/v2/repository/index"),
    ("POST", f"/v2/repository/models/{MODEL}/load"),
    ("POST", f"/v2/repository/models/{MODEL}/unload"),
    ("GET", f"/v2/models/{MODEL}/config"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/x/register"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("POST", "/v2/cudasharedmemory/region/x/register"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("POST", f"/v2/models/{MODEL}/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
    ("GET", "/v2/models/stats"),
    ("POST", f"/v2/models/{MODEL}/generate"),
    ("POST", f"/v2/models/{MODEL}/generate_stream"),
    ("POST", f"/v2/models/{ENGINE}/infer"),
    ("POST", f"/v2/models/{ENGINE}/versions/1/infer"),
    ("GET", f"/v2/models/{ENGINE}"),
    ("GET", f"/v2/models/{ENGINE}/ready"),
    ("GET", f"/v2/models/{ENGINE}/stats"),
    ("GET", "/"),
    ("GET", "/metrics"),
]


class Town:
    """One server, and ways to talk to its HTTP port."""

    def __init__(self, place: Place, traces: TraceSpec | None = None) -> None:
        self.place = place
        self.server = TritonServer(replace(place.spec(), traces=traces))
        self.server.start()
        self.client = httpx.Client(timeout=60, verify=False)  # one: each makes a TLS context, which takes its time
        self.url = f"http://127.0.0.1:{self.server.spec.http_port}"
        self.record = ServerRecord.read(self.server.spec.folder / "server.json")

    def post(self, content: Any, path: str = f"/v2/models/{MODEL}/infer", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"{self.url}{path}", content=content, headers=named)

    def raw(self, *pieces: bytes, pause_s: float = 0.0) -> bytes:
        """All that comes back for these bytes until the server closes."""
        with closing(socket.create_connection(("127.0.0.1", self.server.spec.http_port), 20)) as line:
            line.settimeout(20)
            for piece in pieces:
                with suppress(BrokenPipeError, ConnectionResetError):
                    line.sendall(piece)
                time.sleep(pause_s)
            received = b""
            with suppress(ConnectionResetError):
                while piece := line.recv(65_536):
                    received += piece
            return received

    def answers(self) -> bool:
        reply = self.post(_request("card lost"))
        return reply.status_code == 200 and reply.json()["outputs"][0]["data"] == ["card_issue"]


def _request(*texts: str) -> bytes:
    tensor = {"name": "TEXT", "shape": [len(texts), 1], "datatype": "BYTES", "data": list(texts)}
    return json.dumps({"inputs": [tensor], "outputs": [{"name": "LABEL"}]}).encode()


def _head(path: str = f"/v2/models/{MODEL}/infer", method: str = "POST", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with receiving() as collector:
        yield collector


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, collector: Receiver) -> Iterator[Town]:
    place = Place(tmp_path_factory.mktemp("front-door"))
    place.install((1,), router_instances=1)
    town = Town(place, TraceSpec(url=collector.url, every=1_000_000))
    try:
        yield town
    finally:
        town.client.close()
        town.server.stop()


@pytest.fixture(autouse=True)
def _the_server_lives_through_it(town: Town) -> Iterator[None]:
    pid, door = town.server.pid, town.server.door.pid
    yield
    assert town.answers()
    assert town.server.pid == pid
    assert town.server.door.pid == door or town.server.door.restarts


@pytest.mark.parametrize(("method", "path"), _CLOSED)
@pytest.mark.parametrize("given", ["none", "wrong", "right"])
def test_what_clients_do_not_need_is_not_there(town, method, path, given):
    """Not even with the secret: who has that uses gRPC."""
    secret = {"none": {}, "wrong": {KEY: "guessed"}, "right": {KEY: town.server.kept_secret()}}[given]
    reply = town.client.request(method, town.url + path, headers=secret, content=b"{}" if method == "POST" else None)
    assert reply.status_code == 404
    assert "error" in reply.json()


@pytest.mark.parametrize(("method", "path"), [entry for entry in _CLOSED if entry[1] not in {"/", "/metrics"}])
@pytest.mark.parametrize("secret", [{}, {KEY: "guessed"}], ids=["none", "wrong"])
def test_tritons_own_port_opens_nothing_without_the_secret(town, method, path, secret):
    url = f"http://127.0.0.1:{town.record.http_port}{path}"
    reply = town.client.request(method, url, headers=secret, content=b"[" * 200_000 if method == "POST" else None)
    assert reply.status_code == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/x-www-form-urlencoded"])
def test_a_page_cannot_have_code_loaded_by_a_request_that_needs_no_leave(town, tmp_path, kind):
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    body = {"parameters": {"config": '{"backend": "python"}', "file:1/model.py": code}}
    reply = town.post(json.dumps(body), "/v2/repository/models/evil/load", Content_Type=kind)
    assert reply.status_code == 404
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2"),
        ("GET", "/v2/health/live"),
        ("GET", "/v2/health/ready"),
        ("GET", f"/v2/models/{MODEL}"),
        ("GET", f"/v2/models/{MODEL}/ready"),
        ("GET", f"/v2/models/{MODEL}/versions/1"),
        ("GET", f"/v2/models/{MODEL}/versions/1/ready"),
        ("GET", f"/v2/models/{MODEL}/stats"),
    ],
)
def test_what_clients_need_is_open(town, method, path):
    reply = town.client.request(method, town.url + path)
    assert reply.status_code == 200
    reply = town.client.request("HEAD", town.url + path)
    assert (reply.status_code, reply.content) == (200, b"")
    assert town.client.request("OPTIONS", town.url + path).status_code == 405
    assert town.client.request("DELETE", town.url + path).status_code == 405


def test_answers_tell_browsers_that_no_page_may_read_them(town):
    reply = town.post(_request("card"))
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"


_NESTED: dict[str, bytes] = {
    "arrays": b"[" * 200_000,
    "closed arrays": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 100_000,
    "closed objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "mixed": b'[{"a":' * 50_000,
    "behind a string": b'{"a": "x", "inputs": ' + b"[" * 150_000,
    "behind a quoted quote": b'["\\"", ' + b"[" * 150_000,
    "behind spaces": b" \n\t" * 1_000 + b"[ " * 150_000,
    "in parameters": b'{"parameters": {"a": ' + b"[" * 150_000 + b"]" * 150_000 + b"}}",
    "after a request": _request("card")[:-1] + b', "x": ' + b"[" * 150_000 + b"]" * 150_000 + b"}",
    "with a byte order mark": b"\xef\xbb\xbf" + b"[" * 150_000,
    "as UTF-16": ("[" * 150_000).encode("utf-16"),
    "of many megabytes": b"[" * (60 * _MIB),
}


@pytest.mark.parametrize("body", _NESTED.values(), ids=_NESTED.keys())
@pytest.mark.parametrize("headed", [False, True], ids=["json", "binary"])
def test_deep_json_is_refused_and_stops_nothing(town, body, headed):
    more = {"Inference_Header_Content_Length": str(len(body))} if headed else {}
    reply = town.post(body + (b"\0" * 16 if headed else b""), **more)
    assert reply.status_code == 400
    assert "nested too deeply" in reply.json()["error"] or "not an inference request" in reply.json()["error"]


_SHAPES = [
    [2**62],
    [1, 1, 2**62],
    [2**31, 2**31],
    [2**20, 2**20],
    [-1],
    [-1, -1],
    [0],
    [],
    [1] * 9,
    [2**70],
    [1.5],
    ["1"],
]


@pytest.mark.parametrize("shape", _SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["UINT8", "BYTES", "INT32", "INT64", "FP16", "BF16"])
def test_a_shape_that_asks_for_all_memory_is_refused(town, shape, kind):
    """Triton 2.51 ends at a small request with the shape 2**62."""
    body = json.loads(_request("card"))
    body["inputs"][0] |= {"shape": shape, "datatype": kind}
    assert town.post(json.dumps(body)).status_code == 400


def test_a_name_that_comes_twice_means_to_triton_what_was_checked(town):
    good, evil = (
        _request("card")[1:-1],
        _request("card")[1:-1].replace(b'[1, 1], "datatype": "BYTES"', b'[1048576, 1048576], "datatype": "UINT8"'),
    )
    assert evil != good
    assert town.post(b"{" + evil + b"," + good + b"}").status_code == 200
    assert town.post(b"{" + good + b"," + evil + b"}").status_code == 400


@pytest.mark.parametrize("name", ["shared_memory_region", "shared_memory_offset", "classification", "x"])
@pytest.mark.parametrize("where", ["inputs", "outputs"])
def test_options_of_tensors_that_nobody_needs_are_refused(town, name, where):
    body = json.loads(_request("card"))
    body[where][0]["parameters"] = {name: 1}
    assert town.post(json.dumps(body)).status_code == 400


def test_brackets_in_a_text_are_a_text(town):
    reply = town.post(_request("[" * 200_000 + ' card "{' + "{" * 1_000))
    assert reply.status_code == 200
    assert reply.json()["outputs"][0]["shape"] == [1, 1]


def test_many_brackets_that_are_not_deep_are_let_through(town):
    body = json.loads(_request(*["card"] * 64))
    body["inputs"][0]["data"] = [["card"]] * 64
    reply = town.post(json.dumps(body))
    assert reply.status_code == 200
    assert reply.json()["outputs"][0]["data"] == ["card_issue"] * 64


def test_the_binary_extension_passes_through(town):
    head = json.dumps(
        {
            "inputs": [
                {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 4 + 9}}
            ],
            "outputs": [{"name": "LABEL", "parameters": {"binary_data": True}}],
        }
    ).encode()
    text = b"[[[[ card"
    reply = town.post(head + len(text).to_bytes(4, "little") + text, Inference_Header_Content_Length=str(len(head)))
    assert reply.status_code == 200
    json_length = int(reply.headers["inference-header-content-length"])
    assert reply.content[json_length + 4 :] == b"card_issue"


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999", "0x10", "5.0", "", "1000000"])
def test_a_wrong_length_of_the_binary_extension_is_refused(town, length):
    assert town.post(_request("card"), Inference_Header_Content_Length=length).status_code == 400


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"1", b"null", b'"x"', b"{", b"\0", b'{"inputs": 7}', b'{"inputs": []}']
)
def test_a_senseless_body_is_its_senders_fault(town, body):
    assert town.post(body).status_code == 400


def test_a_body_beyond_the_limit_is_refused_before_it_comes(town):
    limit = town.server.spec.http_body_bytes
    began = time.monotonic()
    reply = town.raw(_head(Host="localhost", Content_Length=str(limit + 1)))
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert str(limit).encode() in reply
    assert time.monotonic() - began < 10


def test_a_body_beyond_the_limit_in_chunks_is_refused_when_it_passes_it(town):
    chunk = b"%x\r\n" % _MIB + b" " * _MIB + b"\r\n"
    many = town.server.spec.http_body_bytes // _MIB + 1
    reply = town.raw(_head(Host="localhost", Transfer_Encoding="chunked"), *[chunk] * many)
    assert reply.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_sends_it_all_first_still_reads_the_refusal(town):
    reply = town.post(b" " * (town.server.spec.http_body_bytes + _MIB))
    assert reply.status_code == 413


def test_a_chunked_request_is_answered(town):
    reply = town.post(iter([_request("card")[:20], _request("card")[20:]]))
    assert reply.status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity", "x"])
def test_compressed_bodies_are_refused(town, encoding):
    assert town.post(_request("card"), Content_Encoding=encoding).status_code == 415


_BROKEN: dict[str, bytes] = {
    "nonsense": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "two lengths": _head(Host="localhost", Content_Length="5")[:-2] + b"Content-Length: 6\r\n\r\nabcde",
    "length and chunks": _head(Host="localhost", Content_Length="5", Transfer_Encoding="chunked") + b"0\r\n\r\n",
    "negative length": _head(Host="localhost", Content_Length="-1"),
    "length beyond numbers": _head(Host="localhost", Content_Length="9" * 30),
    "bad chunk": _head(Host="localhost", Transfer_Encoding="chunked") + b"zz\r\n\r\n",
    "no host": _head(Content_Length="2") + b"{}",
    "two hosts": _head(Host="localhost", Content_Length="2")[:-2] + b"Host: localhost\r\n\r\n{}",
    "folded header": _head(Host="localhost")[:-2] + b" more\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "upgrade": _head(Host="localhost", Connection="Upgrade", Upgrade="websocket", Content_Length="0"),
    "connect": b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "target with a host": _head(
        "http://localhost/v2/health/live", "POST", Host="localhost", Connection="close", Content_Length="0"
    ),
    "body of a look": _head("/v2", "GET", Host="localhost", Content_Length="2") + b"{}",
    "target beyond the limit": _head("/" + "a" * 20_000, "GET", Host="localhost"),
    "header beyond the limit": _head(Host="localhost", X="a" * 20_000),
    "many headers": _head(Host="localhost", **{f"X{n}": "a" for n in range(5_000)}),
}


@pytest.mark.parametrize("sent", _BROKEN.values(), ids=_BROKEN.keys())
def test_a_broken_request_is_answered_4xx_and_ends_its_connection(town, sent):
    reply = town.raw(sent)
    assert reply.startswith(b"HTTP/1.1 4")
    assert reply.count(b"HTTP/1.1 ") == 1


def test_truncated_requests_leave_nothing(town):
    for length in range(1, 200, 7):
        with closing(socket.create_connection(("127.0.0.1", town.server.spec.http_port))) as line:
            line.sendall((_head(Host="localhost", Content_Length="500") + _request("card"))[:length])


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/intent/../intent_engine/infer",
        "/v2/models/intent%5Fengine/infer",
        "/v2//models/intent_engine/infer",
        "/v2/models/intent_engine/infer?x=1",
        "/v2/models/intent/infer/",
        "/v2/models/intent/versions/0/infer",
        "/v2/models/intent/infer%0d%0aX: y",
        "/V2/models/intent/infer",
        "*",
    ],
)
def test_ways_around_the_list_of_addresses_lead_nowhere(town, path):
    sent = _head(path, Host="localhost", Content_Length="2", Connection="close") + b"{}"
    assert town.raw(sent).split(b" ")[1] in {b"404", b"400"}


def test_requests_sent_ahead_are_answered_in_order(town):
    texts = ("card", "money", "hello", "[" * 100, "card")
    bodies = [_request(text) for text in texts]
    sent = b"".join(_head(Host="localhost", Content_Length=str(len(body))) + body for body in bodies)
    sent += _head("/nowhere", "GET", Host="localhost") + _head("/v2/health/live", "GET", Host="x", Connection="close")
    reply = town.raw(sent)
    statuses = [int(part.split(b" ")[0]) for part in reply.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200] * 5 + [404, 421]
    labels = [reply.find(label) for label in (b"card_issue", b"money_issue", b"greeting")]
    assert labels == sorted(labels)


def test_what_was_sent_behind_a_refusal_that_ends_the_connection_is_not_worked_on(town):
    def counted() -> Any:
        statistics = town.client.get(f"{town.url}/v2/models/{MODEL}/stats").json()
        return statistics["model_stats"][0]["inference_stats"]["success"]["count"]

    def is_steady() -> bool:  # what the tests before this one asked is counted after it was answered
        first = counted()
        time.sleep(0.5)
        return bool(counted() == first)

    _eventually(is_steady, 20)
    before, body = counted(), _request("card lost")
    refused = _head("/v2/repository/index", Host="localhost", Content_Length="2") + b"{}"
    received = town.raw(refused + _head(Host="localhost", Content_Length=str(len(body))) + body)
    assert received.startswith(b"HTTP/1.1 404 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert town.answers()
    _eventually(lambda: counted() > before, 20)  # Triton counts after it has answered
    assert counted() == before + 1


def test_a_client_that_reads_nothing_is_not_answered_for_ever(town):
    """What it does not take fills the line; then its further requests wait unread."""
    one = _head("/v2", "GET", Host="localhost")
    with closing(socket.create_connection(("127.0.0.1", town.server.spec.http_port))) as line:
        line.settimeout(1)
        sent = 0
        with suppress(TimeoutError):
            while sent < 64 * _MIB:
                sent += line.send(one * 2_000)
        assert sent < 64 * _MIB


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example:8000"},
        {"Host": "10.0.0.1"},
        {"Host": ""},
        {"Host": "localhost", "Origin": "http://evil.example"},
        {"Host": "localhost", "Origin": "null"},
        {"Host": "localhost", "Origin": "http://localhost:3000"},
        {"Host": "localhost", "Sec_Fetch_Site": "cross-site"},
        {"Host": "localhost", "Sec_Fetch_Site": "same-site"},
    ],
)
def test_foreign_pages_and_rebound_names_are_refused(town, headers):
    body = _request("card")
    reply = town.raw(_head(**headers, Content_Length=str(len(body)), Connection="close") + body)
    assert reply.split(b" ")[1] in {b"403", b"421"}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]:8000", "[::1]"])
def test_own_names_are_let_in(town, host):
    body = _request("card")
    reply = town.raw(_head(Host=host, Content_Length=str(len(body)), Connection="close") + body)
    assert reply.startswith(b"HTTP/1.1 200 ")


def test_metrics_are_read_and_nothing_else_on_their_port(town):
    url = f"http://127.0.0.1:{town.server.spec.metrics_port}"
    assert "nv_inference_request_success" in httpx.get(f"{url}/metrics").text
    assert httpx.get(f"{url}/v2").status_code == 404
    assert httpx.post(f"{url}/metrics", content=b"x").status_code == 405


def _eventually(what: Callable[[], bool], within_s: float) -> None:
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, f"not so within {within_s} s"
        time.sleep(0.05)


def _open(town: Town) -> int:
    return len(list(Path(f"/proc/{town.server.door.pid}/fd").iterdir()))


def test_slow_clients_are_bounded_in_time_and_number_and_keep_nobody_out(town):
    """Headers that never end, bodies that come a byte at a time, and lines that say nothing."""
    _eventually(lambda: _open(town) < 40, 30)
    before = _open(town)
    lines = [socket.create_connection(("127.0.0.1", town.server.spec.http_port)) for _ in range(600)]
    try:
        for number, line in enumerate(lines):
            if number % 3 == 0:
                line.sendall(b"POST /v2/models/intent/infer HTTP/1.1\r\nX: ")
            elif number % 3 == 1:
                line.sendall(_head(Host="localhost", Content_Length="1000") + b"{")
        assert town.answers()
        refused = lines[1].recv(4_096) if not lines[1].settimeout(30) else b""
        assert refused.startswith(b"HTTP/1.1 408 ")
        _eventually(lambda: _open(town) <= before + 5, 30)
    finally:
        for line in lines:
            line.close()


def test_a_dead_door_is_opened_again_and_the_server_goes_on(town):
    door, pid, restarts = town.server.door.pid, town.server.pid, town.server.door.restarts
    os.kill(door, signal.SIGKILL)
    _eventually(lambda: town.server.door.restarts == restarts + 1 and town.server.door.pid not in (None, door), 20)
    _eventually(lambda: _reached(town), 20)
    assert town.server.pid == pid


def _reached(town: Town) -> bool:
    with suppress(httpx.HTTPError):
        return town.answers()
    return False


def test_while_the_server_is_away_its_clients_are_told_when_to_come_back(tmp_path):
    place = Place(tmp_path)
    place.install((1,), router_instances=1)
    town = Town(place)
    try:
        with httpx.Client(base_url=town.url) as client:
            path = f"/v2/models/{MODEL}/infer"
            assert client.post(path, content=_request("card")).status_code == 200
            door = town.server.door.pid
            town.server.kill()
            reply = client.post(path, content=_request("card"))
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            town.server.start()
            assert town.server.door.pid == door
            assert client.post(path, content=_request("card")).status_code == 200
    finally:
        town.client.close()
        town.server.stop()
    assert town.server.door.pid is None
    assert door is not None
    assert not Path(f"/proc/{door}").exists()


def test_http_can_be_switched_off(tmp_path):
    place = Place(tmp_path)
    place.install((1,), router_instances=1)
    server = TritonServer(replace(place.spec(), http=False))
    server.start()
    try:
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{server.spec.http_port}/v2")
        assert httpx.get(f"http://127.0.0.1:{server.spec.metrics_port}/metrics").status_code == 200
    finally:
        server.stop()


def test_a_request_that_its_caller_traces_is_part_of_that_trace_and_others_are_not(
    town: Town, collector: Receiver
) -> None:
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    before, twice = len(collector.spans), [("traceparent", f"00-{trace}-{span}-01")] * 2
    address = f"{town.url}/v2/models/{MODEL}/infer"
    assert town.client.post(address, content=_request("card lost"), headers=twice).status_code == 200
    for named in ({}, {"traceparent": f"00-{trace}-{span}-01"}, {"traceparent": "00-nonsense-01"}):
        assert town.post(_request("card lost"), **named).status_code == 200

    def whole(seen: list[Span]) -> bool:  # the server may send a trace in pieces
        mine = seen[before:]
        return any(each.name == MODEL for each in mine) and any(each.parent_span_id.hex() == span for each in mine)

    spans = collector.wait(whole)[before:]
    assert {each.trace_id.hex() for each in spans} == {trace}
    (asked,) = [each for each in spans if each.parent_span_id.hex() == span]
    (routed,) = [each for each in spans if each.parent_span_id == asked.span_id]
    assert (routed.name, facts_of(routed)["triton.model_name"]) == (MODEL, MODEL)


_TENSOR_METADATA = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"enum": ["BOOL", *(f"UINT{n}" for n in (8, 16, 32, 64)), *(f"INT{n}" for n in (8, 16, 32, 64)),
                              "FP16", "FP32", "FP64", "BYTES"]},
        "shape": {"type": "array", "items": {"type": "integer"}},
    },
}  # fmt: skip
_SERVER = {
    "type": "object",
    "required": ["name", "version", "extensions"],
    "properties": {
        "name": {"type": "string"}, "version": {"type": "string"},
        "extensions": {"type": "array", "items": {"type": "string"}},
    },
}  # fmt: skip
_TENSORS = {"type": "array", "items": _TENSOR_METADATA, "minItems": 1}
_METADATA = {
    "type": "object",
    "required": ["name", "platform", "inputs", "outputs"],
    "properties": {
        "name": {"const": MODEL}, "platform": {"type": "string"}, "inputs": _TENSORS, "outputs": _TENSORS,
        "versions": {"type": "array", "items": {"type": "string"}},
    },
}  # fmt: skip
_ANSWER_TENSOR = {
    **_TENSOR_METADATA,
    "required": ["name", "datatype", "shape", "data"],
}
_ANSWER = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {
        "model_name": {"const": MODEL}, "model_version": {"type": "string"}, "id": {"const": "mine"},
        "outputs": {"type": "array", "items": _ANSWER_TENSOR, "minItems": 1},
    },
}  # fmt: skip
_WRONG = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string", "minLength": 1}}}
_KSERVE: list[tuple[str, str, Any, int, dict[str, Any] | None]] = [  # of the protocol's version 2, over HTTP
    ("GET", "/v2/health/live", None, 200, None),
    ("GET", "/v2/health/ready", None, 200, None),
    ("GET", "/v2", None, 200, _SERVER),
    *(("GET", f"/v2/models/{MODEL}{version}", None, 200, _METADATA) for version in ("", "/versions/1")),
    *(("GET", f"/v2/models/{MODEL}{version}/ready", None, 200, None) for version in ("", "/versions/1")),
    *(("POST", f"/v2/models/{MODEL}{version}/infer", "TEXT", 200, _ANSWER) for version in ("", "/versions/1")),
    ("GET", "/v2/models/nobody", None, 400, _WRONG),
    ("GET", "/v2/models/nobody/ready", None, 400, None),
    ("POST", "/v2/models/nobody/infer", "TEXT", 400, _WRONG),
    ("POST", f"/v2/models/{MODEL}/infer", "NOT_AN_INPUT", 400, _WRONG),
]


@pytest.mark.parametrize(
    ("method", "path", "tensor", "status", "schema"), _KSERVE, ids=[f"{m} {p} {t}" for m, p, t, *_ in _KSERVE]
)
def test_every_route_of_kserves_protocol_answers_as_that_says(
    town: Town, method: str, path: str, tensor: str | None, status: int, schema: dict[str, Any] | None
) -> None:
    """Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md."""
    asked = None
    if tensor is not None:
        input_ = {"name": tensor, "shape": [2, 1], "datatype": "BYTES", "data": ["card lost", "loan"]}
        asked = {"id": "mine", "inputs": [input_], "outputs": [{"name": "LABEL"}, {"name": "CONFIDENCE"}]}
    reply = town.client.request(method, f"{town.url}{path}", json=asked)
    assert reply.status_code == status or (status == 400 and reply.status_code == 404), reply.text
    if schema is not None:
        assert reply.headers["content-type"].startswith("application/json")
        jsonschema.validate(reply.json(), schema)
    if schema is _ANSWER:
        outputs = {each["name"]: each for each in reply.json()["outputs"]}
        assert outputs.keys() == {"LABEL", "CONFIDENCE"}
        assert [outputs[name]["datatype"] for name in ("LABEL", "CONFIDENCE")] == ["BYTES", "FP32"]
        assert [outputs[name]["shape"] for name in ("LABEL", "CONFIDENCE")] == [[2, 1], [2, 1]]
