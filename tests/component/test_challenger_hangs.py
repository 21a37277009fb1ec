"""A challenger that hangs on the real Triton: its callers are answered by the champion, nobody else notices."""

import threading
import time
from collections.abc import Iterator

import pytest

from perennial.continual.records import Arm, Route
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.router.route import pick_arm
from perennial.ops.serving.server.server import TritonServer
from perennial.ops.traffic import TrafficLog
from tests.component.triton_fixtures import ENGINE, MODEL, Place

pytestmark = pytest.mark.component
_ROUTE = Route(model=MODEL, epoch=1, champion=1, challenger=2, share=0.5, resident=(1, 2))
KEYS = [f"key-{number}" for number in range(40)]
CHAMPIONS = [key for key in KEYS if pick_arm(_ROUTE, key) is Arm.CHAMPION]
CHALLENGERS = [key for key in KEYS if pick_arm(_ROUTE, key) is Arm.CHALLENGER]


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, TritonServer]]:
    """Version 2 counts for seconds when it meets a "transfer"."""
    place = Place(tmp_path_factory.mktemp("canary"))
    place.install((1,), router_instances=1)
    place.publish(2, hang=4_000_000)
    place.repository.set_versions(ENGINE, (1, 2))
    place.route(champion=1, challenger=2, share=0.5, resident=(1, 2), epoch=2)
    server = TritonServer(place.spec())
    server.start()
    try:
        yield place, server
    finally:
        server.stop()


def _ask(server: TritonServer, keys: list[str], rounds: int, text: str = "card lost") -> tuple[list[int], list[float]]:
    versions, times = [], []
    with PerennialClient(server.spec.url, MODEL, timeout_s=20.0) as client:
        for _ in range(rounds):
            for key in keys:
                started = time.perf_counter()
                versions.append(client.predict([text], keys=[key])[0].version)
                times.append(time.perf_counter() - started)
    return versions, times


def test_a_hanging_challenger_delays_no_champion_request_and_its_callers_are_answered(canary):
    place, server = canary
    assert set(_ask(server, CHALLENGERS, 1)[0]) == {2}
    before = max(_ask(server, CHAMPIONS, 3)[1])
    fallbacks: list[tuple[list[int], list[float]]] = []
    thread = threading.Thread(target=lambda: fallbacks.append(_ask(server, CHALLENGERS, 1, "transfer")))
    thread.start()
    versions, times = _ask(server, CHAMPIONS, 10, "transfer")
    thread.join()
    assert set(versions) == {1}
    assert max(times) < max(0.5, 5 * before), f"a champion request took {max(times):.3f} s"
    answered, waited = fallbacks[0]
    assert set(answered) == {1}
    assert max(waited) < 2.5
    assert sum(wait > 0.9 for wait in waited) <= 2  # the first waits out its limit; the others are not sent there
    rows = TrafficLog(place.traffic).read(columns=["version", "arm"]).to_pylist()
    assert sum(row["arm"] == "fallback" for row in rows) == len(answered)
    assert all(row["version"] == 1 for row in rows if row["arm"] == "fallback")


def test_a_challenger_that_wakes_up_answers_again(canary):
    deadline = time.monotonic() + 40
    while set(_ask(canary[1], CHALLENGERS, 1)[0]) != {2}:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_requests_with_rows_on_both_sides_come_back_in_order(canary):
    keys = [*CHAMPIONS[:5], *CHALLENGERS[:5], *CHAMPIONS[5:9]]
    with PerennialClient(canary[1].spec.url, MODEL) as client:
        versions = [answer.version for answer in client.predict(["card lost"] * len(keys), keys=keys)]
    assert versions == [1] * 5 + [2] * 5 + [1] * 4
