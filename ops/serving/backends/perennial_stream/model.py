"""Triton's entry to streams: a decoupled model, whose work is in `perennial.ops.serving.streaming` and the router."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, cast

sys.path[:0] = [p for p in os.environ.get("PERENNIAL_PYTHONPATH", "").split(os.pathsep) if p and p not in sys.path]
sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # or a second thread spins after each small product
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np  # noqa: E402
import pyarrow  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

from perennial.continual.errors import DependencyUnreachable, PerennialError  # noqa: E402
from perennial.continual.jobs.memory import without_pandas  # noqa: E402
from perennial.exporters.contract import all_inputs, usual_outputs  # noqa: E402
from perennial.exporters.engine import Inputs, Outputs  # noqa: E402
from perennial.exporters.generation.signature import INDEX, PIECE  # noqa: E402
from perennial.ops.serving.router.answers import columns  # noqa: E402
from perennial.ops.serving.router.figures import TritonFigures  # noqa: E402
from perennial.ops.serving.router.questions import read_questions  # noqa: E402
from perennial.ops.serving.router.refusal import message_for, status_of  # noqa: E402
from perennial.ops.serving.router.router import Router, RouterSettings  # noqa: E402
from perennial.ops.serving.secret import PARAMETER, own_secret  # noqa: E402
from perennial.ops.serving.streaming import Stream, Streams, streamed  # noqa: E402
from perennial.ops.serving.tasks.generation import Told  # noqa: E402
from perennial.ops.traffic import TrafficWriter  # noqa: E402

logger = logging.getLogger(__name__)
_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
_PUBLISH_S = 1.0  # between two looks at the figures
_COUNTERS = {
    "perennial_stream_begun_total": "Rewrites that were begun",
    "perennial_stream_refused_total": "Rewrites that were refused, because too many were being written",
    "perennial_stream_cancelled_total": "Rewrites whose caller went away, or that failed",
    "perennial_stream_let_through_total": "Rewrites that changed nothing and were given",
    "perennial_stream_as_approved_total": "Rewrites in whose place the approved reply was given",
    "perennial_stream_tokens_total": "Tokens that were written",
    "perennial_stream_first_token_seconds_total": "Seconds until the first token, over all streams",
    "perennial_stream_writing_seconds_total": "Seconds from the first token to the end, over all streams",
}
_GAUGES = {"perennial_stream_under_way": "Rewrites that are being written"}


class TritonPythonModel:
    """One process, in which each stream has a thread."""

    def initialize(self, args: dict[str, str]) -> None:
        without_pandas()
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._settings = RouterSettings.from_parameters(args["model_name"], parameters)
        most = int(parameters.get("streams", "8"))
        self._streams = Streams(self._ask_engine, most=most)
        self._side = self._streams.side()
        self._log = TrafficWriter(
            self._settings.traffic_dir,
            f"{args['model_instance_name']}_{os.getpid()}",
            task=self._settings.task,
            rotate_rows=self._settings.rotate_rows,
            rotate_s=self._settings.rotate_s,
        )
        self._router = Router(self._settings, self._side, self._log, self._streams.ask, in_pieces=True)
        self._router.warm()
        pyarrow.array([0])  # its first conversion looks for pandas
        self._inputs = [tensor.name for tensor in all_inputs(self._side.signature)]
        self._usual = frozenset(usual_outputs(self._side.signature))
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="stream")
        self._figures = TritonFigures(
            pb_utils, counters=_COUNTERS, gauges=_GAUGES, labels={"model": args["model_name"]}
        )
        self._ended = threading.Event()
        threading.Thread(target=self._publish_figures, name="figures", daemon=True).start()

    def execute(self, requests: Sequence[Any]) -> None:
        """Hand each request to a thread, or refuse it at once."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._begin(request, sender)
            except Exception as exc:
                _fail(sender, exc)

    def finalize(self) -> None:
        self._ended.set()
        self._pool.shutdown(cancel_futures=True)
        self._router.close()
        self._log.close()

    def _begin(self, request: Any, sender: Any) -> None:
        now, timeout_us = time.monotonic(), request.timeout()
        own = self._settings.champion_limit_s
        deadline = now + (min(own, timeout_us / 1e6) if timeout_us else own)
        tensors = {
            name: tensor.as_numpy()
            for name in self._inputs
            if (tensor := pb_utils.get_input_tensor_by_name(request, name)) is not None
        }
        self._side.sizes(tensors)
        questions = read_questions(
            self._side, tensors, self._settings.max_key_bytes, max_characters=self._settings.max_characters
        )
        stream = Stream(
            lambda piece, index: _piece(sender, piece, index), is_cancelled=request.is_cancelled, deadline=deadline
        )
        number = self._streams.begin(stream)
        self._pool.submit(self._answer, sender, questions[0], number)

    def _answer(self, sender: Any, question: Any, number: int) -> None:
        told: Told | None = None
        try:
            batch = self._router.place([question._replace(input=streamed(question.input, number))])
            answered = self._router.answer(batch)
            arrays = columns(self._side, answered, self._usual)
            told = cast("Told", answered[0].answer)
            tensors = [pb_utils.Tensor(name, array[0]) for name, array in arrays.items()]
            sender.send(pb_utils.InferenceResponse(output_tensors=tensors), flags=_FINAL)
        except Exception as exc:  # whatever it is, the caller is told
            _fail(sender, exc)
        finally:
            self._streams.end(number, told)

    def _ask_engine(self, version: int, inputs: Inputs) -> Outputs:
        names = list(self._side.engine.output_names)
        request = pb_utils.InferenceRequest(
            model_name=self._settings.engine_model,
            model_version=version,
            requested_output_names=names,
            inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
            parameters={PARAMETER: own_secret()},
        )
        response = request.exec()
        if response.has_error():
            raise DependencyUnreachable(
                f"engine {self._settings.engine_model} version {version} did not answer: {response.error().message()}"
            )
        return {name: np.asarray(pb_utils.get_output_tensor_by_name(response, name).as_numpy()) for name in names}

    def _publish_figures(self) -> None:
        renamed = {"first_token_s": "first_token_seconds_total", "writing_s": "writing_seconds_total"}
        while not self._ended.wait(_PUBLISH_S):
            figures = asdict(self._streams.figures)
            under_way = figures.pop("under_way")
            named = {f"perennial_stream_{renamed.get(name, f'{name}_total')}": each for name, each in figures.items()}
            self._figures.publish({**named, "perennial_stream_under_way": under_way})


def _piece(sender: Any, piece: str, index: int) -> None:
    tensors = [
        pb_utils.Tensor(PIECE, np.array([piece.encode()], dtype=np.object_)),
        pb_utils.Tensor(INDEX, np.array([index], dtype=np.int64)),
    ]
    sender.send(pb_utils.InferenceResponse(output_tensors=tensors))


def _fail(sender: Any, error: Exception) -> None:
    if not isinstance(error, PerennialError):
        logger.error("stream.failed", exc_info=error)
    status = getattr(pb_utils.TritonError, status_of(error))
    response = pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message_for(error), status))
    try:
        sender.send(response, flags=_FINAL)
    except Exception:
        logger.exception("response.not_sent")
