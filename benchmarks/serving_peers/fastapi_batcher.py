"""FastAPI with a micro-batcher: what waits is answered together, in a thread, while the loop reads on."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving_peers.our_engine import OurEngine
from benchmarks.serving_peers.placed import placed

_MOST = 64  # texts of a batch


class Asked(BaseModel):
    """The body of a request."""

    texts: list[str]


class Batcher:
    """Futures by the batch."""

    def __init__(self, engine: OurEngine) -> None:
        self._engine, self._pool = engine, ThreadPoolExecutor(1)
        self._waiting: asyncio.Queue[tuple[list[str], asyncio.Future[list[tuple[str, float]]]]] = asyncio.Queue()

    async def answer(self, texts: list[str]) -> list[tuple[str, float]]:
        future = asyncio.get_running_loop().create_future()
        await self._waiting.put((texts, future))
        answered: list[tuple[str, float]] = await future
        return answered

    async def work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while sum(len(texts) for texts, _ in batch) < _MOST and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            together = [text for texts, _ in batch for text in texts]
            answers = iter(await loop.run_in_executor(self._pool, self._engine.answer, together))
            for texts, future in batch:
                future.set_result([next(answers) for _ in texts])


def make_app(engine: OurEngine) -> FastAPI:
    """The application, its batcher running as long as it does."""
    batcher = Batcher(engine)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.work())
        yield
        task.cancel()

    app = FastAPI(lifespan=running)

    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/predict")
    async def predict(asked: Asked) -> dict[str, list[str] | list[float]]:
        answers = await batcher.answer(asked.texts)
        return {"labels": [label for label, _ in answers], "confidences": [sure for _, sure in answers]}

    return app


if __name__ == "__main__":
    place = placed()
    uvicorn.run(make_app(OurEngine(place.bundle, place.cache)), port=place.port, access_log=False, log_level="warning")
