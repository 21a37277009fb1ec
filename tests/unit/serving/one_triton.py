"""A Triton as far as the reconciler sees it: real gRPC, real `config.pbtxt`, and engines that answer at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from perennial.exporters.triton_config import versions_of
from perennial.ops.serving.repository import ModelRepository

__all__ = ["OneTriton"]


class OneTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Loads all versions that `config.pbtxt` names and that have a folder, or none; what serves stays when it fails.

    Attributes:
        loaded: the versions held, by model.
        broken: versions that cannot be loaded. `liars` load and answer wrongly. `deaf` models load and never are ready.
        loads: what each load asked for: the model, the versions, and the champion that the router's file named then.
        asked: the versions that were asked for an answer, in order.
    """

    def __init__(self, repository: Path, route_champion: Any) -> None:
        self._repository, self._route_champion = repository, route_champion
        self.loaded: dict[str, set[int]] = {}
        self.broken: set[int] = set()
        self.liars: set[int] = set()
        self.deaf: set[str] = set()
        self.loads: list[tuple[str, tuple[int, ...], int | None]] = []
        self.inferences: list[int] = []
        self._server: grpc.Server | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Answer, at the same port as before, with nothing loaded."""
        self.loaded = {}
        self._server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Be away."""
        if self._server is not None:
            self._server.stop(0).wait()
        self._server = None

    def ServerLive(self, request: Any, context: Any) -> Any:
        """It is there."""
        return service_pb2.ServerLiveResponse(live=True)

    def ModelReady(self, request: Any, context: Any) -> Any:
        """Whether a version is held."""
        held = self.loaded.get(request.name, set())
        return service_pb2.ModelReadyResponse(ready=int(request.version) in held if request.version else bool(held))

    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        """Every version held, and a model that could not be loaded."""
        answer = service_pb2.RepositoryIndexResponse()
        for model, versions in sorted(self.loaded.items()):
            for version in sorted(versions):
                answer.models.add(name=model, version=str(version), state="READY")
        answer.models.add(name="ruin", version="1", state="UNAVAILABLE", reason="it does not load")
        return answer

    def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        """All or nothing."""
        model = request.model_name
        named = versions_of((self._repository / model / "config.pbtxt").read_text(encoding="utf-8")) or (1,)
        self.loads.append((model, named, self._route_champion()))
        wanted = {v for v in named if v in ModelRepository(self._repository).versions(model)}
        held = self.loaded.get(model, set())
        if fails := (wanted - held) & self.broken:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"failed to load {model} version {min(fails)}")
        self.loaded[model] = set() if model in self.deaf else wanted
        return service_pb2.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        """Let go of a model."""
        self.loaded.pop(request.model_name, None)
        return service_pb2.RepositoryModelUnloadResponse()

    def ModelInfer(self, request: Any, context: Any) -> Any:
        """Each row's logits are its first token and its opposite."""
        version = int(request.model_version)
        self.inferences.append(version)
        ids = np.frombuffer(request.raw_input_contents[0], dtype=np.int64).reshape(request.inputs[0].shape)
        first = ids[:, 0].astype(np.float32) + (version in self.liars)
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        for name, rows in (("logits", np.stack([first, -first], axis=1)), ("embedding", first[:, None])):
            answer.outputs.add(name=name, datatype="FP32", shape=list(rows.shape))
            answer.raw_output_contents.append(np.ascontiguousarray(rows).tobytes())
        return answer
