"""More requests than the real Triton can answer: refused in time, answered rightly, and no reason for a restart."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from perennial.ops.serving.probe import EngineWatch
from perennial.ops.serving.processes import is_running, start_ticks
from perennial.ops.serving.server.server import TritonServer
from perennial.ops.serving.server.stubs import stubs_of
from perennial.ops.serving.server.supervisor import Supervisor
from perennial.ops.traffic import TrafficLog
from tests.component.triton_fixtures import ENGINE, MODEL, Place, probe, trips_for

pytestmark = [pytest.mark.component, pytest.mark.alone]
_SLOW = b"transfer"  # the engine counts for a while at each one
_BATCH_S = 0.5  # of a processor, for 64 of them
_QUEUE_S = 5.0
_HINT = re.compile(r"retry after \d+\.\d s")


@dataclass
class Replies:
    """What callers got."""

    labels: list[bytes] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    refused_after_s: list[float] = field(default_factory=list)
    answered_after_s: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, TritonServer, Supervisor]]:
    """64 slow texts take a good part of a second, and nobody is to wait for longer than five."""
    place = Place(tmp_path_factory.mktemp("busy"))
    place.install((1,), router_instances=2, queue_limit_s=_QUEUE_S, hang=trips_for(_BATCH_S / 64))
    server, watch = TritonServer(place.spec()), EngineWatch()
    supervisor = Supervisor(
        server,
        models=lambda: (ENGINE, MODEL),
        probe=lambda: probe(server, watch=watch, timeout_s=3.0, stall_limit_s=15.0),
        on_started=lambda: None,
        interval_s=0.2,
        failures=3,
    )
    supervisor.start()
    try:
        yield place, server, supervisor
    finally:
        supervisor.stop()


def _ask(client: InferenceServerClient, replies: Replies, *, rows: int = 64, timeout_s: float | None = None) -> None:
    tensor = InferInput("TEXT", [rows, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[_SLOW]] * rows, dtype=object))
    began = time.monotonic()
    try:
        limit = {} if timeout_s is None else {"timeout": int(1e6 * timeout_s)}
        answer = client.infer(MODEL, [tensor], client_timeout=60, **limit)
    except InferenceServerException as exc:
        ours = exc.status() == "StatusCode.UNAVAILABLE" and _HINT.search(str(exc.message()))
        (replies.refused if ours else replies.others).append(f"{exc.status()} {exc.message()}")
        replies.refused_after_s.append(time.monotonic() - began)
    else:
        replies.answered_after_s.append(time.monotonic() - began)
        replies.labels += list(answer.as_numpy("LABEL")[:, 0])
        replies.ids += [number.decode() for number in answer.as_numpy("PREDICTION_ID")[:, 0]]


def _callers(
    server: TritonServer,
    callers: int,
    seconds: float,
    enough: Callable[[Replies], bool],
    *,
    rows: int = 64,
    timeout_s: float | None = None,
) -> Replies:
    """Ask for some seconds, and on until it was enough, for as long as a very busy machine may take."""
    replies, began = Replies(), time.monotonic()

    def goes_on() -> bool:
        age_s = time.monotonic() - began
        return age_s < seconds or (age_s < 120.0 and not enough(replies))

    def call() -> None:
        with InferenceServerClient(server.spec.url, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as client:
            while goes_on():
                before = len(replies.refused)
                _ask(client, replies, rows=rows, timeout_s=timeout_s)
                if len(replies.refused) > before:
                    time.sleep(0.1)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies


def _eventually(what: Callable[[], bool], within_s: float = 120.0) -> None:
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, f"not so within {within_s} s"
        time.sleep(0.1)


def test_a_busy_server_is_not_restarted_and_tells_those_that_it_cannot_answer(watched):
    place, server, supervisor = watched
    pid = server.pid
    replies = _callers(
        server, 24, 12.0, lambda replies: len(replies.answered_after_s) >= 5 and len(replies.refused) >= 5
    )
    assert replies.others == []
    assert set(replies.labels) == {b"money_issue"}
    assert replies.refused, "it was not too much"
    assert len(replies.answered_after_s) >= 5
    assert (supervisor.restarts, server.pid) == (0, pid)
    logged = {row["prediction_id"] for row in TrafficLog(place.traffic).read(columns=["prediction_id"]).to_pylist()}
    assert logged == set(replies.ids), "who is refused is not logged, who is answered is"
    _eventually(lambda: supervisor.healthy)


def test_no_answer_comes_after_its_deadline_and_none_is_worked_on_that_cannot_come_in_time(watched):
    place, server, supervisor = watched
    limit_s, way_back_s = 1.5, 3.0  # on a busy machine; together less than they would wait without a deadline
    replies = _callers(
        server, 48, 6.0, lambda replies: bool(replies.ids and replies.refused), rows=16, timeout_s=limit_s
    )
    assert replies.others == []
    assert replies.ids, "nobody was answered"
    assert replies.refused, "everybody could be answered in time"
    assert max(replies.answered_after_s) < limit_s + way_back_s < _QUEUE_S
    logged = {row["prediction_id"] for row in TrafficLog(place.traffic).read(columns=["prediction_id"]).to_pylist()}
    assert set(replies.ids) <= logged
    assert supervisor.restarts == 0


def test_an_engine_from_which_nothing_comes_out_while_callers_wait_is_restarted(watched):
    _, server, supervisor = watched
    _eventually(lambda: supervisor.healthy)
    before = supervisor.restarts
    engine = next(pid for pid, name in stubs_of(server.pid or 0).items() if name.rsplit("_", 2)[0] == ENGINE)
    ticks = start_ticks(engine)
    assert ticks is not None
    os.kill(engine, signal.SIGSTOP)
    replies = Replies()
    with InferenceServerClient(server.spec.url) as client:
        _ask(client, replies, rows=1)  # ends with its server
    _eventually(lambda: supervisor.restarts > before and supervisor.healthy)
    assert not is_running(engine, ticks)
    assert replies.labels == []
