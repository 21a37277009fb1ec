"""What becomes of the embedded Triton when something is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from continual.errors import DependencyUnreachable, PerennialError
from ops.triton.client import PerennialClient
from ops.triton.probe import probe_router
from ops.triton.processes import end_group, group_members, is_running, start_ticks
from ops.triton.server import OnParentDeath, TritonServer
from ops.triton.supervisor import Supervisor
from tests.component.triton_fixtures import ENGINE, MODEL, Place

pytestmark = pytest.mark.component
_REPOSITORY = Path(__file__).parents[2]
_CHILD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from ops.triton.server import OnParentDeath, ServerSpec, TritonServer
    folder, repository, grpc, http, metrics, fate = sys.argv[1:]
    spec = ServerSpec(folder=Path(folder), repository=Path(repository), models=("intent_engine", "intent"),
                      grpc_port=int(grpc), http_port=int(http), metrics_port=int(metrics),
                      on_parent_death=OnParentDeath(fate))
    TritonServer(spec).start()
    print("up", flush=True)
    time.sleep(600)
    """
)


def _eventually(what: Callable[[], bool], within_s: float) -> float:
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < within_s, f"not so within {within_s} s"
        time.sleep(0.1)
    return time.monotonic() - started


def _stubs(server: TritonServer, model: str) -> list[int]:
    """The stub processes of a model; Triton names them on their command line."""
    found = []
    for pid in group_members(server.pid or 0):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"stub" in words[0] and any(word.startswith(f"{model}_".encode()) for word in words):
            found.append(pid)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.install((1,), router_instances=1)
    return place


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TritonServer, Supervisor]]:
    place = Place(tmp_path_factory.mktemp("watched"))
    place.install((1,), router_instances=1)
    server = TritonServer(place.spec())
    supervisor = Supervisor(
        server,
        models=lambda: (ENGINE, MODEL),
        probe=lambda: probe_router(server.spec.url, MODEL, timeout_s=2.0),
        on_started=lambda: None,
        interval_s=0.2,
        failures=2,
    )
    supervisor.start()
    try:
        yield server, supervisor
    finally:
        supervisor.stop()


def _present(segments: frozenset[str]) -> set[str]:
    return {name for name in segments if Path("/dev/shm", name).exists()}


def _answers(server: TritonServer) -> bool:
    with PerennialClient(server.spec.url, MODEL, timeout_s=2.0) as client:
        try:
            return client.predict(["card lost"])[0].label == "card_issue"
        except PerennialError:
            return False


def _kill_and_recover(watched: tuple[TritonServer, Supervisor], pid: int) -> None:
    server, supervisor = watched
    _eventually(lambda: supervisor.healthy and _answers(server), 20)
    group, segments = server.pid, server.segments()
    assert group is not None
    os.kill(pid, signal.SIGKILL)
    _eventually(lambda: start_ticks(pid) is None and supervisor.healthy and _answers(server), 30)
    if server.pid != group:
        assert group_members(group) == ()
        assert _present(segments) == set()


def test_a_killed_server_comes_back(watched):
    server, supervisor = watched
    before = supervisor.restarts
    assert server.pid is not None
    _kill_and_recover(watched, server.pid)
    assert supervisor.restarts == before + 1


def test_a_killed_engine_process_is_recovered(watched):
    _eventually(lambda: _answers(watched[0]), 20)
    stubs = _stubs(watched[0], ENGINE)
    assert stubs
    _kill_and_recover(watched, stubs[0])


def test_a_killed_router_process_is_recovered(watched):
    _eventually(lambda: _answers(watched[0]), 20)
    stubs = [pid for pid in _stubs(watched[0], MODEL) if pid not in _stubs(watched[0], ENGINE)]
    assert stubs
    _kill_and_recover(watched, stubs[0])


def test_a_hanging_server_is_restarted(watched):
    server, supervisor = watched
    _eventually(lambda: supervisor.healthy and _answers(server), 20)
    before, pid = supervisor.restarts, server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    _eventually(lambda: supervisor.restarts > before and supervisor.healthy and _answers(server), 60)
    assert group_members(pid) == ()


def test_stopping_leaves_no_process_file_or_shared_memory(place):
    server = TritonServer(place.spec())
    server.start()
    pid, segments = server.pid, server.segments()
    try:
        assert pid is not None
        assert len(group_members(pid)) >= 3
        assert len(segments) >= 2
        assert _present(segments) == segments
    finally:
        server.stop()
    assert group_members(pid) == ()
    assert not (place.root / "var" / "triton" / "server.json").exists()
    assert _present(segments) == set()
    server.stop()


def test_a_taken_port_is_named(place):
    spec = place.spec()
    with socket.socket() as taken:
        taken.bind((spec.host, spec.http_port))
        taken.listen()
        with pytest.raises(DependencyUnreachable, match=f"http port {spec.http_port}"):
            TritonServer(spec).start()


def _child(place: Place, fate: OnParentDeath) -> tuple[subprocess.Popen[str], TritonServer]:
    spec = place.spec(on_parent_death=fate)
    ports = [str(port) for port in (spec.grpc_port, spec.http_port, spec.metrics_port)]
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(spec.folder), str(spec.repository), *ports, fate.value],
        cwd=_REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    return child, TritonServer(spec)


def _kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def test_a_kept_server_outlives_its_control_process_and_is_adopted(place):
    child, successor = _child(place, OnParentDeath.KEEP)
    record = json.loads((place.root / "var" / "triton" / "server.json").read_text())
    _kill(child)
    time.sleep(0.5)
    try:
        assert is_running(record["pid"], record["ticks"])
        assert _answers(successor)
        assert successor.start() is True
        assert successor.pid == record["pid"]
    finally:
        successor.stop()
    assert group_members(record["pid"]) == ()


def test_a_server_that_shall_stop_ends_with_its_control_process(place):
    child, successor = _child(place, OnParentDeath.STOP)
    pid = json.loads((place.root / "var" / "triton" / "server.json").read_text())["pid"]
    try:
        _kill(child)
        _eventually(lambda: group_members(pid) == (), 20)
    finally:
        end_group(pid, grace_s=0.0)
    assert successor.start() is False
    assert _answers(successor)
    successor.stop()
