"""Triton's entry to an engine: translates requests and answers; the work is in `perennial.ops.serving.engine_host`."""

import gc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [p for p in os.environ.get("PERENNIAL_PYTHONPATH", "").split(os.pathsep) if p and p not in sys.path]
sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # or a second thread spins after each small product

import triton_python_backend_utils as pb_utils  # noqa: E402

from perennial.continual.errors import PerennialError  # noqa: E402
from perennial.ops.serving.engine_host import EngineHost  # noqa: E402
from perennial.ops.serving.secret import knows_secret, own_secret  # noqa: E402

_CLOSED = "this is an engine: it answers the routers alone; ask the model whose engine it is"


class TritonPythonModel:
    """One version's process."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        texts = {name: value.get("string_value", "") for name, value in parameters.items()}
        threads, cache = int(texts.get("threads", "0")), texts.get("cache_dir")
        folder, version = Path(args["model_repository"]), int(args["model_version"])
        try:
            self._host = EngineHost.load(folder, version, threads=threads, cache_dir=Path(cache) if cache else None)
        except PerennialError as exc:
            raise pb_utils.TritonModelException(str(exc)) from exc
        gc.collect()
        gc.freeze()  # or a full collection looks at all that the imports left, in the middle of a request

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request; those that do not know the secret of the server's start are refused."""
        ours = [_is_ours(request) for request in requests]
        answers = iter(self._answer([request for request, is_our in zip(requests, ours, strict=True) if is_our]))
        return [next(answers) if is_our else _refusal() for is_our in ours]

    def _answer(self, requests: Sequence[Any]) -> list[Any]:
        if not requests:
            return []
        names = self._host.signature.input_names
        rows = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names}
            for request in requests
        ]
        try:
            return [self._respond(answer) for answer in self._host.infer(rows)]
        except Exception as exc:  # onnxruntime's own errors derive from Exception alone
            if len(requests) > 1:  # one request's bad values must not fail its neighbours
                return [response for request in requests for response in self._answer([request])]
            error = pb_utils.TritonError(f"the engine failed: {exc}")
            return [pb_utils.InferenceResponse(output_tensors=[], error=error)]

    def _respond(self, outputs: Any) -> Any:
        names = self._host.signature.output_names
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(name, outputs[name]) for name in names])


def _is_ours(request: Any) -> bool:
    """Whether a router or the control process asks; a server that was started without a secret answers anybody."""
    return not own_secret() or knows_secret(request.parameters() or "")


def _refusal() -> Any:
    error = pb_utils.TritonError(_CLOSED, pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(output_tensors=[], error=error)
