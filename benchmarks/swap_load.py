"""Closed-loop clients over gRPC and HTTP, in a process of their own: `python -m benchmarks.swap_load SPEC.json`.

Prints a line when its first answers are in, works until its standard input ends, and then writes one row an answer.
"""

import gc
import http.client
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perennial.exporters.contract import VERSION
from perennial.exporters.signature import BYTES

__all__ = ["JOINT", "Answers", "LoadSpec", "main", "read_answers"]

JOINT = "\x1f"  # between the values of one answer
_FAILED = -1
_BEAT_S, _LATE_S = 0.005, 0.005
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """Who asks what. `think_ms` is the mean pause of a client between an answer and its next request.

    `asks` is the input that a text is sent as, `says` the output that is its answer; several values of it are joined.
    """

    model: str
    asks: str
    says: str
    grpc: str
    http: str
    texts: list[str]
    labels: list[str]  # an answer is written as its label's place in here
    grpc_clients: int
    http_clients: int
    think_ms: float
    out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One entry a request, in order of their arrival; times in seconds on the system's monotonic clock.

    `version` and `label` are -1 where the request failed, `label` is -2 where its label is in no version's list.
    `stalls` (n, 2) are the times at which this process itself came late to the processor, and by how many seconds.
    """

    sent: npt.NDArray[np.float64]
    received: npt.NDArray[np.float64]
    text: npt.NDArray[np.int64]
    version: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    grpc: npt.NDArray[np.bool_]
    errors: list[str]
    stalls: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))


def read_answers(path: Path) -> Answers:
    """What a load process wrote."""
    with np.load(path) as held:
        order = np.argsort(held["received"], kind="stable")
        rows = {name: held[name][order] for name in ("sent", "received", "text", "version", "label", "grpc")}
        return Answers(**rows, errors=[str(line) for line in held["errors"]], stalls=held["stalls"])


class _Client:
    """One closed loop: ask, note, think, ask again."""

    def __init__(self, ask: Callable[[int], tuple[int, str]], spec: LoadSpec, *, grpc: bool, seed: int) -> None:
        self._ask, self._spec, self._grpc = ask, spec, grpc
        self._chance = random.Random(seed)
        self._codes = {label: code for code, label in enumerate(spec.labels)}
        self.rows: list[tuple[float, float, int, int, int, bool]] = []
        self.errors: list[str] = []

    def work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            text = self._chance.randrange(len(self._spec.texts))
            version, label = _FAILED, _FAILED
            sent = time.monotonic()
            try:
                version, name = self._ask(text)
                label = self._codes.get(name, -2)
            except Exception as exc:  # every failure of whatever kind counts
                self.errors.append(f"{type(exc).__name__}: {exc}"[:300])
            self.rows.append((sent, time.monotonic(), text, version, label, self._grpc))
            if self._spec.think_ms:
                time.sleep(self._chance.uniform(0.0, 2.0) * self._spec.think_ms / 1e3)


def _note_stalls(stop: threading.Event, stalls: list[tuple[float, float]]) -> None:
    """What the clients see late because they could not look: the machine's doing, not the server's."""
    while not stop.is_set():
        due = time.monotonic() + _BEAT_S
        time.sleep(_BEAT_S)
        if (late := time.monotonic() - due) > _LATE_S:
            stalls.append((due, late))


def _grpc_asker(spec: LoadSpec) -> Callable[[int], tuple[int, str]]:
    import grpc
    from tritonclient.grpc import service_pb2

    channel = grpc.insecure_channel(spec.grpc, options=[("grpc.use_local_subchannel_pool", 1)])
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=None,
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )
    bodies = []
    for text in spec.texts:
        request = service_pb2.ModelInferRequest(model_name=spec.model)
        tensor = request.inputs.add(name=spec.asks, datatype=BYTES, shape=[1, 1])
        tensor.contents.bytes_contents.append(text.encode())
        for name in (spec.says, VERSION):
            request.outputs.add(name=name)
        bodies.append(request.SerializeToString())

    def ask(text: int) -> tuple[int, str]:
        response = call(bodies[text], timeout=_TIMEOUT_S)
        raw = {
            tensor.name: content for tensor, content in zip(response.outputs, response.raw_output_contents, strict=True)
        }
        return int.from_bytes(raw[VERSION], "little"), JOINT.join(_strings(raw[spec.says]))

    return ask


def _strings(raw: bytes) -> list[str]:
    """BYTES as Triton sends them: each with its length before it."""
    found = []
    while raw:
        end = 4 + int.from_bytes(raw[:4], "little")
        found.append(raw[4:end].decode())
        raw = raw[end:]
    return found


def _http_asker(spec: LoadSpec) -> Callable[[int], tuple[int, str]]:
    connection = http.client.HTTPConnection(spec.http, timeout=_TIMEOUT_S)
    path = f"/v2/models/{spec.model}/infer"
    outputs = [{"name": spec.says}, {"name": VERSION}]
    bodies = [
        json.dumps(
            {"inputs": [{"name": spec.asks, "shape": [1, 1], "datatype": BYTES, "data": [text]}], "outputs": outputs}
        )
        for text in spec.texts
    ]

    def ask(text: int) -> tuple[int, str]:
        connection.request("POST", path, body=bodies[text], headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise ConnectionError(f"status {response.status}: {content[:200]!r}")
        found: dict[str, Any] = {tensor["name"]: tensor["data"] for tensor in json.loads(content)["outputs"]}
        return int(found[VERSION][0]), JOINT.join(found[spec.says])

    return ask


def main() -> None:
    """Ask until standard input ends, then write the answers."""
    spec = LoadSpec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    clients = [_Client(_grpc_asker(spec), spec, grpc=True, seed=number) for number in range(spec.grpc_clients)] + [
        _Client(_http_asker(spec), spec, grpc=False, seed=1000 + number) for number in range(spec.http_clients)
    ]
    stop, stalls = threading.Event(), list[tuple[float, float]]()
    threads = [threading.Thread(target=client.work, args=(stop,), name="client") for client in clients]
    threads.append(threading.Thread(target=_note_stalls, args=(stop, stalls), name="stalls"))
    for thread in threads:
        thread.start()
    while not all(client.rows for client in clients):
        time.sleep(0.01)
    gc.freeze()  # a full collection of what was imported would be measured as the server's doing
    print("asking", flush=True)
    for _ in sys.stdin:  # each line asks how many answers there are
        print(sum(len(client.rows) for client in clients), flush=True)
    stop.set()
    for thread in threads:
        thread.join()
    rows = [row for client in clients for row in client.rows]
    columns = list(zip(*rows, strict=True))
    names = ("sent", "received", "text", "version", "label", "grpc")
    kinds = (np.float64, np.float64, np.int64, np.int64, np.int64, np.bool_)
    arrays = {name: np.asarray(c, dtype=k) for name, c, k in zip(names, columns, kinds, strict=True)}
    errors = np.asarray([line for client in clients for line in client.errors][:50], dtype=np.str_)
    np.savez(spec.out, errors=errors, stalls=np.asarray(stalls, dtype=np.float64).reshape(-1, 2), **arrays)


if __name__ == "__main__":
    main()
