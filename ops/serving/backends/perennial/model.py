"""Triton's entry to the router: translates requests and answers; the work is in `ops.serving.router`."""

import gc
import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

sys.path[:0] = [p for p in os.environ.get("PERENNIAL_PYTHONPATH", "").split(os.pathsep) if p and p not in sys.path]
sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # or a second thread spins after each small product
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np  # noqa: E402
import pyarrow  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

from perennial.continual.errors import DependencyUnreachable, PerennialError  # noqa: E402
from perennial.continual.jobs.memory import without_pandas  # noqa: E402
from perennial.continual.jobs.priority import lower_this_thread  # noqa: E402
from perennial.continual.records import Arm  # noqa: E402
from perennial.continual.tasks import STREAMED  # noqa: E402
from perennial.exporters.contract import all_inputs  # noqa: E402
from perennial.exporters.engine import Inputs, Outputs  # noqa: E402
from perennial.ops.serving.door.together import CALLERS  # noqa: E402
from perennial.ops.serving.router.admission import Limits, QueuedRequest, RequestQueue, TooLate  # noqa: E402
from perennial.ops.serving.router.figures import TritonFigures  # noqa: E402
from perennial.ops.serving.router.lanes import Lanes  # noqa: E402
from perennial.ops.serving.router.progress import Progress  # noqa: E402
from perennial.ops.serving.router.questions import Question, read_questions  # noqa: E402
from perennial.ops.serving.router.refusal import message_for  # noqa: E402
from perennial.ops.serving.router.responses import Responses  # noqa: E402
from perennial.ops.serving.router.returned import Returned  # noqa: E402
from perennial.ops.serving.router.router import Batch, Router, RouterSettings  # noqa: E402
from perennial.ops.serving.secret import PARAMETER, knows_secret, own_secret  # noqa: E402
from perennial.ops.serving.tasks import serving_side  # noqa: E402
from perennial.ops.traffic import LostRowsCount, TrafficWriter  # noqa: E402

logger = logging.getLogger(__name__)
_Place = tuple[QueuedRequest[Any], slice]  # a request and its rows of a batch
_WORKERS = 2  # batches under way
_LANES = 4  # threads for requests on the challenger's side
_QUICK_COST = 8_192  # of a batch that Triton's thread answers itself: a few dozen short texts
_READER_NICENESS = 10  # of the thread that unpacks what takes long to read: whatever serves goes before it
_NEXT_S = 0.0003  # what comes so soon after the last request has waited in Triton, and others may still do
_SWIFT_S = 0.1  # as long as it should take less: a probe must never wait behind it
_BREATH_S = 0.002  # Triton's thread waits so long where a batch waits already, so that another process takes the next
_OVERDUE_S = 0.05  # between two looks for what waited too long
_PROBE_S = 1.0  # a probe is answered after so long, whether or not its engine has answered
_PUBLISH_S = 1.0  # between two looks at the figures
_COUNTERS = {
    "perennial_traffic_write_failures_total": "Batches whose traffic log write failed at first",
    "perennial_traffic_rows_lost_total": "Answered rows that are not in the traffic log and never will be",
    "perennial_requests_refused_total": "Requests that were refused at once, because they would have waited too long",
    "perennial_requests_unremembered_total": "Questions answered without what is remembered of who asks",
    "perennial_answers_repeated_total": "Answers that were given again without asking an engine",
    "perennial_requests_expired_total": "Requests that waited too long, or whose deadline passed while they waited",
}
_GAUGES = {
    "perennial_traffic_rows_waiting": "Answered rows that wait in memory for the traffic log",
    "perennial_requests_waiting": "Requests that wait for an answer",
}


class TritonPythonModel:
    """One router process.

    Triton's thread reads requests into a queue of this process. Two threads answer them, so that one batch is tokenised
    while an engine computes another. What is small and has nothing before it is answered in Triton's thread. Requests
    with a row on the challenger's side go to a queue and threads of their own, so that one that hangs or is slow holds
    up nobody else. Where a task's inputs take long to read, they wait unread in a third one, whose single thread gives
    way to everything else: a stream of large pictures takes what others leave of one processor. All have the same rule.
    """

    def initialize(self, args: dict[str, str]) -> None:
        without_pandas()
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._settings = RouterSettings.from_parameters(args["model_name"], parameters)
        self._log = TrafficWriter(
            self._settings.traffic_dir,
            f"{args['model_instance_name']}_{os.getpid()}",
            task=self._settings.task,
            rotate_rows=self._settings.rotate_rows,
            rotate_s=self._settings.rotate_s,
        )
        self._side = serving_side(self._settings.task)
        self._writes = self._settings.task in STREAMED  # an answer takes so long that callers leave meanwhile
        self._inputs = [tensor.name for tensor in all_inputs(self._side.signature)]
        self._engine_outputs = list(self._side.engine.output_names)
        self._responses = Responses(pb_utils, self._side)
        count = _count(self._settings, args["model_instance_name"])
        self._router = Router(self._settings, self._side, self._log, self._ask_engine, count=count)
        self._router.warm()
        pyarrow.array([0])  # its first conversion looks for pandas
        limits = Limits(
            wait_s=self._settings.queue_limit_s,
            rows=self._settings.queue_rows,
            batch_rows=self._settings.max_batch_size,
        )
        self._lanes: Lanes[_Item] = Lanes(limits, reads_slowly=self._side.reads_slowly)
        self._queue, self._aside, self._unread = self._lanes.champion, self._lanes.challenger, self._lanes.unread
        self._second_per_cost = math.inf  # of the last small batch; none has been seen yet
        self._failing = ""  # why the last call of an engine failed; empty after one that did not
        self._idle_since = -math.inf  # Triton's thread, or when it last was
        self._figures = TritonFigures(
            pb_utils,
            counters=_COUNTERS,
            gauges=_GAUGES,
            labels={"model": args["model_name"], "instance": args["model_instance_name"]},
        )
        self._ended = threading.Event()
        work = [(f"answers-{number}", self._answer_queue) for number in range(_WORKERS)]
        work += [(f"challenger-{number}", self._answer_aside) for number in range(_LANES)]
        work += [("overdue", self._refuse_overdue), ("figures", self._publish_figures)]
        if self._unread is not None:
            work.append(("reader", partial(self._read_waiting, self._unread)))
        for name, target in work:
            threading.Thread(target=target, name=name, daemon=True).start()
        gc.collect()
        gc.freeze()  # or a full collection looks at all that the imports left, in the middle of a request

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """The responses of what is answered here; all others are sent by whoever answers them."""
        try:
            return self._take_in(requests, crowded=time.monotonic() - self._idle_since < _NEXT_S)
        finally:
            self._idle_since = time.monotonic()

    def _take_in(self, requests: Sequence[Any], *, crowded: bool) -> list[Any] | None:
        queued = []
        for request in requests:
            try:
                if (one := self._admit(request)) is not None:
                    queued.append(one)
            except Exception as exc:
                self._refuse(request, exc)
        cost = sum(each.cost for each in queued)
        quick = not crowded and cost <= _QUICK_COST and cost * self._second_per_cost < _SWIFT_S
        if queued and quick and self._queue.begin(queued):  # the way through another thread costs time of its own
            self._responses.returned = returned = Returned()
            try:
                self._serve(queued)
            finally:
                self._responses.returned = None
            return returned.responses(requests)
        for each in queued:
            try:
                self._queue.offer(each)
            except Exception as exc:
                self._refuse(each.item.request, exc)
        self._queue.breathe(_BREATH_S)
        return None

    def finalize(self) -> None:
        self._ended.set()
        self._router.close()
        self._log.close()

    # ---- what comes in ----

    def _admit(self, request: Any) -> QueuedRequest[Any] | None:
        """What the request asks; none where it is answered already, or waits to be read.

        Raises:
            DataError: the caller's mistake; Overloaded: too much waits.
        """
        timeout_us = request.timeout()
        probe = _is_probe(request)
        deadline = time.monotonic() + timeout_us / 1e6 if timeout_us and not probe else None
        if probe and self._queue.is_busy and not self._failing:
            self._responses.send(request, partial(self._progress, ""))  # the proof is the traffic's answers
            return None
        tensors = _values(request, self._inputs)
        lengths = self._side.sizes(tensors)
        size, cost = sum(lengths), QueuedRequest.cost_of(lengths)
        if not probe:  # before anything is decoded
            self._queue.check(rows=len(lengths), size=size, cost=cost, deadline=deadline)
        queued = QueuedRequest(
            item=_Item(request, [], tensors, shared=_is_shared(request)),
            rows=len(lengths),
            bytes=size,
            cost=cost,
            deadline=deadline,
            probe=probe,
        )
        if self._unread is not None and not probe:
            queued.cost = size  # what it takes to read grows with all of its bytes
            self._unread.offer(queued)
            return None
        return self._read(queued)

    def _read(self, queued: QueuedRequest["_Item"]) -> QueuedRequest["_Item"]:
        """The same request with its questions, and without its tensors.

        Raises:
            DataError: the caller's mistake.
        """
        questions = read_questions(
            self._side,
            queued.item.tensors,
            self._settings.max_key_bytes,
            logged=not queued.probe,
            max_characters=self._settings.max_characters,
            deadline=queued.deadline,
            gone=queued.item.request.is_cancelled if self._writes and not queued.probe else None,
        )
        queued.item = queued.item._replace(questions=questions, tensors={})
        return queued

    def _read_waiting(self, unread: RequestQueue["_Item"]) -> None:
        """Read one request after the other, each of which then waits for its answer."""
        lower_this_thread(_READER_NICENESS)
        while not self._ended.is_set():
            try:
                for queued in unread.take(1.0):
                    self._read_one(queued, unread)
            except Exception:  # whatever it is, the thread goes on
                logger.exception("reader.failed")

    def _read_one(self, queued: QueuedRequest["_Item"], unread: RequestQueue["_Item"]) -> None:
        try:
            try:
                self._read(queued)
            finally:
                unread.finish(queued, good=True)  # also what was refused took its time
            queued.cost = queued.rows * QueuedRequest.cost_of([0])
            self._queue.offer(queued)
        except Exception as exc:
            self._refuse(queued.item.request, exc)

    def _refuse_overdue(self) -> None:
        """Tell those that waited too long, and forget those that wait no longer."""
        while not self._ended.wait(_OVERDUE_S):
            try:
                for queued in self._queue.slow_probes(_PROBE_S):  # others' batches are before it in the engine, say
                    self._answer_probe(queued, "")
                for lane in self._lanes:
                    for queued in lane.overdue(_is_cancelled):
                        self._refuse(queued.item.request, lane.too_late(queued))
            except Exception:
                logger.exception("queue.look_failed")

    # ---- what is answered ----

    def _answer_queue(self) -> None:
        while not self._ended.is_set():
            try:
                if batch := self._queue.take(1.0):
                    self._serve(batch)
            except Exception:  # whatever it is, the thread goes on
                logger.exception("worker.failed")

    def _serve(self, queued: list[QueuedRequest[Any]]) -> None:
        questions = [question for each in queued for question in each.item.questions]
        try:
            batch = self._router.place(questions)
        except Exception as exc:
            for each in queued:
                self._fail(each, exc, self._queue)
            return
        here: list[_Place] = []
        first = 0
        for each in queued:
            part = slice(first, first + each.rows)
            first = part.stop
            if any(row.arm is Arm.CHALLENGER for row in batch.rows[part]):
                self._set_aside(each, batch, part)
            else:
                here.append((each, part))
        if here:
            self._answer(*_part(batch, here), self._queue)

    def _set_aside(self, queued: QueuedRequest["_Item"], batch: Batch, part: slice) -> None:
        """Have the request wait for the challenger's threads, where it would not wait too long."""
        self._queue.finish(queued, good=False)
        queued.item = queued.item._replace(batch=batch, part=part)
        try:
            self._aside.offer(queued)
        except Exception as exc:
            self._refuse(queued.item.request, exc)

    def _answer_aside(self) -> None:
        """Answer what was placed in one batch together: it has one route and one time."""
        while not self._ended.is_set():
            try:
                queued = self._aside.take(1.0, alike=lambda one, other: one.item.batch is other.item.batch)
                if queued and (batch := queued[0].item.batch) is not None:
                    self._answer(*_part(batch, [(each, each.item.part) for each in queued]), self._aside)
            except Exception:
                logger.exception("worker.failed")

    def _answer(self, batch: Batch, queued: list[_Place], lane: RequestQueue["_Item"]) -> None:
        """Answer each request, whatever happens; what one of them spoils is asked again one by one.

        One that several callers share is told to have failed; the front door asks again for each of them.
        """
        alone, began = len(queued) == 1 and not queued[0][0].item.shared, time.monotonic()
        try:
            answers = self._router.answer(batch, alone=alone)
        except Exception as exc:  # also the runtime's own, which derive from Exception alone
            if len(queued) > 1:
                for place in queued:
                    self._answer(*_part(batch, [place]), lane)
                return
            self._fail(queued[0][0], exc, lane)
            return
        if lane is self._queue and (cost := sum(each.cost for each, _ in queued)) <= _QUICK_COST:
            self._second_per_cost = (time.monotonic() - began) / cost
        for each, part in queued:
            if any(answer.late for answer in answers[part]):
                late = TooLate("its answer came after the deadline of the request", lane.hint())
                self._fail(each, late, lane, good=True)
                continue
            lane.finish(each, good=True)
            if each.probe:
                self._answer_probe(each, "")
            else:
                self._responses.send(
                    each.item.request, partial(self._responses.answers, each.item.request, answers[part])
                )

    def _fail(
        self, queued: QueuedRequest["_Item"], error: Exception, lane: RequestQueue["_Item"], *, good: bool = False
    ) -> None:
        lane.finish(queued, good=good)
        if queued.probe:
            self._answer_probe(queued, message_for(error))
        else:
            self._refuse(queued.item.request, error)

    def _answer_probe(self, queued: QueuedRequest[Any], error: str) -> None:
        if self._queue.claim(queued):
            self._responses.send(queued.item.request, partial(self._progress, error))

    def _refuse(self, request: Any, error: Exception) -> None:
        if not isinstance(error, PerennialError):
            logger.error("request.failed", exc_info=error)
        self._responses.send(request, partial(self._responses.error, error))

    # ---- what goes out ----

    def _progress(self, error: str) -> Any:
        log, lanes = self._router.log_figures, self._lanes
        progress = Progress(
            process=os.getpid(),
            engine=self._settings.engine_model,
            error=error,
            substituted=self._router.substituted,
            waiting=lanes.waiting,
            at_work=lanes.at_work,
            answered=lanes.answered,
            refused=lanes.refused,
            expired=lanes.expired,
            stalled_s=lanes.stalled_s,
            rows_lost=log.rows_lost,
            rows_waiting=log.rows_waiting,
        )
        return self._responses.progress(progress)

    def _ask_engine(self, version: int, inputs: Inputs) -> Outputs:
        request = pb_utils.InferenceRequest(
            model_name=self._settings.engine_model,
            model_version=version,
            requested_output_names=self._engine_outputs,
            inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
            parameters={PARAMETER: own_secret()},  # an engine answers nobody else
        )
        response = request.exec()
        if response.has_error():
            why = f"engine {self._settings.engine_model} version {version} did not answer: {response.error().message()}"
            self._failing = why
            raise DependencyUnreachable(why)
        self._failing = ""
        self._lanes.progress()
        return {
            name: np.asarray(pb_utils.get_output_tensor_by_name(response, name).as_numpy())
            for name in self._engine_outputs
        }

    def _publish_figures(self) -> None:
        """Publish the figures from time to time, apart from all answering, and forget what was kept for long."""
        while not self._ended.wait(_PUBLISH_S):
            self._router.forget_old()
            log = self._router.log_figures
            self._figures.publish(
                {
                    "perennial_traffic_write_failures_total": log.write_failures,
                    "perennial_traffic_rows_lost_total": log.rows_lost,
                    "perennial_traffic_rows_waiting": log.rows_waiting,
                    "perennial_requests_refused_total": self._lanes.refused,
                    "perennial_requests_expired_total": self._lanes.expired,
                    "perennial_requests_unremembered_total": self._router.unremembered,
                    "perennial_answers_repeated_total": self._router.repeated,
                    "perennial_requests_waiting": self._lanes.waiting,
                }
            )


class _Item(NamedTuple):
    """A request of Triton's, what it asks, and its place in a batch of which the challenger is asked."""

    request: Any
    questions: list[Question]
    tensors: Mapping[str, Any] = {}
    batch: Batch | None = None
    part: slice = slice(0)
    shared: bool = False  # by several callers, who are asked one by one where it cannot be answered


def _count(settings: RouterSettings, instance: str) -> LostRowsCount | None:
    """What survives of the router's memory when it is killed; none where a full disk takes no file any more."""
    try:
        return LostRowsCount(settings.traffic_dir, instance)
    except OSError as exc:
        logger.error("traffic.no_count", extra={"reason": str(exc)})
        return None


def _part(batch: Batch, queued: list[_Place]) -> tuple[Batch, list[_Place]]:
    """The rows of some requests as a batch of their own, and each request's place in it."""
    rows: list[int] = []
    places = []
    for each, part in queued:
        places.append((each, slice(len(rows), len(rows) + part.stop - part.start)))
        rows += range(part.start, part.stop)
    return batch.part(rows), places


def _is_probe(request: Any) -> bool:
    """Whether the control process asks, by the secret of this start; nothing else makes a request a probe."""
    return knows_secret(request.parameters() or "")


def _is_shared(request: Any) -> bool:
    """Whether the front door put it together of several callers' questions."""
    return f'"{CALLERS}"' in (request.parameters() or "")


def _is_cancelled(queued: QueuedRequest[Any]) -> bool:
    return bool(queued.item.request.is_cancelled())


def _values(request: Any, names: Sequence[str]) -> dict[str, Any]:
    """The values of the request's tensors, those that it has."""
    tensors = ((name, pb_utils.get_input_tensor_by_name(request, name)) for name in names)
    return {name: tensor.as_numpy() for name, tensor in tensors if tensor is not None}
