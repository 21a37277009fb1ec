"""The router inside Triton: translates between Triton's types and `ops.triton.router`."""

import json
import os
import sys

sys.path[:0] = [path for path in os.environ.get("PERENNIAL_PYTHONPATH", "").split(os.pathsep) if path not in sys.path]

from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402
from ops.traffic import TrafficWriter  # noqa: E402

from continual.errors import DependencyUnreachable, InputError, PerennialError  # noqa: E402
from ops.triton.route_file import RouteFile  # noqa: E402
from ops.triton.router import KEY_BYTES, RequestAnswer, Router, RouterRequest, read_strings  # noqa: E402
from ops.triton.stub_log import log_through_triton  # noqa: E402


class TritonPythonModel:
    """One router process."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the parameters and open the traffic log."""
        log_through_triton(pb_utils.Logger)
        parameters = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        self._engine_model = parameters["engine_model"]
        self._writer = TrafficWriter(
            Path(parameters["traffic_dir"]),
            f"{args['model_instance_name']}-{os.getpid()}",
            rotate_rows=int(parameters["rotate_rows"]),
            rotate_s=float(parameters["rotate_s"]),
        )
        self._router = Router(
            route=RouteFile(Path(parameters["route_path"])),
            bundles=Path(parameters["bundles"]),
            engine=self._infer,
            sink=self._writer,
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer one batch of requests; one that cannot be read fails alone."""
        read = [self._read(request) for request in requests]
        good = [request for request in read if isinstance(request, RouterRequest)]
        try:
            answers = iter(self._router.answer(good) if good else [])
        except Exception as exc:  # a stub that raises answers nobody in the batch
            pb_utils.Logger.log_error(f"router failed: {type(exc).__name__}: {exc}")
            error = DependencyUnreachable(f"the router failed on this batch: {type(exc).__name__}: {exc}")
            answers = iter([error for _ in good])
        responses = []
        for request, item in zip(requests, read, strict=True):
            answer = next(answers) if isinstance(item, RouterRequest) else item
            responses.append(_response(answer, set(request.requested_output_names())))
        return responses

    def finalize(self) -> None:
        """Seal the traffic segment."""
        self._writer.close()

    def _read(self, request: Any) -> RouterRequest | InputError:
        try:
            texts = read_strings(pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy(), "TEXT")
            tensor = pb_utils.get_input_tensor_by_name(request, "KEY")
            keys: tuple[str | None, ...] = (None,) * len(texts)
            if tensor is not None:
                given = read_strings(tensor.as_numpy(), "KEY", most_bytes=KEY_BYTES)
                keys = tuple(key or None for key in given)
        except InputError as exc:
            return exc
        wanted = set(request.requested_output_names())
        parameters = json.loads(request.parameters() or "{}")
        return RouterRequest(
            texts=texts,
            keys=keys,
            scores=bool(wanted & {"SCORES", "LABELS"}),
            probe=bool(parameters.get("perennial_probe", False)),
        )

    def _infer(self, version: int, input_ids: Any, attention_mask: Any) -> Any:
        request = pb_utils.InferenceRequest(
            model_name=self._engine_model,
            model_version=version,
            requested_output_names=["logits", "embedding"],
            inputs=[pb_utils.Tensor("input_ids", input_ids), pb_utils.Tensor("attention_mask", attention_mask)],
        )
        response = request.exec()
        if response.has_error():
            raise DependencyUnreachable(f"{self._engine_model} version {version}: {response.error().message()}")
        return (
            pb_utils.get_output_tensor_by_name(response, "logits").as_numpy(),
            pb_utils.get_output_tensor_by_name(response, "embedding").as_numpy(),
        )


def _response(answer: RequestAnswer | PerennialError, wanted: set[str]) -> Any:
    if isinstance(answer, PerennialError):
        code = pb_utils.TritonError.INVALID_ARG if isinstance(answer, InputError) else pb_utils.TritonError.UNAVAILABLE
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer), code))
    tensors = {
        "LABEL": np.array([[label.encode()] for label in answer.label], dtype=object),
        "CONFIDENCE": np.array(answer.confidence, dtype=np.float32)[:, None],
        "VERSION": np.array(answer.version, dtype=np.int64)[:, None],
        "PREDICTION_ID": np.array([[name.encode()] for name in answer.prediction_id], dtype=object),
    }
    if answer.scores is not None and answer.labels is not None:
        tensors["SCORES"] = answer.scores
        tensors["LABELS"] = np.array([[name.encode() for name in row] for row in answer.labels], dtype=object)
    return pb_utils.InferenceResponse(
        output_tensors=[pb_utils.Tensor(name, value) for name, value in tensors.items() if name in wanted]
    )
