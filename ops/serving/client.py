"""A convenience over gRPC; any KServe v2 client works as well."""

from collections.abc import Sequence
from typing import Any

from perennial.continual.errors import InputError
from perennial.continual.tasks import DEFAULT_TASK
from perennial.exporters.contract import KEY, usual_outputs
from perennial.exporters.text_classification.signature import KNOWN
from perennial.ops.serving.control import triton_errors
from perennial.ops.serving.tasks import serving_side
from perennial.ops.serving.tensors import grpc_input, strings

__all__ = ["PerennialClient"]


class PerennialClient:
    """Asks a served model of a task; one client may be shared by threads."""

    def __init__(self, url: str, model: str, *, timeout_s: float = 30.0, task: str = DEFAULT_TASK) -> None:
        from tritonclient.grpc import InferenceServerClient

        self._url, self._model, self._timeout_s = url, model, timeout_s
        self._side = serving_side(task)
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
        if keys is not None and len(keys) != len(inputs):
            raise InputError(f"{len(keys)} keys for {len(inputs)} inputs; give one key an input, or none")
        if not inputs:
            return []
        from tritonclient.grpc import InferRequestedOutput

        signature = self._side.signature
        tensors = {**self._side.request(inputs), **({} if keys is None else {KEY: strings(KEY, keys)})}
        further = [each.name for each in signature.further if (known if each.name == KNOWN else scores)]
        names = [*usual_outputs(signature), *further]
        with triton_errors(self._url, f"asking {self._model}"):
            result = self._client.infer(
                self._model,
                [grpc_input(name, array) for name, array in tensors.items()],
                outputs=[InferRequestedOutput(name) for name in names],
                client_timeout=self._timeout_s,
            )
        return list(self._side.received({name: result.as_numpy(name) for name in names}))
