"""A rewrite as it is written: pieces of text, then the answer. With a thread that waits, and for asyncio."""

import asyncio
import queue
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from .errors import TooLate, Unreachable
from .inference import CHANNEL_OPTIONS, grpc_input, inference_errors, meaning_of
from .rewrites import ANSWER, USUAL, AskedRewrite, Rewritten, rewrite_tensors, rewrites_in
from .tensors import KEY, strings
from .trace import trace_headers

__all__ = ["Piece", "stream_rewrite", "stream_rewrite_async"]

PIECE, INDEX = "TOKENS", "INDEX"
_STREAM = "_stream"  # behind a model's name: what answers piece by piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Text that follows what came before; `index` is its place, and 0 means that it begins anew."""

    text: str
    index: int


def stream_rewrite(
    url: str, model: str, rewrite: AskedRewrite, *, key: str | None = None, timeout_s: float = 60.0, **options: Any
) -> Generator[Piece | Rewritten, None, None]:
    """Pieces as they are written, and last the answer, which alone counts: what was written may have been refused.

    Whoever stops reading has the server stop writing.

    Args:
        url: of Triton's gRPC.
        model: its name.
        rewrite: what is asked.
        key: a stable id of the caller.
        timeout_s: for all of it.
        options: of the gRPC client.

    Raises:
        ClientError: it is refused, takes too long, or nobody answers.
    """
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    end = time.monotonic() + timeout_s
    client = InferenceServerClient(url, **{"channel_args": list(CHANNEL_OPTIONS), **options})
    try:
        with inference_errors(url, model):
            client.start_stream(callback=partial(_take, answers), headers=trace_headers())
            with suppress(InferenceServerException):  # a stream that is over has told its callback why: read below
                client.async_stream_infer(f"{model}{_STREAM}", _inputs(rewrite, key), timeout=int(timeout_s * 1e6))
            while True:
                made = _next(answers, end, model, url)
                yield made
                if isinstance(made, Rewritten):
                    return
    finally:
        client.stop_stream(cancel_requests=True)
        client.close()


async def stream_rewrite_async(
    url: str, model: str, rewrite: AskedRewrite, *, key: str | None = None, timeout_s: float = 60.0, **options: Any
) -> AsyncGenerator[Piece | Rewritten, None]:
    """What `stream_rewrite` gives, for asyncio: a stream that waits holds no thread."""
    from tritonclient.grpc.aio import InferenceServerClient, grpc

    end = time.monotonic() + timeout_s
    client = InferenceServerClient(url, **{"channel_args": list(CHANNEL_OPTIONS), **options})
    coming: Any = None
    try:
        with inference_errors(url, model):
            question = {"model_name": f"{model}{_STREAM}", "inputs": _inputs(rewrite, key)}
            asked = _once({**question, "timeout": int(timeout_s * 1e6)})
            coming = client.stream_infer(asked, headers=trace_headers())
            while True:
                try:
                    result, error = await asyncio.wait_for(anext(coming), max(0.0, end - time.monotonic()))
                except TimeoutError:
                    raise _too_late(url, model) from None
                except grpc.aio.AioRpcError as exc:  # which tritonclient leaves as it is
                    raise meaning_of(str(exc.code()), str(exc.details()), f"asking {model} at {url}") from exc
                except StopAsyncIteration:
                    raise Unreachable(f"asking {model} at {url}: it ended before its answer") from None
                made = _made(result, error)
                yield made
                if isinstance(made, Rewritten):
                    return
    finally:
        if coming is not None:
            coming.cancel()
        await client.close()


async def _once(question: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield question


def _inputs(rewrite: AskedRewrite, key: str | None) -> list[Any]:
    """The tensors of one rewrite, which have no dimension of rows."""
    tensors = {name: array[0] for name, array in rewrite_tensors([rewrite]).items()}
    if key is not None:
        tensors[KEY] = strings(KEY, [key])[0]
    return [grpc_input(name, array) for name, array in tensors.items()]


def _take(answers: "queue.SimpleQueue[tuple[Any, Any]]", result: Any, error: Any) -> None:
    answers.put((result, error))


def _next(answers: "queue.SimpleQueue[tuple[Any, Any]]", end: float, model: str, url: str) -> Piece | Rewritten:
    try:
        result, error = answers.get(timeout=max(0.0, end - time.monotonic()))
    except queue.Empty:
        raise _too_late(url, model) from None
    return _made(result, error)


def _made(result: Any, error: Any) -> Piece | Rewritten:
    if error is not None:
        raise error
    names = {output.name for output in result.get_response().outputs}
    if ANSWER not in names:
        return Piece(text=result.as_numpy(PIECE)[0].decode(), index=int(result.as_numpy(INDEX)[0]))
    return rewrites_in({name: result.as_numpy(name).reshape(1, -1) for name in USUAL})[0]


def _too_late(url: str, model: str) -> TooLate:
    return TooLate(f"asking {model} at {url}: no answer came in time; give the call a longer timeout_s")
