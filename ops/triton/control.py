"""Orders to a Triton, over gRPC only: an HTTP load would hold up every connection of its worker thread."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from continual.errors import DependencyUnreachable, PublishFailed
from exporters.golden import Golden

__all__ = ["TritonControl"]


class TritonControl:
    """One Triton server."""

    def __init__(self, url: str, *, load_timeout_s: float = 300.0) -> None:
        from tritonclient.grpc import InferenceServerClient

        self.url = url
        self._load_timeout_s = load_timeout_s
        self._client: Any = InferenceServerClient(url)

    def live(self) -> bool:
        """Whether the server answers at all."""
        try:
            with self._translated("liveness"):
                return bool(self._client.is_server_live(client_timeout=2.0))
        except DependencyUnreachable:
            return False

    def wait_live(self, timeout_s: float) -> None:
        """Wait until the server answers.

        Raises:
            DependencyUnreachable: it did not in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.live():
            if time.monotonic() > deadline:
                raise DependencyUnreachable(
                    f"Triton at {self.url} did not answer within {timeout_s:.0f} s; see its log"
                )
            time.sleep(0.1)

    def ready(self, model: str, version: int) -> bool:
        """Whether this version of the model is ready.

        Raises:
            DependencyUnreachable: the server does not answer.
        """
        with self._translated(f"readiness of {model}"):
            return bool(self._client.is_model_ready(model, str(version), client_timeout=5.0))

    def load(self, model: str) -> None:
        """Load what `config.pbtxt` names; returns when every version that is new has been loaded and warmed up.

        All or nothing: when one version fails, those that served go on.

        Raises:
            PublishFailed: Triton refused, with its reason.
        """
        with self._translated(f"load of {model}"):
            self._client.load_model(model, client_timeout=self._load_timeout_s)

    def unload(self, model: str) -> None:
        """Unload a model with all its versions."""
        with self._translated(f"unload of {model}"):
            self._client.unload_model(model, client_timeout=self._load_timeout_s)

    def index(self) -> list[dict[str, Any]]:
        """Every model version Triton knows: `name`, `version`, `state`, `reason`."""
        with self._translated("index"):
            answer = self._client.get_model_repository_index(as_json=True, client_timeout=5.0)
        return list(answer.get("models", []))

    def probe_engine(self, engine_model: str, version: int, golden: Golden) -> float:
        """Ask one version for its golden rows and return the largest logit difference.

        Raises:
            PublishFailed: it does not give its golden answers.
        """
        from tritonclient.grpc import InferInput

        ids, mask = golden.tokens()
        inputs = []
        for name, rows in (("input_ids", ids), ("attention_mask", mask)):
            tensor = InferInput(name, list(rows.shape), "INT64")
            tensor.set_data_from_numpy(rows)
            inputs.append(tensor)
        with self._translated(f"golden probe of {engine_model} version {version}"):
            answer = self._client.infer(engine_model, inputs, model_version=str(version), client_timeout=30.0)
        seen = golden.difference(answer.as_numpy("logits"))
        if not seen <= golden.tolerance:
            raise PublishFailed(
                f"{engine_model} version {version} at {self.url} differs from its golden answers by {seen:.3g} "
                f"(limit {golden.tolerance:.3g}); it will not be routed to"
            )
        return seen

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        from tritonclient.utils import InferenceServerException

        try:
            yield
        except InferenceServerException as exc:
            status = str(exc.status() or "")
            if "UNAVAILABLE" in status or "DEADLINE" in status or "CANCELLED" in status:
                if "Deadline" in status or "DEADLINE" in status:
                    raise DependencyUnreachable(f"{what} at {self.url} took too long; see Triton's log") from exc
                raise DependencyUnreachable(
                    f"Triton at {self.url} cannot be reached for {what}: {exc.message()}"
                ) from exc
            raise PublishFailed(f"{what} at {self.url} was refused: {exc.message()}") from exc
