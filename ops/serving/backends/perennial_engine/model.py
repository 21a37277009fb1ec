"""Triton's entry to an engine: translates requests and answers; the work is in `perennial.ops.serving.engine_host`."""

import gc
import json
import logging
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path[:0] = [p for p in os.environ.get("PERENNIAL_PYTHONPATH", "").split(os.pathsep) if p and p not in sys.path]
sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # or a second thread spins after each small product
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")  # its 1,024 kernels outlive the engine, with 90 MB

import triton_python_backend_utils as pb_utils  # noqa: E402

from perennial.continual.errors import PerennialError  # noqa: E402
from perennial.exporters.engine import Inputs  # noqa: E402
from perennial.ops.serving.engine_host import EngineHost  # noqa: E402
from perennial.ops.serving.rest_watch import RestWatch  # noqa: E402
from perennial.ops.serving.router.route import WaitingVersion  # noqa: E402
from perennial.ops.serving.secret import knows_secret, own_secret  # noqa: E402

_AT_ONCE = 2  # batches under way, each on its share of the threads
_FEW = 64  # cells of an input: so little is answered before anything else is taken
logger = logging.getLogger(__name__)
_CLOSED = "this is an engine: it answers the routers alone; ask the model whose engine it is"


class TritonPythonModel:
    """One version's process."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        texts = {name: value.get("string_value", "") for name, value in parameters.items()}
        threads, cache = int(texts.get("threads", "0")), texts.get("cache_dir")
        folder, version = Path(args["model_repository"]), int(args["model_version"])
        waits = WaitingVersion(version, Path(texts["route_path"])) if "route_path" in texts else lambda: False
        gc.collect()
        gc.freeze()  # or a full collection looks at all that the imports left, in the middle of a request
        try:
            self._host = EngineHost.load(
                folder, version, threads=threads, cache_dir=Path(cache) if cache else None, waits=waits
            )
        except PerennialError as exc:
            raise pb_utils.TritonModelException(str(exc)) from exc
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="batch")
        self._places = threading.Semaphore(_AT_ONCE)
        self._rest_watch = RestWatch(self._host.rest, settle=self._host.settle, waits=waits)
        self._rest_watch.start()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request; those that do not know the secret of the server's start are refused.

        A larger batch is answered by another thread, so that the next one is taken meanwhile; while there is a place
        for it, as Triton counts as answered what this returns from.
        """
        self._rest_watch.asked()
        ours = [_is_ours(request) for request in requests]
        asked = [request for request, is_our in zip(requests, ours, strict=True) if is_our]
        inputs = [self._inputs(request) for request in asked]
        if sum(max(array.size for array in each.values()) for each in inputs) <= _FEW:
            answers = iter(self._answer(inputs))
            return [next(answers) if is_our else _refusal() for is_our in ours]
        self._places.acquire()
        self._pool.submit(self._answer_later, asked, inputs)
        return [None if is_our else _refusal() for is_our in ours]

    def finalize(self) -> None:
        self._rest_watch.stop()
        self._pool.shutdown()

    def _answer_later(self, requests: Sequence[Any], inputs: Sequence[Inputs]) -> None:
        try:
            responses = self._answer(inputs)
        finally:
            self._places.release()
        for request, response in zip(requests, responses, strict=True):
            try:
                request.get_response_sender().send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            except Exception:  # one that cannot be sent keeps back no other
                logger.exception("response.not_sent")

    def _inputs(self, request: Any) -> Inputs:
        names = self._host.signature.input_names
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names}

    def _answer(self, inputs: Sequence[Inputs]) -> list[Any]:
        if not inputs:
            return []
        try:
            return [self._respond(answer) for answer in self._host.infer(inputs)]
        except Exception as exc:  # onnxruntime's own errors derive from Exception alone
            if len(inputs) > 1:  # one request's bad values must not fail its neighbours
                return [response for each in inputs for response in self._answer([each])]
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
