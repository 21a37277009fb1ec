"""FastAPI with the model as torch runs it, as a user begins: no engine of ours, no batcher."""

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving_peers.placed import placed
from perennial.exporters.port import Answerer, exportable
from perennial.exporters.text_classification.signature import LOGITS
from perennial.exporters.torch_engine import TorchEngine


class Asked(BaseModel):
    """The body of a request."""

    texts: list[str]


def make_app(answerer: Answerer, labels: tuple[str, ...]) -> FastAPI:
    """The application."""
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/predict")
    def predict(asked: Asked) -> dict[str, list[str]]:
        logits = answerer.engine.infer(answerer.encode(asked.texts))[LOGITS]
        return {"labels": [labels[place] for place in logits.argmax(axis=1)]}

    return app


if __name__ == "__main__":
    from perennial.exporters.text_classification.part import read_labels

    place = placed()
    model = exportable("text_classification", place.bundle)
    torch = model.answerer(TorchEngine(model.module(), model.signature), place.bundle)
    app = make_app(torch, tuple(read_labels(place.bundle)))
    uvicorn.run(app, port=place.port, access_log=False, log_level="warning")
