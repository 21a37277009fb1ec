"""One request to Triton over gRPC: how it is written, and what its errors mean."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from .errors import BadInput, ClientError, NotFound, Overloaded, Refused, TooLate, Unreachable
from .tensors import KEY, Array, strings

__all__ = [
    "CHANNEL_OPTIONS",
    "Call",
    "calls_of",
    "grpc_input",
    "grpc_outputs",
    "inference_errors",
    "meaning_of",
    "outputs_of",
]

T = TypeVar("T")
_HINT = re.compile(r"retry after (\d+(?:\.\d+)?) s")
_NOT_READY = re.compile("is not ready|available versions")
_WITHIN_A_STREAM = "None"  # an error there has a message alone
CHANNEL_OPTIONS: Sequence[tuple[str, Any]] = (
    # no global pool of connections: a restarted server must not be met with an old channel's back-off.
    # The least back-off stays at gRPC's 20 s, for it is also the time in which a far server must greet.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request: its tensors, the names of the outputs, and what makes answers of them."""

    tensors: Mapping[str, Array]
    outputs: Sequence[str]
    read: Callable[[Mapping[str, Array]], list[T]]

    def inputs(self) -> list[Any]:
        """The tensors as gRPC inputs."""
        return [grpc_input(name, array) for name, array in self.tensors.items()]


def calls_of(
    asked: Sequence[Any],
    keys: Sequence[str] | None,
    *,
    write: Callable[[Sequence[Any]], Mapping[str, Array]],
    read: Callable[[Mapping[str, Array]], list[T]],
    outputs: Sequence[str],
    rows_at_once: int,
) -> list[Call[T]]:
    """The requests that ask all of it, of at most so many rows each.

    Raises:
        BadInput: keys and questions differ in number, or one of them cannot be sent.
    """
    if isinstance(asked, str):
        raise BadInput("one text is given where several are asked about; give a list of texts")
    if keys is not None and len(keys) != len(asked):
        raise BadInput(f"{len(keys)} keys for {len(asked)} questions; give one key a question, or none")
    if rows_at_once < 1:
        raise BadInput(f"rows_at_once is {rows_at_once}; send at least one row a request")
    made = []
    for start in range(0, len(asked), rows_at_once):
        part = slice(start, start + rows_at_once)
        own = {} if keys is None else {KEY: strings(KEY, keys[part])}
        made.append(Call(tensors={**write(asked[part]), **own}, outputs=outputs, read=read))
    return made


def grpc_input(name: str, array: Array) -> Any:
    """The array as an input of a gRPC request."""
    from tritonclient.grpc import InferInput
    from tritonclient.utils import np_to_triton_dtype

    tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(np.ascontiguousarray(array))
    return tensor


def grpc_outputs(names: Sequence[str]) -> list[Any]:
    """The outputs that a gRPC request asks for."""
    from tritonclient.grpc import InferRequestedOutput

    return [InferRequestedOutput(name) for name in names]


def outputs_of(result: Any, names: Sequence[str]) -> dict[str, Array]:
    """The outputs of a gRPC answer."""
    return {name: result.as_numpy(name) for name in names}


@contextmanager
def inference_errors(url: str, model: str) -> Iterator[None]:
    """Turn Triton's and gRPC's errors into this package's."""
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as exc:
        raise meaning_of(str(exc.status()), str(exc.message()), f"asking {model} at {url}") from exc
    except OSError as exc:
        raise Unreachable(f"asking {model} at {url}: it cannot be reached: {exc}") from exc


def meaning_of(status: str, message: str, what: str) -> ClientError:
    """The error that a status of gRPC and its message stand for."""
    if status == "StatusCode.NOT_FOUND" or "unknown model" in message:
        return NotFound(f"{what}: there is no such model ({message}); `perennial model list` names those there are")
    if status == "StatusCode.DEADLINE_EXCEEDED":
        return TooLate(f"{what}: no answer came in time ({message}); give the call a longer timeout_s")
    if status in {"StatusCode.UNAVAILABLE", _WITHIN_A_STREAM} and (found := _HINT.search(message)):
        return Overloaded(f"{what}: it cannot answer now: {message}", float(found[1]))
    if status == "StatusCode.UNAVAILABLE":
        if _NOT_READY.search(message):
            return Unreachable(f"{what}: no version of it is ready ({message}); `perennial status` tells why")
        return Unreachable(f"{what}: nobody answers ({message}); is `perennial serve` running there?")
    if status == "StatusCode.CANCELLED":
        return Unreachable(f"{what}: the request was cancelled ({message})")
    return Refused(f"{what}: it refuses ({status}): {message}", status)
