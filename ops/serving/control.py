"""Telling a running Triton what to hold, over gRPC: its HTTP load would stall every connection of a worker thread."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from perennial.client.inference import CHANNEL_OPTIONS, grpc_input
from perennial.continual.errors import BundleRejected, DependencyUnreachable, NotFound, PerennialError, PublishFailed
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.golden import Golden
from perennial.ops.serving.secret import KEY, PARAMETER
from perennial.ops.serving.server_record import Secret

__all__ = ["IndexEntry", "NoSecret", "TritonControl", "triton_errors"]

_RESTRICTED = "protocol is restricted"  # Triton 2.51's words, with the status UNAVAILABLE
_CLOSED = "it answers the routers alone"  # an engine
_CANNOT = re.compile("retry after|did not answer|deadline of the request|no route at|maximum queue size")
_UNREACHABLE = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One version as Triton's index has it; `version` 0 is a model that has none."""

    model: str
    version: int
    state: str
    reason: str


@contextmanager
def triton_errors(url: str, what: str) -> Iterator[None]:
    """Turn Triton's and gRPC's errors into ours; `what` says what was tried.

    Raises:
        DependencyUnreachable: Triton does not answer, or not in time.
        NotFound: it has no such model or version.
        PublishFailed: it answers and refuses.
    """
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as exc:
        status, message = str(exc.status()), exc.message()
        if _RESTRICTED in str(message) or _CLOSED in str(message):
            raise NoSecret(
                f"{what}: Triton at {url} asks for a secret that this process does not have; for a Triton that "
                f"somebody else runs set triton.secret, for the embedded one run as the user that started it"
            ) from exc
        if status == _UNREACHABLE[0] and _CANNOT.search(str(message)):
            raise DependencyUnreachable(f"{what}: Triton at {url} cannot answer now: {message}") from exc
        if status in _UNREACHABLE and "is not ready" not in str(message) and "available versions" not in str(message):
            raise DependencyUnreachable(f"{what}: Triton at {url} does not answer ({message}); is it running?") from exc
        if status == "StatusCode.NOT_FOUND" or "unknown model" in str(message) or "available versions" in str(message):
            raise NotFound(f"{what}: Triton at {url} has no such model or version ({message})") from exc
        raise PublishFailed(f"{what}: Triton at {url} refuses: {message}; see its log") from exc
    except OSError as exc:
        raise DependencyUnreachable(f"{what}: Triton at {url} cannot be reached: {exc}") from exc


class NoSecret(PublishFailed):
    """Triton asks for a secret that this process does not have."""


def _no_secret() -> str:
    return ""


class TritonControl:
    """One Triton server. Methods may be called from many threads; each call is bounded in time.

    Args:
        url: where gRPC answers.
        secret: gives the secret of the server's present start. A server that was started with one answers nothing
            but health, metadata, inference and statistics without it.
        timeout_s: for a call that loads nothing.
        load_timeout_s: for one that loads.
    """

    def __init__(
        self, url: str, *, secret: Secret = _no_secret, timeout_s: float = 10.0, load_timeout_s: float = 180.0
    ) -> None:
        from tritonclient.grpc import InferenceServerClient

        self.url, self._secret = url, secret
        self._timeout_s, self._load_timeout_s = timeout_s, load_timeout_s
        self._client = InferenceServerClient(url, channel_args=list(CHANNEL_OPTIONS))

    def close(self) -> None:
        """Close the channel."""
        self._client.close()

    @property
    def parameters(self) -> dict[str, str]:
        """What makes an inference request one of the control process's own: engines answer nobody else."""
        secret = self._secret()
        return {PARAMETER: secret} if secret else {}

    def _headers(self) -> dict[str, str]:
        secret = self._secret()
        return {f"triton-grpc-protocol-{KEY}": secret} if secret else {}

    def live(self, timeout_s: float = 2.0) -> bool:
        """Whether the server answers at all."""
        return self._ask(lambda: self._client.is_server_live(client_timeout=timeout_s))

    def wait_live(self, timeout_s: float = 30.0) -> None:
        """Return once the server answers.

        Raises:
            DependencyUnreachable: it does not within `timeout_s`.
        """
        end = time.monotonic() + timeout_s
        # one that is slow is given all of the time at once: several short tries would each come too early for it
        while not self.live(timeout_s=max(1.0, end - time.monotonic())):
            if time.monotonic() > end:
                raise DependencyUnreachable(f"Triton at {self.url} did not answer within {timeout_s:g} s; see its log")
            time.sleep(0.05)

    def ready(self, model: str, version: int | None = None) -> bool:
        """Whether Triton says that it holds this version (any one, where none is named); False when it is away."""
        number = "" if version is None else str(version)
        return self._ask(lambda: self._client.is_model_ready(model, number, client_timeout=self._timeout_s))

    def holds(self, model: str, version: int, *, timeout_s: float) -> bool | None:
        """Whether Triton says that it holds this version; None when it does not say, or not within `timeout_s`."""
        try:
            with triton_errors(self.url, f"asking for {model} version {version}"):
                return bool(self._client.is_model_ready(model, str(version), client_timeout=timeout_s))
        except DependencyUnreachable:
            return None
        except PerennialError:
            return False

    def load(self, model: str) -> None:
        """Make Triton hold what the model's `config.pbtxt` says; returns when all of it is loaded. Idempotent.

        What serves goes on serving meanwhile. All or nothing: when one version fails, the ones before stay. A missing
        version folder is no error to Triton: ask `ready` for each version afterwards.

        Raises:
            PublishFailed: a version could not be loaded; DependencyUnreachable: Triton is away.
        """
        with triton_errors(self.url, f"loading {model}"):
            self._client.load_model(model, headers=self._headers(), client_timeout=self._load_timeout_s)

    def unload(self, model: str, *, wait_s: float = 0.0) -> None:
        """Let go of every version; requests under way still finish. With `wait_s`, return once they have."""
        with triton_errors(self.url, f"unloading {model}"):
            self._client.unload_model(model, headers=self._headers(), client_timeout=self._timeout_s)
        end = time.monotonic() + wait_s
        while time.monotonic() < end and any(e.model == model and e.state != "UNAVAILABLE" for e in self.index()):
            time.sleep(0.05)

    def index(self) -> tuple[IndexEntry, ...]:
        """Every model version that Triton knows of, with its state and the reason for it."""
        with triton_errors(self.url, "reading the model index"):
            index = self._client.get_model_repository_index(headers=self._headers(), client_timeout=self._timeout_s)
        return tuple(
            IndexEntry(model=m.name, version=int(m.version or 0), state=m.state, reason=m.reason)
            for m in index.models
            if not m.name.startswith(".")  # our staging folder lies beside the models
        )

    def instances(self, model: str) -> int:
        """How many processes hold each version of a loaded model.

        Raises:
            NotFound: Triton has no such model; DependencyUnreachable: it is away.
        """
        with triton_errors(self.url, f"reading the configuration of {model}"):
            answer = self._client.get_model_config(model, headers=self._headers(), client_timeout=self._timeout_s)
        return sum(max(1, group.count) for group in answer.config.instance_group)

    def versions(self, model: str) -> frozenset[int]:
        """The versions of a model that Triton says are ready; unlike `ready`, an error when it is away.

        Raises:
            DependencyUnreachable: it does not answer.
        """
        return frozenset(e.version for e in self.index() if e.model == model and e.state == "READY")

    def infer_engine(self, model: str, version: int, inputs: Inputs, *, timeout_s: float | None = None) -> Outputs:
        """The outputs that one loaded version's engine gives for these inputs; `timeout_s` replaces the usual limit."""
        tensors = [grpc_input(name, array) for name, array in inputs.items()]
        with triton_errors(self.url, f"asking {model} version {version}"):
            result = self._client.infer(
                model,
                tensors,
                model_version=str(version),
                client_timeout=timeout_s or self._timeout_s,
                parameters=self.parameters,
            )
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}

    def probe_engine(self, model: str, version: int, golden: Golden, *, timeout_s: float | None = None) -> float:
        """Ask a loaded version for its known answers; returns the largest difference of an output.

        Raises:
            BundleRejected: it does not repeat them; NotFound, PublishFailed, DependencyUnreachable: it does not answer.
        """
        seen = golden.difference(self.infer_engine(model, version, golden.request(), timeout_s=timeout_s))
        if not seen <= golden.tolerance:
            raise BundleRejected(
                f"{model} version {version} at {self.url} differs from its golden answers by {seen:.3g} "
                f"(limit {golden.tolerance:.3g}); do not route to it, export the version again for this machine"
            )
        return seen

    @staticmethod
    def _ask(question: Any) -> bool:
        from tritonclient.utils import InferenceServerException

        try:
            return bool(question())
        except (InferenceServerException, OSError):
            return False
