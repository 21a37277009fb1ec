"""Triton's entry to the router: translates requests and answers; the work is in `ops.triton.router`."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

sys.path[:0] = [p for p in os.environ.get("PERENNIAL_PYTHONPATH", "").split(os.pathsep) if p and p not in sys.path]
sys.dont_write_bytecode = True
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np  # noqa: E402
import pyarrow  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

from continual.errors import DependencyUnreachable, PerennialError  # noqa: E402
from ops.traffic import TrafficWriter  # noqa: E402
from ops.triton.answers import columns, wanted_outputs  # noqa: E402
from ops.triton.probe import PROBE_REQUEST  # noqa: E402
from ops.triton.router import Question, Router, RouterSettings, Served, decode_rows  # noqa: E402


class TritonPythonModel:
    """One router process."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._settings = RouterSettings.from_parameters(args["model_name"], parameters)
        self._log = TrafficWriter(
            self._settings.traffic_dir,
            f"{args['model_instance_name']}_{os.getpid()}",
            rotate_rows=self._settings.rotate_rows,
            rotate_s=self._settings.rotate_s,
        )
        self._router = Router(self._settings, self._log, self._ask_engine)
        self._router.warm()
        pyarrow.array([0])  # its first conversion imports pandas, 0.6 s that would fall on the first request
        self._unlogged = pb_utils.MetricFamily(
            name="perennial_traffic_write_failures_total",
            description="Batches whose traffic log write failed at first",
            kind=pb_utils.MetricFamily.COUNTER,
        ).Metric(labels={"model": args["model_name"], "instance": args["model_instance_name"]})
        self._failures = 0

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        questions: list[Question] = []
        parts: list[slice | str] = []
        for request in requests:
            try:
                rows = self._read(request)
            except PerennialError as exc:
                parts.append(str(exc))
                continue
            parts.append(slice(len(questions), len(questions) + len(rows)))
            questions += rows
        failed, served = "", []
        try:
            served = self._router.answer(questions) if questions else []
        except PerennialError as exc:
            failed = str(exc)
        self._count()
        return [self._respond(r, p, served, failed) for r, p in zip(requests, parts, strict=True)]

    def finalize(self) -> None:
        self._log.close()

    def _read(self, request: Any) -> list[Question]:
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
        key = pb_utils.get_input_tensor_by_name(request, "KEY")
        keys = None if key is None else key.as_numpy().reshape(-1)
        logged = request.request_id() != PROBE_REQUEST
        return decode_rows(texts, keys, self._settings.max_key_bytes, logged=logged)

    def _respond(self, request: Any, part: slice | str, served: list[Served], failed: str) -> Any:
        if isinstance(part, str) or failed:
            reason = part if isinstance(part, str) else failed
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(reason))
        wanted = wanted_outputs(request.requested_output_names())
        arrays = columns(served[part], wanted)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(n, a) for n, a in arrays.items()])

    def _ask_engine(self, version: int, ids: Any, mask: Any) -> tuple[Any, Any]:
        request = pb_utils.InferenceRequest(
            model_name=self._settings.engine_model,
            model_version=version,
            requested_output_names=["logits", "embedding"],
            inputs=[pb_utils.Tensor("input_ids", ids), pb_utils.Tensor("attention_mask", mask)],
        )
        response = request.exec()
        if response.has_error():
            raise DependencyUnreachable(
                f"engine {self._settings.engine_model} version {version} did not answer: {response.error().message()}"
            )
        tensors = (pb_utils.get_output_tensor_by_name(response, name) for name in ("logits", "embedding"))
        logits, embedding = (np.asarray(tensor.as_numpy()) for tensor in tensors)
        return logits, embedding

    def _count(self) -> None:
        if (failures := self._router.write_failures) > self._failures:
            self._unlogged.increment(failures - self._failures)
            self._failures = failures
