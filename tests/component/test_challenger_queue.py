"""More requests than a slow challenger can answer, on the real Triton: they are refused in time, nobody else is."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from perennial.continual.records import Arm, Route
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.router.route import pick_arm
from perennial.ops.serving.server.server import TritonServer
from tests.component.triton_fixtures import ENGINE, MODEL, Place, probe, trips_for

pytestmark = [pytest.mark.component, pytest.mark.alone]
_ROUTE = Route(model=MODEL, epoch=1, champion=1, challenger=2, share=0.5, resident=(1, 2))
_KEYS = [f"key-{number}" for number in range(20)]
_CHAMPIONS = next(key for key in _KEYS if pick_arm(_ROUTE, key) is Arm.CHAMPION)
_CHALLENGERS = next(key for key in _KEYS if pick_arm(_ROUTE, key) is Arm.CHALLENGER)
_ROWS = 64  # a batch of its own
_QUEUE_S = 6.0
_CALLERS = 20


@dataclass
class Replies:
    """What callers got."""

    versions: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def ended(self) -> int:
        return len(self.versions) + len(self.refused) + len(self.others)

    def take(self, answer: object, error: InferenceServerException | None) -> None:
        """The callback of a request."""
        if error is None:
            self.versions.append(int(answer.as_numpy("VERSION")[0, 0]))  # type: ignore[attr-defined]
            return
        ours = error.status() == "StatusCode.UNAVAILABLE" and re.search(r"retry after \d+\.\d s", error.message())
        (self.refused if ours else self.others).append(f"{error.status()} {error.message()}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("slow"))


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[TritonServer]:
    """The challenger takes a second of a processor for each batch, and never so long that it were given up."""
    place.install((1,), router_instances=1, queue_limit_s=_QUEUE_S, challenger_limit_s=300.0)
    place.publish(2, hang=trips_for(1.0 / _ROWS))
    place.repository.set_versions(ENGINE, (1, 2))
    place.route(champion=1, challenger=2, share=0.5, resident=(1, 2), epoch=2)
    server = TritonServer(place.spec())
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def client(server: TritonServer) -> Iterator[InferenceServerClient]:
    _eventually(lambda: (seen := probe(server)).waiting == seen.at_work == 0)
    with InferenceServerClient(server.spec.url) as client:
        yield client


def _eventually(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def _ask_challenger(
    client: InferenceServerClient, replies: Replies, timeout_s: float | None = None, callers: int = _CALLERS
) -> list[object]:
    """Send all requests at once; returns their calls."""
    inputs = []
    for name, value in (("TEXT", b"transfer"), ("KEY", _CHALLENGERS.encode())):
        inputs.append(InferInput(name, [_ROWS, 1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([[value]] * _ROWS, dtype=object))
    limit = {} if timeout_s is None else {"timeout": int(1e6 * timeout_s)}
    lock = threading.Lock()

    def ended(result: object, error: InferenceServerException | None) -> None:
        with lock:
            replies.take(result, error)

    return [client.async_infer(MODEL, inputs, ended, client_timeout=120, **limit) for _ in range(callers)]


def _worked_on(client: InferenceServerClient) -> int:
    """How many batches the challenger's engine has answered."""
    return int(client.get_inference_statistics(ENGINE, "2").model_stats[0].inference_stats.success.count)


def test_what_would_wait_too_long_for_a_challenger_is_refused_and_nobody_else_is(server, client):
    replies, before = Replies(), _worked_on(client)
    _ask_challenger(client, replies)
    champions = []
    with PerennialClient(server.spec.url, MODEL, timeout_s=60.0) as other:
        while replies.ended < _CALLERS:
            champions += [answer.version for answer in other.predict(["transfer"], keys=[_CHAMPIONS])]
    assert replies.others == []
    assert set(replies.versions) == {2}
    assert replies.refused, "it was not too much"
    assert len(replies.versions) == _worked_on(client) - before, "no one is worked on that is refused"
    assert set(champions) == {1}


def test_a_challenger_is_not_asked_what_cannot_be_answered_by_its_deadline(client):
    replies, before = Replies(), _worked_on(client)
    _ask_challenger(client, replies, timeout_s=2.0)
    _eventually(lambda: replies.ended == _CALLERS)
    worked_on = _worked_on(client) - before
    assert replies.others == []
    # each has its own deadline, from when the router reads it: on a busy machine later ones are asked in time too
    late = [why for why in replies.refused if "its answer came after the deadline" in why]
    assert len(replies.versions) + len(late) == worked_on, "no one is worked on that is refused before"
    assert worked_on < _CALLERS, "there was time for all of them, or nobody's time was looked at"


def test_a_challenger_is_not_asked_what_nobody_waits_for_any_more(server, client):
    replies, before = Replies(), probe(server)
    calls = _ask_challenger(client, replies)
    _eventually(lambda: probe(server).waiting > 0)
    for call in calls:
        call.cancel()
    _eventually(lambda: probe(server).waiting == 0)
    assert probe(server).expired == before.expired, "they waited until it was too late for them"


def test_a_version_that_is_taken_away_answers_first_what_it_was_asked(place, server, client):
    """Its process has handed the batch to another thread, and has returned to Triton."""
    replies = Replies()
    _ask_challenger(client, replies, callers=1)
    _eventually(lambda: probe(server).at_work > 0)
    place.route(champion=1, resident=(1,), epoch=3)
    place.repository.set_versions(ENGINE, (1,))
    with closing(TritonControl(server.spec.url, secret=server.kept_secret, timeout_s=60.0)) as control:
        control.load(ENGINE)
        assert replies.ended == 0, "it was too fast for this test"
        _eventually(lambda: replies.ended == 1)
        assert (replies.versions, replies.others) == ([2], [])
        _eventually(lambda: control.holds(ENGINE, 2, timeout_s=5.0) is False)
