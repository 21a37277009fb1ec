"""A challenger that hangs on the real Triton: its callers are answered by the champion, nobody else notices."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tritonclient.grpc import InferenceServerClient

from perennial.continual.records import Arm, Route
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.router.route import pick_arm
from perennial.ops.serving.server.server import TritonServer
from perennial.ops.traffic import TrafficLog
from tests.component.triton_fixtures import ENGINE, MODEL, Place, trips_for

pytestmark = [pytest.mark.component, pytest.mark.alone]
_ROUTE = Route(model=MODEL, epoch=1, champion=1, challenger=2, share=0.5, resident=(1, 2))
KEYS = [f"key-{number}" for number in range(40)]
CHAMPIONS = [key for key in KEYS if pick_arm(_ROUTE, key) is Arm.CHAMPION]
CHALLENGERS = [key for key in KEYS if pick_arm(_ROUTE, key) is Arm.CHALLENGER]


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, TritonServer]]:
    """Version 2 counts for many seconds when it meets a "transfer"."""
    place = Place(tmp_path_factory.mktemp("canary"))
    place.install((1,), router_instances=1, challenger_limit_s=3.0)
    place.publish(2, hang=trips_for(10.0))
    place.repository.set_versions(ENGINE, (1, 2))
    place.route(champion=1, challenger=2, share=0.5, resident=(1, 2), epoch=2)
    server = TritonServer(place.spec())
    server.start()
    try:
        yield place, server
    finally:
        server.stop()


def _ask(server: TritonServer, keys: list[str], text: str = "card lost") -> list[int]:
    """The versions that answered, one request after the other."""
    with PerennialClient(server.spec.url, MODEL, timeout_s=60.0) as client:
        return [client.predict([text], keys=[key])[0].version for key in keys]


def _answered_by_challenger(server: TritonServer) -> int:
    """How often the challenger's engine has answered, by Triton's count."""
    with InferenceServerClient(server.spec.url) as client:
        statistics = client.get_inference_statistics(ENGINE, "2", client_timeout=60)
    return int(statistics.model_stats[0].inference_stats.success.count)


def test_a_hanging_challenger_delays_no_champion_request_and_its_callers_are_answered(canary):
    """All of them are answered while it still hangs, and it is asked once."""
    place, server = canary
    assert set(_ask(server, CHALLENGERS)) == {2}
    _ask(server, CHAMPIONS)
    before = _answered_by_challenger(server)
    with ThreadPoolExecutor(1) as pool:
        first, versions = pool.submit(_ask, server, CHALLENGERS[:1], "transfer"), list[int]()
        while not first.done():
            versions += _ask(server, CHAMPIONS[:1], "transfer")
        assert len(versions) > 20, "the champion's requests waited until the challenger was given up"
        versions += _ask(server, CHAMPIONS, "transfer")
        fallbacks = first.result() + _ask(server, CHALLENGERS[1:], "transfer")
    assert _answered_by_challenger(server) == before, "somebody waited until it had answered"
    assert set(versions) == set(fallbacks) == {1}
    rows = TrafficLog(place.traffic).read(columns=["version", "arm"]).to_pylist()
    assert [row["version"] for row in rows if row["arm"] == "fallback"] == fallbacks
    since, end = [1], time.monotonic() + 120
    while since[-1] != 2:
        assert time.monotonic() < end, "it is not asked again after it woke up"
        time.sleep(0.2)
        since += _ask(server, CHALLENGERS)
    assert _answered_by_challenger(server) == before + 1 + since.count(2), "it was asked while it hung"


def test_requests_with_rows_on_both_sides_come_back_in_order(canary):
    keys = [*CHAMPIONS[:5], *CHALLENGERS[:5], *CHAMPIONS[5:9]]
    with PerennialClient(canary[1].spec.url, MODEL) as client:
        versions = [answer.version for answer in client.predict(["card lost"] * len(keys), keys=keys)]
    assert versions == [1] * 5 + [2] * 5 + [1] * 4
