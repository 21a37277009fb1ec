"""FastAPI without a batcher: each request is answered for itself, in a thread of the pool."""

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving_peers.our_engine import OurEngine
from benchmarks.serving_peers.placed import placed


class Asked(BaseModel):
    """The body of a request."""

    texts: list[str]


def make_app(engine: OurEngine) -> FastAPI:
    """The application."""
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/predict")
    def predict(asked: Asked) -> dict[str, list[str] | list[float]]:
        answers = engine.answer(asked.texts)
        return {"labels": [label for label, _ in answers], "confidences": [sure for _, sure in answers]}

    return app


if __name__ == "__main__":
    place = placed()
    uvicorn.run(make_app(OurEngine(place.bundle, place.cache)), port=place.port, access_log=False, log_level="warning")
