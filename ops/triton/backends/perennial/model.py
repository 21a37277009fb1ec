"""Triton's entry to the router: translates requests and answers; the work is in `ops.triton.router`."""

import gc
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

sys.path[:0] = [p for p in os.environ.get("PERENNIAL_PYTHONPATH", "").split(os.pathsep) if p and p not in sys.path]
sys.dont_write_bytecode = True
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np  # noqa: E402
import pyarrow  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

from continual.errors import DependencyUnreachable, PerennialError  # noqa: E402
from continual.records import Arm  # noqa: E402
from ops.traffic import TrafficWriter  # noqa: E402
from ops.triton.answers import columns, wanted_outputs  # noqa: E402
from ops.triton.figures import TritonFigures  # noqa: E402
from ops.triton.probe import PROBE_REQUEST  # noqa: E402
from ops.triton.questions import Question, decode_rows  # noqa: E402
from ops.triton.router import Answered, Batch, Router, RouterSettings  # noqa: E402
from ops.triton.secret import PARAMETER, own_secret  # noqa: E402

logger = logging.getLogger(__name__)
_LANES = 4  # threads for requests on the challenger's side
_TELL_S = 1.0  # between two looks at the figures
_COUNTERS = {
    "perennial_traffic_write_failures_total": "Batches whose traffic log write failed at first",
    "perennial_traffic_rows_lost_total": "Answered rows that are not in the traffic log and never will be",
}
_GAUGES = {"perennial_traffic_rows_waiting": "Answered rows that wait in memory for the traffic log"}


class TritonPythonModel:
    """One router process.

    Requests on the champion's side are answered in the thread that Triton calls. Those with a row on the challenger's
    side go to threads of their own, so that a challenger that hangs holds up nobody else.
    """

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
        self._figures = TritonFigures(
            pb_utils,
            counters=_COUNTERS,
            gauges=_GAUGES,
            labels={"model": args["model_name"], "instance": args["model_instance_name"]},
        )
        threading.Thread(target=self._tell, name="figures", daemon=True).start()
        self._aside: queue.SimpleQueue[tuple[Batch, list[tuple[Any, slice]]]] = queue.SimpleQueue()
        for number in range(_LANES):
            threading.Thread(target=self._answer_aside, name=f"challenger-{number}", daemon=True).start()
        gc.collect()
        gc.freeze()  # or a full collection looks at all that the imports left, in the middle of a request

    def execute(self, requests: Sequence[Any]) -> None:
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
        batch, failed = None, ""
        try:
            batch = self._router.place(questions) if questions else None
        except PerennialError as exc:
            failed = str(exc)
        here, aside = [], []
        for request, part in zip(requests, parts, strict=True):
            if isinstance(part, str) or batch is None:
                self._send(request, partial(self._error, part if isinstance(part, str) else failed))
            elif any(row.arm is Arm.CHALLENGER for row in batch.rows[part]):
                aside.append((request, part))
            else:
                here.append((request, part))
        if batch is not None and aside:
            self._aside.put(_part(batch, aside))
        if batch is not None and here:
            self._answer(*_part(batch, here))

    def _answer_aside(self) -> None:
        while True:
            self._answer(*self._aside.get())

    def _answer(self, batch: Batch, requests: list[tuple[Any, slice]]) -> None:
        """Answer each request, whatever happens; what one of them spoils is asked again one by one."""
        alone = len(requests) == 1
        try:
            answers = self._router.answer(batch, alone=alone)
        except Exception as exc:  # also the runtime's own, which derive from Exception alone
            if not alone:
                for request in requests:
                    self._answer(*_part(batch, [request]))
                return
            told = str(exc)
            if not isinstance(exc, PerennialError):
                told = f"the router failed: {type(exc).__name__}: {exc}"
                logger.exception("request.failed")
            self._send(requests[0][0], partial(self._error, told))
            return
        for request, part in requests:
            self._send(request, partial(self._response, request, answers[part]))

    def finalize(self) -> None:
        self._router.close()
        self._log.close()

    def _read(self, request: Any) -> list[Question]:
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
        key = pb_utils.get_input_tensor_by_name(request, "KEY")
        keys = None if key is None else key.as_numpy().reshape(-1)
        logged = request.request_id() != PROBE_REQUEST
        return decode_rows(texts, keys, self._settings.max_key_bytes, logged=logged)

    @staticmethod
    def _response(request: Any, answers: list[Answered]) -> Any:
        arrays = columns(answers, wanted_outputs(request.requested_output_names()))
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(n, a) for n, a in arrays.items()])

    @staticmethod
    def _error(reason: str) -> Any:
        return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(reason))

    def _send(self, request: Any, make: Callable[[], Any]) -> None:
        """Send what `make` gives, or why there is none; one response that cannot be sent keeps back no other."""
        sender, final = request.get_response_sender(), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        try:
            try:
                response = make()
            except Exception as exc:  # no shared memory left, say
                logger.exception("response.not_made")
                response = self._error(f"the router failed: {type(exc).__name__}: {exc}")
            sender.send(response, flags=final)
        except Exception:
            logger.exception("response.not_sent")

    def _ask_engine(self, version: int, ids: Any, mask: Any) -> tuple[Any, Any]:
        request = pb_utils.InferenceRequest(
            model_name=self._settings.engine_model,
            model_version=version,
            requested_output_names=["logits", "embedding"],
            inputs=[pb_utils.Tensor("input_ids", ids), pb_utils.Tensor("attention_mask", mask)],
            parameters={PARAMETER: own_secret()},  # an engine answers nobody else
        )
        response = request.exec()
        if response.has_error():
            raise DependencyUnreachable(
                f"engine {self._settings.engine_model} version {version} did not answer: {response.error().message()}"
            )
        tensors = (pb_utils.get_output_tensor_by_name(response, name) for name in ("logits", "embedding"))
        logits, embedding = (np.asarray(tensor.as_numpy()) for tensor in tensors)
        return logits, embedding

    def _tell(self) -> None:
        """Publish the figures from time to time, apart from all answering."""
        while True:
            time.sleep(_TELL_S)
            log = self._router.log_figures
            self._figures.tell(
                {
                    "perennial_traffic_write_failures_total": log.write_failures,
                    "perennial_traffic_rows_lost_total": log.rows_lost,
                    "perennial_traffic_rows_waiting": log.rows_waiting,
                }
            )


def _part(batch: Batch, requests: list[tuple[Any, slice]]) -> tuple[Batch, list[tuple[Any, slice]]]:
    """The rows of some requests as a batch of their own, and each request's place in it."""
    rows: list[int] = []
    places = []
    for request, part in requests:
        places.append((request, slice(len(rows), len(rows) + part.stop - part.start)))
        rows += range(part.start, part.stop)
    return batch.part(rows), places
