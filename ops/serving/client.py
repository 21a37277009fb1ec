"""The house's own client: one attempt a request, with the house's errors; `perennial.client` writes the requests."""

from collections.abc import Sequence
from typing import Any

from perennial.client.errors import BadInput
from perennial.client.inference import CHANNEL_OPTIONS, calls_of, grpc_outputs, outputs_of
from perennial.continual.errors import InputError
from perennial.continual.tasks import DEFAULT_TASK
from perennial.exporters.contract import usual_outputs
from perennial.exporters.text_classification.signature import KNOWN
from perennial.ops.serving.control import triton_errors
from perennial.ops.serving.tasks import serving_side

__all__ = ["PerennialClient"]


class PerennialClient:
    """Asks a served model of a task; one client may be shared by threads."""

    def __init__(self, url: str, model: str, *, timeout_s: float = 30.0, task: str = DEFAULT_TASK) -> None:
        from tritonclient.grpc import InferenceServerClient

        self._url, self._model, self._timeout_s = url, model, timeout_s
        self._side = serving_side(task)
        self._client = InferenceServerClient(url, channel_args=list(CHANNEL_OPTIONS))

    def __enter__(self) -> "PerennialClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._client.close()

    def predict(
        self, inputs: Sequence[Any], keys: Sequence[str] | None = None, scores: bool = False, known: bool = False
    ) -> list[Any]:
        """One answer an input, in order, from one request; `scores` asks for the task's further outputs too.

        `known` asks whether a text is of any of the classes, where the task has classes. `keys` are stable caller ids,
        one an input: the same key stays on its side of a canary and can be erased.

        Raises:
            InputError: keys and inputs differ in number, or one of them cannot be sent.
            DependencyUnreachable: the server does not answer.
            NotFound: it has no such model.
            PublishFailed: it refuses the request.
        """
        signature = self._side.signature
        further = [each.name for each in signature.further if (known if each.name == KNOWN else scores)]
        names, side = [*usual_outputs(signature), *further], self._side
        try:
            calls = calls_of(
                inputs, keys, write=side.request, read=list, outputs=names, rows_at_once=max(1, len(inputs))
            )
        except BadInput as exc:
            raise InputError(str(exc)) from exc
        if not calls:
            return []
        with triton_errors(self._url, f"asking {self._model}"):
            result = self._client.infer(
                self._model, calls[0].inputs(), outputs=grpc_outputs(names), client_timeout=self._timeout_s
            )
        return list(side.received(outputs_of(result, names)))
