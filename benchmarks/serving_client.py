"""A load of its own process: `python -m benchmarks.serving_client http|grpc ADDRESS BODIES CONNECTIONS SECONDS`."""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

__all__ = ["main"]

_CHANNELS = 8  # connections of gRPC, which carry many questions each
Ask = Callable[[str], Awaitable[bool]]


async def _callers(asks: Sequence[Ask], bodies: Iterator[str], seconds: float) -> dict[str, Any]:
    took: list[float] = []
    errors = 0
    began = time.perf_counter()

    async def caller(ask: Ask) -> None:
        nonlocal errors
        while (start := time.perf_counter()) < began + seconds:
            errors += not await ask(next(bodies))
            took.append(time.perf_counter() - start)

    await asyncio.gather(*map(caller, asks))
    whole = time.perf_counter() - began
    p50, p99 = np.percentile(took, [50, 99]) * 1000.0
    return {"requests": len(took) - errors, "seconds": whole, "p50_ms": p50, "p99_ms": p99, "errors": errors}


async def _http(url: str, bodies: Iterator[str], connections: int, seconds: float) -> dict[str, Any]:
    import httpx

    clients = [httpx.AsyncClient(timeout=30, headers={"Content-Type": "application/json"}) for _ in range(connections)]

    def asks(client: httpx.AsyncClient) -> Ask:
        async def ask(body: str) -> bool:
            try:
                return (await client.post(url, content=body)).status_code == 200
            except httpx.HTTPError:
                return False

        return ask

    try:
        return await _callers([asks(client) for client in clients], bodies, seconds)
    finally:
        for client in clients:
            await client.aclose()


async def _grpc(address: str, bodies: Iterator[str], connections: int, seconds: float) -> dict[str, Any]:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(min(_CHANNELS, connections))]
    stubs = [service_pb2_grpc.GRPCInferenceServiceStub(channel) for channel in channels]

    def asks(stub: Any) -> Ask:
        async def ask(body: str) -> bool:
            texts = json.loads(body)["inputs"][0]["data"]
            request = service_pb2.ModelInferRequest(model_name="intent")
            tensor = request.inputs.add(name="TEXT", datatype="BYTES", shape=[len(texts), 1])
            tensor.contents.bytes_contents.extend(text.encode() for text in texts)
            try:
                await stub.ModelInfer(request)
            except grpc.aio.AioRpcError:
                return False
            return True

        return ask

    try:
        return await _callers([asks(stubs[n % len(stubs)]) for n in range(connections)], bodies, seconds)
    finally:
        for channel in channels:
            await channel.close()


def main(arguments: Sequence[str]) -> int:
    """Print one line of JSON."""
    kind, address, path, connections, seconds = arguments
    bodies = itertools.cycle(Path(path).read_text(encoding="utf-8").splitlines())
    load = _http if kind == "http" else _grpc
    print(json.dumps(uvloop.run(load(address, bodies, int(connections), float(seconds)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
