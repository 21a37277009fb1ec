"""A small typed client. Any KServe v2 client works as well; this one only saves its users the tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from continual.errors import DataError, DependencyUnreachable

__all__ = ["Answer", "PerennialClient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One text's answer. `scores` maps every label to its probability when asked for."""

    label: str
    confidence: float
    version: int
    prediction_id: str
    scores: dict[str, float] | None = None


class PerennialClient:
    """Asks a served model over gRPC; may be shared by threads."""

    def __init__(self, url: str, model: str, *, timeout_s: float = 10.0) -> None:
        from tritonclient.grpc import InferenceServerClient

        quick = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
        quick += [("grpc.min_reconnect_backoff_ms", 100)]
        self.url, self.model, self._timeout_s = url, model, timeout_s
        self._client: Any = InferenceServerClient(url, channel_args=quick)

    def predict(self, texts: Sequence[str], keys: Sequence[str] | None = None, *, scores: bool = False) -> list[Answer]:
        """Answers in the order of the texts.

        Raises:
            DataError: the server found something wrong with a text or a key.
            DependencyUnreachable: no answer.
        """
        from tritonclient.grpc import InferRequestedOutput
        from tritonclient.utils import InferenceServerException

        if not texts:
            return []
        inputs = [_strings("TEXT", texts)] + ([] if keys is None else [_strings("KEY", keys)])
        names = ["LABEL", "CONFIDENCE", "VERSION", "PREDICTION_ID", *(["SCORES", "LABELS"] if scores else [])]
        outputs = [InferRequestedOutput(name) for name in names]
        try:
            result = self._client.infer(self.model, inputs, outputs=outputs, client_timeout=self._timeout_s)
        except InferenceServerException as exc:
            if "INVALID_ARGUMENT" in str(exc.status()):
                raise DataError(exc.message()) from exc
            raise DependencyUnreachable(f"{self.model} at {self.url} gave no answer: {exc.message()}") from exc
        return _answers(result, scores=scores)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _strings(name: str, values: Sequence[str]) -> Any:
    from tritonclient.grpc import InferInput

    tensor = InferInput(name, [len(values), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[value.encode()] for value in values], dtype=object))
    return tensor


def _answers(result: Any, *, scores: bool) -> list[Answer]:
    labels, confidences = result.as_numpy("LABEL"), result.as_numpy("CONFIDENCE")
    versions, ids = result.as_numpy("VERSION"), result.as_numpy("PREDICTION_ID")
    names = result.as_numpy("LABELS") if scores else None
    values = result.as_numpy("SCORES") if scores else None
    answers = []
    for row in range(len(labels)):
        by_label = None
        if names is not None and values is not None:
            pairs = zip(names[row], values[row], strict=True)
            by_label = {name.decode(): float(value) for name, value in pairs if name}
        answers.append(
            Answer(
                label=labels[row, 0].decode(),
                confidence=float(confidences[row, 0]),
                version=int(versions[row, 0]),
                prediction_id=ids[row, 0].decode(),
                scores=by_label,
            )
        )
    return answers
