"""A convenience over gRPC; any KServe v2 client works as well."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perennial.continual.errors import InputError
from perennial.exporters.contract import (
    CONFIDENCE,
    KEY,
    LABEL,
    LABELS,
    PREDICTION_ID,
    SCORES,
    TENSORS,
    TEXT,
    USUAL_OUTPUTS,
    VERSION,
)
from perennial.ops.serving.control import triton_errors

__all__ = ["Answer", "PerennialClient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one text got. `scores` maps label to probability, where it was asked for."""

    label: str
    confidence: float
    version: int
    prediction_id: str
    scores: dict[str, float] | None = None


class PerennialClient:
    """Asks a served text model; one client may be shared by threads."""

    def __init__(self, url: str, model: str, *, timeout_s: float = 30.0) -> None:
        from tritonclient.grpc import InferenceServerClient

        self._url, self._model, self._timeout_s = url, model, timeout_s
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500)]
        options += [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100)]
        options += [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._client = InferenceServerClient(url, channel_args=options)

    def __enter__(self) -> "PerennialClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._client.close()

    def predict(self, texts: Sequence[str], keys: Sequence[str] | None = None, scores: bool = False) -> list[Answer]:
        """One answer a text, in order, from one request.

        `keys` are stable caller ids, one a text: the same key stays on its side of a canary and can be erased.

        Raises:
            InputError: keys and texts differ in number, or one of them is no text that UTF-8 can hold.
            DependencyUnreachable: the server does not answer.
            NotFound: it has no such model.
            PublishFailed: it refuses the request.
        """
        if keys is not None and len(keys) != len(texts):
            raise InputError(f"{len(keys)} keys for {len(texts)} texts; give one key a text, or none")
        if not texts:
            return []
        from tritonclient.grpc import InferRequestedOutput

        inputs = [_strings(TEXT, texts)] + ([] if keys is None else [_strings(KEY, keys)])
        names = (*USUAL_OUTPUTS, SCORES, LABELS) if scores else USUAL_OUTPUTS
        with triton_errors(self._url, f"asking {self._model}"):
            result = self._client.infer(
                self._model,
                inputs,
                outputs=[InferRequestedOutput(name) for name in names],
                client_timeout=self._timeout_s,
            )
        return _answers(result, len(texts), scores)


def _strings(name: str, values: Sequence[str]) -> Any:
    from tritonclient.grpc import InferInput

    tensor = InferInput(name, [len(values), 1], TENSORS[name].datatype)
    tensor.set_data_from_numpy(np.array([[_bytes(name, row, value)] for row, value in enumerate(values)], dtype=object))
    return tensor


def _bytes(name: str, row: int, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as exc:
        half = f"U+{ord(value[exc.start]):04X}"
        raise InputError(
            f"{name} of row {row}: character {exc.start} is {half}, half of a surrogate pair; send UTF-8 text"
        ) from exc


def _answers(result: Any, count: int, scores: bool) -> list[Answer]:
    columns = {name: result.as_numpy(name)[:, 0] for name in USUAL_OUTPUTS}
    if scores:
        shares, names = result.as_numpy(SCORES), result.as_numpy(LABELS)
    return [
        Answer(
            label=columns[LABEL][row].decode(),
            confidence=float(columns[CONFIDENCE][row]),
            version=int(columns[VERSION][row]),
            prediction_id=columns[PREDICTION_ID][row].decode(),
            scores={n.decode(): float(s) for n, s in zip(names[row], shares[row], strict=True) if n}
            if scores
            else None,
        )
        for row in range(count)
    ]
