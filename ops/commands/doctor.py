"""What is open on the Triton in use to somebody who knows no secret: looked at, never changed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perennial.client.inference import grpc_input
from perennial.continual.errors import NotFound
from perennial.exporters.engine import Inputs
from perennial.exporters.signature import BYTES, Array, Tensor
from perennial.ops.serving.port import ServingSide
from perennial.ops.serving.processes import is_running
from perennial.ops.serving.server.exposure import is_local
from perennial.ops.serving.server.server_binary import overlooks_classification
from perennial.ops.serving.server_record import FILE, ServerRecord

__all__ = ["Finding", "State", "engine_question", "examine", "examine_binary"]

_TIMEOUT_S = 5.0
_ANY = "model"  # a name to ask with where none is configured
_RESTRICT = (
    "start it with --{kind}=shared-memory,model-config,model-repository,trace,logging:perennial-secret=SECRET, give "
    "its process PERENNIAL_SECRET=SECRET, and set triton.secret to the same"
)
_BY_GRPC, _BY_HTTP = (_RESTRICT.format(kind=kind) for kind in ("grpc-restricted-protocol", "http-restricted-api"))
_ENGINE = "give Triton's process PERENNIAL_SECRET, so that engines answer the routers alone, and set triton.secret"
_COPY = (
    "the server runs from the wheel's own binary, which a request of sixty bytes ends (docs/decisions/0003): look for "
    "triton.binary_not_copied or triton.unknown_binary in the log of `perennial serve`, make {folder} writable with 20 "
    "MB free or install the pinned nvidia-pytriton, then stop and start `perennial serve`"
)


class State(StrEnum):
    """How a door was found."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was tried; `dangerous` is what must not be open."""

    what: str
    where: str
    state: State
    dangerous: bool = True
    todo: str = ""  # when it is open

    @property
    def wrong(self) -> bool:
        """Whether somebody should do something."""
        return self.dangerous and self.state is State.OPEN

    def to_json(self) -> dict[str, object]:
        """For a table or JSON."""
        return {
            "what": self.what,
            "where": self.where,
            "state": self.state.value,
            "wrong": self.wrong,
            "todo": self.todo if self.wrong else "",
        }


def engine_question(side: ServingSide, bundle: Path | None) -> Inputs:
    """What an engine of a task can be asked: its probe, as the version in `bundle` reads it; else a row of ones."""
    if bundle is not None:
        with suppress(NotFound):
            return side.open(bundle).encode([side.probe])
    return {tensor.name: _ones(tensor) for tensor in side.engine.inputs}


def examine(questions: Mapping[str, Inputs], url: str, *, http: str = "", metrics: str = "") -> tuple[Finding, ...]:
    """Try each door of one Triton without the secret.

    Args:
        questions: what the engine of each model is asked, by the model's name.
        url: where gRPC answers.
        http: where HTTP answers, as http://host:port; empty leaves it out.
        metrics: where metrics are read, likewise.
    """
    findings = [_reach(url), *_by_grpc(url, questions)]
    if http:
        findings += _by_http(http.rstrip("/"), questions)
    if metrics:
        state = _http_state("GET", f"{metrics.rstrip('/')}/metrics", None)
        findings.append(Finding(what="metrics", where=metrics, state=state, dangerous=False))
    return tuple(findings)


def examine_binary(folder: Path) -> Finding:
    """Whether the embedded server of this folder runs from the changed copy of its binary; nobody is asked."""
    record, where, state = ServerRecord.read(folder / FILE), "no server runs", State.UNKNOWN
    if record is not None and is_running(record.pid, record.ticks):
        where = f"process {record.pid}"
        with suppress(OSError):  # another user's process
            overlooks = overlooks_classification(Path(f"/proc/{record.pid}/exe"))
            state = State.CLOSED if overlooks else State.OPEN
    todo = _COPY.format(folder=folder / "bin")
    return Finding(what="end the server by asking for classes", where=where, state=state, todo=todo)


def _reach(url: str) -> Finding:
    host = url.rpartition(":")[0]
    state = State.CLOSED if is_local(host) else State.OPEN
    todo = "inference asks nobody who they are: let only a proxy that does reach this address"
    return Finding(what="reachable from other machines", where=url, state=state, todo=todo)


def _ones(tensor: Tensor) -> Array:
    shape = (1, *(1 if isinstance(dim, str) else dim for dim in tensor.dims))
    return np.full(shape, b"1" if tensor.datatype == BYTES else 1, dtype=tensor.numpy_type)


def _by_grpc(url: str, questions: Mapping[str, Inputs]) -> Iterator[Finding]:
    from tritonclient.grpc import InferenceServerClient

    model = next(iter(questions), _ANY)
    with InferenceServerClient(url) as client:
        bound = {"client_timeout": _TIMEOUT_S}
        looks: dict[str, Callable[[], Any]] = {
            "load and unload models": lambda: client.get_model_repository_index(**bound),
            "model configuration": lambda: client.get_model_config(model, **bound),
            "shared memory": lambda: client.get_system_shared_memory_status(**bound),
            "log settings": lambda: client.get_log_settings(**bound),
            "trace settings": lambda: client.get_trace_settings(**bound),
        }
        for what, look in looks.items():
            yield Finding(what=what, where=f"grpc {url}", state=_grpc_state(look), todo=_BY_GRPC)
        for engine, question in _engines(questions):
            state = _grpc_state(partial(_ask_engine, client, engine, question))
            yield Finding(what=f"engine {engine}", where=f"grpc {url}", state=state, todo=_ENGINE)


def _engines(questions: Mapping[str, Inputs]) -> Iterator[tuple[str, Inputs]]:
    for model, question in questions.items():
        yield f"{model}_engine", question


def _ask_engine(client: Any, engine: str, question: Inputs) -> None:
    inputs = [grpc_input(name, array) for name, array in question.items()]
    client.infer(engine, inputs, client_timeout=_TIMEOUT_S)


def _grpc_state(look: Callable[[], Any]) -> State:
    from tritonclient.utils import InferenceServerException

    try:
        look()
    except InferenceServerException as exc:
        message = str(exc.message())
        if "restricted" in message or "answers the routers alone" in message:
            return State.CLOSED
        known = str(exc.status()) in {"StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"}
        return State.OPEN if known and "engine" not in message else State.UNKNOWN
    except OSError:
        return State.UNKNOWN
    return State.OPEN


def _by_http(url: str, questions: Mapping[str, Inputs]) -> Iterator[Finding]:
    model = next(iter(questions), _ANY)
    for what, method, path, body in (
        ("load and unload models", "POST", "/v2/repository/index", {}),
        ("model configuration", "GET", f"/v2/models/{model}/config", None),
        ("shared memory", "GET", "/v2/systemsharedmemory/status", None),
        ("log settings", "GET", "/v2/logging", None),
        ("trace settings", "GET", "/v2/trace/setting", None),
    ):
        yield Finding(what=what, where=url, state=_http_state(method, url + path, body), todo=_BY_HTTP)
    for engine, question in _engines(questions):
        state = _http_state("POST", f"{url}/v2/models/{engine}/infer", _as_json(question))
        yield Finding(what=f"engine {engine}", where=url, state=state, todo=_ENGINE)


def _as_json(question: Inputs) -> dict[str, Any]:
    """The request of KServe's protocol."""
    from tritonclient.utils import np_to_triton_dtype

    return {
        "inputs": [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": np_to_triton_dtype(array.dtype),
                "data": [value.decode() if isinstance(value, bytes) else value for value in array.ravel().tolist()],
            }
            for name, array in question.items()
        ]
    }


def _http_state(method: str, address: str, body: dict[str, Any] | None) -> State:
    import httpx

    try:
        status = httpx.request(method, address, json=body, timeout=_TIMEOUT_S).status_code
    except httpx.ConnectError:
        return State.CLOSED
    except (httpx.HTTPError, httpx.InvalidURL):
        return State.UNKNOWN
    return State.OPEN if status < 300 else State.CLOSED if status < 500 else State.UNKNOWN
