"""The real Triton on a traffic log that cannot be written: everybody is answered, and nothing is lost or doubled."""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.request import urlopen

import pytest

from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.server.server import TritonServer
from perennial.ops.serving.server.stubs import stubs_of
from perennial.ops.traffic import TrafficLog
from tests.component.triton_fixtures import MODEL, Place

pytestmark = [pytest.mark.component, pytest.mark.paired]
_FILLS = "card lost " * 1_500


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, TritonServer]]:
    """The traffic log lies on a file system of its own, of 3 MB."""
    place = Place(tmp_path_factory.mktemp("full"))
    place.install((1,), router_instances=2)
    place.traffic.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", place.traffic], check=True)
    server = TritonServer(place.spec())
    try:
        server.start()
        yield place, server
    finally:
        server.stop()
        subprocess.run(["umount", "--lazy", place.traffic], check=True)


def _ask(server: TritonServer, times: int, text: str = "card lost") -> list[str]:
    with PerennialClient(server.spec.url, MODEL) as client:
        return [answer.prediction_id for _ in range(times) for answer in client.predict([text])]


def _logged(place: Place) -> Counter[str]:
    rows = TrafficLog(place.traffic).read(columns=["prediction_id"]).to_pylist()
    return Counter(row["prediction_id"] for row in rows)


def _eventually(what: Callable[[], bool], within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, f"not so within {within_s} s"
        time.sleep(0.1)


def _metric(server: TritonServer, name: str) -> float:
    exposition = urlopen(f"http://{server.spec.host}:{server.spec.metrics_port}/metrics", timeout=10).read().decode()
    lines = [line for line in exposition.splitlines() if line.startswith(name) and f'model="{MODEL}"' in line]
    assert lines, f"{name} is not told"
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _stubs(server: TritonServer) -> set[int]:
    return set(stubs_of(server.pid or 0))


def test_a_file_system_that_is_full_fails_no_answer_and_has_all_rows_once_there_is_space(served):
    place, server = served
    stubs = _stubs(server)
    ballast = place.traffic / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(2 * 2**20))
    answered = _ask(server, 300, _FILLS)  # 4.5 MB for 1 MB
    assert len(set(answered)) == 300
    assert shutil.disk_usage(place.traffic).free < 2**16, "it did not get full"
    _eventually(lambda: _metric(server, "perennial_traffic_write_failures_total") > 0)
    assert _metric(server, "perennial_traffic_rows_waiting") > 0
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", place.traffic], check=True)
    answered += _ask(server, 20)
    _eventually(lambda: _metric(server, "perennial_traffic_rows_waiting") == 0)
    assert _logged(place) == Counter(answered)
    assert _metric(server, "perennial_traffic_rows_lost_total") == 0
    assert _stubs(server) == stubs


@pytest.mark.parametrize("replaced", [True, False])
def test_a_folder_that_is_gone_or_a_file_fails_no_answer_and_no_row_is_missing(served, replaced):
    place, server = served
    before, stubs = _logged(place), _stubs(server)
    _eventually(lambda: _metric(server, "perennial_traffic_rows_waiting") == 0)
    live, aside = place.traffic / "live", place.root / f"aside-{replaced}"
    shutil.move(live, aside)
    if replaced:
        live.write_text("not a folder")
    answered = _ask(server, 40)
    assert len(set(answered)) == 40
    if replaced:
        live.unlink()
    shutil.copytree(aside, live, dirs_exist_ok=True)
    answered += _ask(server, 5)
    _eventually(lambda: _logged(place) - before == Counter(answered))
    assert _stubs(server) == stubs


def test_rows_in_the_memory_of_a_killed_router_are_counted_once_it_is_back(tmp_path):
    place = Place(tmp_path)
    place.install((1,), router_instances=1)
    place.traffic.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place.traffic], check=True)
    server, log = TritonServer(place.spec()), TrafficLog(place.traffic)
    try:
        server.start()
        answered = _ask(server, 150, _FILLS)  # 2 MB
        _eventually(lambda: _metric(server, "perennial_traffic_rows_waiting") > 0)
        written = sum(_logged(place).values())
        router = next(pid for pid, name in stubs_of(server.pid or 0).items() if name.rsplit("_", 2)[0] == MODEL)
        os.kill(router, signal.SIGKILL)
        _eventually(lambda: log.lost().rows == len(answered) - written > 0)
        server.kill()
        server.start()  # on the disk that is still full
        _ask(server, 1, _FILLS)
        _eventually(lambda: _metric(server, "perennial_traffic_rows_waiting") == 1)
        _eventually(lambda: _metric(server, "perennial_traffic_rows_lost_total") == len(answered) - written)
        assert log.lost().rows == len(answered) - written
        server.kill()
        _eventually(lambda: log.lost().rows == len(answered) - written + 1)  # each killed one's rows, once
    finally:
        server.stop()
        subprocess.run(["umount", "--lazy", place.traffic], check=True)
