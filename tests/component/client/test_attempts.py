"""Both clients against servers that are busy first: tried again after the hint, in time, with the caller's trace."""

import asyncio
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

from perennial.client import (
    AsyncClient,
    BadInput,
    Client,
    Kept,
    Label,
    NotFound,
    Overloaded,
    Places,
    Refused,
    Retry,
    RowsRefused,
    TooLate,
    Unreachable,
    trace_context,
)
from perennial.ops.serving.processes import free_port

pytestmark = pytest.mark.component
TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "one=1"}
KEPT = {"new": 1, "corrected": 0, "confirmed": 0, "unchanged": 0, "stale": 0, "erased": 0}


_TYPES: dict[type, tuple[str, Any]] = {
    bytes: ("BYTES", np.object_),
    float: ("FP32", np.float32),
    int: ("INT64", np.int64),
}


@dataclass
class Servers:
    """What the next requests meet, in order, and what came; afterwards every request is answered."""

    grpc_port: int
    http_port: int
    refusals: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)
    drips_s: float = 0.0  # between two bytes of an answer over HTTP
    came: list[dict[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    def infer(self, request: Any, context: Any) -> Any:
        self.came.append({name: str(value) for name, value in context.invocation_metadata()})
        if self.pauses_s:
            time.sleep(self.pauses_s.pop(0))
        if self.refusals:
            context.abort(*self.refusals.pop(0))
        rows = request.inputs[0].shape[0]
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        values = {"LABEL": b"card", "CONFIDENCE": 0.5, "VERSION": 3, "PREDICTION_ID": b"0" * 32}
        for name, value in values.items():
            column = np.array([[value]] * rows, dtype=_TYPES[type(value)][1])
            answer.outputs.add(name=name, datatype=_TYPES[type(value)][0], shape=column.shape)
            raw = serialize_byte_tensor(column).item() if isinstance(value, bytes) else column.tobytes()
            answer.raw_output_contents.append(raw)
        return answer


@pytest.fixture(scope="module")
def running() -> Iterator[Servers]:
    """A gRPC server of Triton's protocol, and an HTTP server."""
    servers = Servers(grpc_port=free_port(), http_port=free_port())
    triton = grpc.server(futures.ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(
        servers.infer,
        request_deserializer=service_pb2.ModelInferRequest.FromString,
        response_serializer=service_pb2.ModelInferResponse.SerializeToString,
    )
    triton.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler})]
    )
    triton.add_insecure_port(f"127.0.0.1:{servers.grpc_port}")
    triton.start()

    class Api(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            servers.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            servers.came.append({name.lower(): value for name, value in self.headers.items()})
            status = servers.statuses.pop(0) if servers.statuses else 200
            rows = {"rows": [{"row": 3, "cause": "it is empty"}]} if status == 422 else {}
            body = json.dumps(KEPT if status == 200 else {"detail": "busy", **rows}).encode()
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            parts = [body[start : start + 1] for start in range(len(body))] if servers.drips_s else [body]
            try:
                for part in parts:
                    self.wfile.write(part)
                    time.sleep(servers.drips_s)
            except OSError:
                """Nobody listens any more."""

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    api = http.server.ThreadingHTTPServer(("127.0.0.1", servers.http_port), Api)
    thread = threading.Thread(target=api.serve_forever)
    thread.start()
    try:
        yield servers
    finally:
        triton.stop(None).wait()
        api.shutdown()
        api.server_close()
        thread.join()


@pytest.fixture
def servers(running: Servers) -> Servers:
    kept: list[list[Any]] = [running.refusals, running.statuses, running.pauses_s, running.came, running.bodies]
    for each in kept:
        each.clear()
    return running


@pytest.fixture(params=["plain", "asyncio"])
def ask(request: pytest.FixtureRequest, servers: Servers) -> Callable[..., Any]:
    """One method of either client, called with a client of its own."""

    def plain(method: str, *arguments: Any, **places: Any) -> Any:
        with Client("intent", _places(servers, **places), rows_at_once=2) as client:
            return getattr(client, method)(*arguments)

    def awaited(method: str, *arguments: Any, **places: Any) -> Any:
        async def run() -> Any:
            async with AsyncClient("intent", _places(servers, **places), rows_at_once=2) as client:
                return await getattr(client, method)(*arguments)

        return asyncio.run(run())

    return plain if request.param == "plain" else awaited


def _places(servers: Servers, **changed: Any) -> Places:
    there = {"grpc": f"127.0.0.1:{servers.grpc_port}", "api": f"http://127.0.0.1:{servers.http_port}"}
    return Places(**{**there, "retry": Retry(first_pause_s=0.01), **changed})


def test_a_busy_server_is_asked_again_after_its_hint(ask: Callable[..., Any], servers: Servers) -> None:
    servers.refusals += [(grpc.StatusCode.UNAVAILABLE, "12 requests wait already; retry after 0.2 s")] * 2
    began = time.monotonic()
    assert ask("predict", "my card").label == "card"
    assert time.monotonic() - began >= 0.4
    assert len(servers.came) == 3


def test_a_far_server_has_time_to_greet(ask: Callable[..., Any], servers: Servers) -> None:
    """Its first words take longer than any pause between two attempts to connect."""
    with _far(servers.grpc_port, first_words_s=0.8) as port:
        once = {"grpc": f"127.0.0.1:{port}", "retry": Retry(attempts=1)}
        assert ask("predict", "my card", **once).label == "card"


@contextmanager
def _far(port: int, *, first_words_s: float) -> Iterator[int]:
    """A port that leads to another, from which the first words come late."""
    open_sockets = list[socket.socket]()

    def pass_on(source: socket.socket, target: socket.socket, pause_s: float) -> None:
        try:
            while data := source.recv(65_536):
                time.sleep(pause_s)
                pause_s = 0.0
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            """One side has gone."""

    def accept(door: socket.socket) -> None:
        try:
            while True:
                near, _ = door.accept()
                far = socket.create_connection(("127.0.0.1", port))
                open_sockets.extend((near, far))
                for way in ((near, far, 0.0), (far, near, first_words_s)):
                    threading.Thread(target=pass_on, args=way, daemon=True).start()
        except OSError:
            """The door is closed."""

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=accept, args=(door,), daemon=True).start()
        try:
            yield door.getsockname()[1]
        finally:
            door.shutdown(socket.SHUT_RDWR)
            for each in open_sockets:
                each.close()


def test_many_texts_are_asked_in_parts_and_answered_in_order(ask: Callable[..., Any], servers: Servers) -> None:
    servers.refusals += [(grpc.StatusCode.UNAVAILABLE, "retry after 0.0 s")]
    assert len(ask("predict_many", [str(number) for number in range(5)])) == 5
    assert len(servers.came) == 1 + 3
    assert ask("predict_many", []) == []


@pytest.mark.parametrize(
    ("refusal", "kind", "said"),
    [
        ((grpc.StatusCode.UNAVAILABLE, "retry after 9.0 s"), Overloaded, "retry after 9.0 s"),
        ((grpc.StatusCode.NOT_FOUND, "unknown model: 'intent'"), NotFound, "perennial model list"),
        ((grpc.StatusCode.INVALID_ARGUMENT, "TEXT of row 0 is not UTF-8"), Refused, "TEXT of row 0"),
    ],
)
def test_what_cannot_be_had_in_time_is_said_at_once(
    ask: Callable[..., Any],
    servers: Servers,
    refusal: tuple[grpc.StatusCode, str],
    kind: type[Exception],
    said: str,
) -> None:
    servers.refusals += [refusal]
    began = time.monotonic()
    with pytest.raises(kind, match=said):
        ask("predict", "my card", timeout_s=2.0)
    assert time.monotonic() - began < 2.0
    assert len(servers.came) == 1


def test_an_api_that_is_restarting_gets_the_same_rows_again(ask: Callable[..., Any], servers: Servers) -> None:
    servers.statuses += [503, 502]
    assert ask("feedback", [Label(label="lost_card", prediction_id="0" * 32)]) == Kept(new=1)
    assert len(servers.bodies) == 3
    assert servers.bodies[0] == servers.bodies[1] == servers.bodies[2]
    assert servers.bodies[0]["labels"][0]["at"]


def test_refused_rows_hold_up_none_of_the_others_and_have_their_own_numbers(
    ask: Callable[..., Any], servers: Servers
) -> None:
    servers.statuses += [422, 200, 422]
    with pytest.raises(RowsRefused) as refused:
        ask("feedback", [Label(label="card", text=str(number)) for number in range(20_010)], retry=Retry(attempts=1))
    assert [len(body["labels"]) for body in servers.bodies] == [10_000, 10_000, 10]
    assert [row["row"] for row in refused.value.rows] == [3, 20_003]


def test_one_text_is_not_taken_for_many(ask: Callable[..., Any], servers: Servers) -> None:
    with pytest.raises(BadInput, match="list of texts"):
        ask("predict_many", "my card")
    assert servers.came == []


def test_nobody_there_is_told_within_the_time(ask: Callable[..., Any]) -> None:
    gone = {"grpc": f"127.0.0.1:{free_port()}", "api": f"http://127.0.0.1:{free_port()}", "timeout_s": 1.0}
    for method, argument in (("predict", "my card"), ("feedback", [Label(label="x", text="y")])):
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
            ask(method, argument, **gone)
        assert time.monotonic() - began < 5.0


def test_a_server_that_is_silent_is_left_when_the_time_is_over(ask: Callable[..., Any], servers: Servers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        for method, argument in (("predict", "my card"), ("feedback", [Label(label="x", text="y")])):
            with pytest.raises(Unreachable, match="time"):
                ask(method, argument, grpc=where, api=f"http://{where}", timeout_s=0.3)
    servers.pauses_s += [0.6]
    with pytest.raises(TooLate, match="no answer came in time"):
        ask("predict", "my card", timeout_s=0.3)


def test_an_answer_that_comes_drop_by_drop_is_left_when_the_time_is_over(
    ask: Callable[..., Any], servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in good time, and the answer does not."""
    monkeypatch.setattr(servers, "drips_s", 0.05)  # all of it takes over 4 s
    began = time.monotonic()
    with pytest.raises(TooLate, match="no answer came in time"):
        ask("feedback", [Label(label="x", text="y")], timeout_s=0.3)
    assert time.monotonic() - began < 3.0


def test_the_callers_trace_is_passed_on_and_nothing_else(ask: Callable[..., Any], servers: Servers) -> None:
    with trace_context({"Traceparent": TRACE["traceparent"], "tracestate": TRACE["tracestate"], "cookie": "secret"}):
        ask("predict", "my card")
        ask("feedback", [Label(label="x", text="y")], token="a token")
    ask("predict", "my card")
    first, second, third = servers.came
    assert first.items() >= TRACE.items()
    assert second.items() >= {**TRACE, "authorization": "Bearer a token"}.items()
    assert "cookie" not in first | second
    assert not set(TRACE) & set(third)
