"""LitServe with its own batching."""

from collections.abc import Sequence

import litserve as ls

from benchmarks.serving_peers.our_engine import OurEngine
from benchmarks.serving_peers.placed import Place, placed

Answer = list[tuple[str, float]]


class Api(ls.LitAPI):  # type: ignore[misc,unused-ignore]
    """Batches of requests, each of several texts."""

    def __init__(self, place: Place) -> None:
        super().__init__(max_batch_size=64, batch_timeout=0.002)
        self._place = place

    def setup(self, device: str) -> None:
        del device
        self._engine = OurEngine(self._place.bundle, self._place.cache)

    def decode_request(self, request: dict[str, list[str]]) -> list[str]:
        return request["texts"]

    def batch(self, inputs: Sequence[list[str]]) -> Sequence[list[str]]:
        return inputs

    def predict(self, inputs: Sequence[list[str]]) -> list[Answer]:
        answers = iter(self._engine.answer([text for texts in inputs for text in texts]))
        return [[next(answers) for _ in texts] for texts in inputs]

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        return output

    def encode_response(self, output: Answer) -> dict[str, list[str] | list[float]]:
        return {"labels": [label for label, _ in output], "confidences": [sure for _, sure in output]}


if __name__ == "__main__":
    given = placed()
    server = ls.LitServer(Api(given), accelerator="cpu", workers_per_device=1)
    server.run(port=given.port, num_api_servers=1, generate_client_file=False, log_level="warning")
