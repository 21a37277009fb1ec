"""What becomes of the embedded Triton when something is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perennial.continual.errors import DependencyUnreachable, PerennialError, PublishFailed
from perennial.continual.records import Route
from perennial.exporters.bundle import read_manifest, write_manifest
from perennial.exporters.golden import Golden
from perennial.exporters.runtime import OnnxEngine
from perennial.exporters.text_classification.signature import TEXT_ENGINE
from perennial.exporters.text_classification.tokens import padded
from perennial.ops.ledger import Ledger
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.processes import end_group, group_members, is_running, start_ticks
from perennial.ops.serving.reconciler import Reconciler
from perennial.ops.serving.server.server import OnParentDeath, StartLost, TritonServer
from perennial.ops.serving.server.stubs import stubs_of
from perennial.ops.serving.server.supervisor import Supervisor
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace
from tests.component.triton_fixtures import ENGINE, MODEL, WORDS, Place, probe, trips_for

pytestmark = [pytest.mark.component, pytest.mark.paired]
_REPOSITORY = Path(__file__).parents[2]
_CHILD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from perennial.ops.serving.server.server import OnParentDeath, ServerSpec, TritonServer
    folder, repository, grpc, http, metrics, on_death = sys.argv[1:]
    spec = ServerSpec(folder=Path(folder), repository=Path(repository), models=("intent_engine", "intent"),
                      grpc_port=int(grpc), http_port=int(http), metrics_port=int(metrics),
                      on_parent_death=OnParentDeath(on_death))
    TritonServer(spec).start()
    print("up", flush=True)
    time.sleep(600)
    """
)


def _eventually(what: Callable[[], bool], within_s: float = 120.0) -> None:
    """Wait for it, for as long as a very busy machine may take."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < within_s, f"not so within {within_s} s"
        time.sleep(0.1)


def _stubs(server: TritonServer, model: str) -> list[int]:
    """The stub processes of a model."""
    return [pid for pid, name in stubs_of(server.pid or 0).items() if name.rsplit("_", 2)[0] == model]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.install((1,), router_instances=1)
    return place


class Settling:
    """What runs after each start: the reconciler, over a channel that outlives the server; it may be told to fail."""

    def __init__(self, place: Place, server: TritonServer) -> None:
        settings = Settings(state=place.root / "var", repository=place.repository.root, models={MODEL: {}})
        self.ledger = Ledger.open(settings.ledger_address)
        self.ledger.register_model(MODEL, {})
        route = Route(model=MODEL, epoch=1, champion=1, resident=(1, 2))
        self.ledger.set_route(route, expected_epoch=0, actor="test", reason="first")
        self.control = TritonControl(server.spec.url, secret=server.kept_secret)
        self._reconciler = Reconciler(self.ledger, Workspace(settings), place.repository, (self.control,))
        self.failures, self.calls = 0, 0

    def __call__(self) -> None:
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise PublishFailed("version 9 is broken")
        self._reconciler.reconcile(MODEL)

    def close(self) -> None:
        self.control.close()
        self.ledger.close()


@pytest.fixture(scope="module")
def settling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TritonServer, Supervisor, Settling]]:
    place = Place(tmp_path_factory.mktemp("watched"))
    place.install((1, 2))
    server = TritonServer(place.spec())
    settling = Settling(place, server)
    supervisor = Supervisor(
        server,
        models=lambda: (ENGINE, MODEL),
        probe=lambda: probe(server, timeout_s=3.0),
        on_started=settling,
        interval_s=0.2,
        failures=2,
    )
    supervisor.start()
    try:
        yield server, supervisor, settling
    finally:
        supervisor.stop()
        settling.close()


@pytest.fixture
def watched(settling: tuple[TritonServer, Supervisor, Settling]) -> tuple[TritonServer, Supervisor]:
    return settling[:2]


def _present(segments: frozenset[str]) -> set[str]:
    return {name for name in segments if Path("/dev/shm", name).exists()}


def _answers(server: TritonServer) -> bool:
    with PerennialClient(server.spec.url, MODEL, timeout_s=5.0) as client:
        try:
            return client.predict(["card lost"])[0].label == "card_issue"
        except PerennialError:
            return False


def test_no_other_user_of_the_machine_may_read_requests_in_flight(watched):
    server, _ = watched
    segments = server.segments()
    assert len(segments) >= 2  # an engine's and a router's at the least
    end = time.monotonic() + 10.0
    while any(Path("/dev/shm", name).stat().st_mode & 0o077 for name in segments) and time.monotonic() < end:
        time.sleep(0.05)
    assert {oct(Path("/dev/shm", name).stat().st_mode & 0o777) for name in segments} == {"0o600"}
    assert _answers(server)


def _kill_and_recover(watched: tuple[TritonServer, Supervisor], pid: int) -> None:
    """One kill costs one restart, and everything is back and nothing left over."""
    server, supervisor = watched
    _eventually(lambda: supervisor.healthy and _answers(server))
    before = supervisor.restarts
    group, segments = server.pid, server.segments()
    assert group is not None
    os.kill(pid, signal.SIGKILL)
    _eventually(lambda: supervisor.restarts > before and supervisor.healthy and _answers(server))
    assert start_ticks(pid) is None
    assert supervisor.restarts == before + 1
    assert group_members(group) == ()
    assert _present(segments) == set()


def test_a_killed_server_comes_back_after_one_restart(watched):
    server, _ = watched
    assert server.pid is not None
    _kill_and_recover(watched, server.pid)
    with PerennialClient(server.spec.url, MODEL) as client:
        assert client.predict(["card lost"])[0].version == 1


def test_a_killed_engine_process_is_recovered(watched):
    """Two versions are loaded; whichever of them died, a rollback must find both alive again."""
    _eventually(lambda: _answers(watched[0]))
    stubs = _stubs(watched[0], ENGINE)
    assert len(stubs) == 2
    _kill_and_recover(watched, max(stubs))
    assert len(_stubs(watched[0], ENGINE)) == 2


def test_one_killed_router_process_of_two_is_noticed(watched):
    """Every other probe would be answered by its brother."""
    _eventually(lambda: _answers(watched[0]))
    stubs = _stubs(watched[0], MODEL)
    assert len(stubs) == 2
    _kill_and_recover(watched, stubs[0])
    assert len(_stubs(watched[0], MODEL)) == 2


def test_an_unloaded_version_is_no_death(settling):
    server, supervisor, settle = settling
    _eventually(lambda: supervisor.healthy and _answers(server))
    before, stubs = supervisor.restarts, _stubs(server, ENGINE)
    route = settle.ledger.route(MODEL)
    for resident, processes in (((1,), 1), ((1, 2), 2)):
        epoch = settle.ledger.route(MODEL).epoch
        settle.ledger.set_route(
            Route(model=MODEL, epoch=epoch + 1, champion=1, resident=resident),
            expected_epoch=epoch,
            actor="test",
            reason="resident versions",
        )
        settle()
        _eventually(lambda n=processes: len(_stubs(server, ENGINE)) == n)
        assert _answers(server)
    assert route.resident == (1, 2)
    assert set(_stubs(server, ENGINE)) != set(stubs)
    time.sleep(0.5)
    assert supervisor.restarts == before


def test_what_cannot_be_brought_in_order_costs_a_healthy_server_nothing(settling):
    server, supervisor, settle = settling
    assert server.pid is not None
    settle.failures, calls, before = 1, settle.calls, supervisor.restarts
    os.kill(server.pid, signal.SIGKILL)
    _eventually(lambda: supervisor.unsettled is not None and _answers(server))
    assert "version 9 is broken" in supervisor.unsettled
    assert not supervisor.healthy
    pid = server.pid
    _eventually(lambda: supervisor.healthy)
    assert (server.pid, supervisor.restarts, settle.calls) == (pid, before + 1, calls + 2)


def test_a_hanging_server_is_restarted(watched):
    server, supervisor = watched
    _eventually(lambda: supervisor.healthy and _answers(server))
    before, pid = supervisor.restarts, server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    _eventually(lambda: supervisor.restarts > before and supervisor.healthy and _answers(server))
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


def test_a_start_that_is_no_longer_wanted_is_given_up(place):
    server, cancel = TritonServer(place.spec()), threading.Event()
    cancel.set()
    with pytest.raises(DependencyUnreachable, match="told to stop before it answered"):
        server.start(cancel)
    assert server.pid is None
    assert not (place.root / "var" / "triton" / "server.json").exists()


def test_a_taken_port_is_named(place):
    spec = place.spec()
    with socket.socket() as taken:
        taken.bind((spec.host, spec.http_port))
        taken.listen()
        with pytest.raises(DependencyUnreachable, match=f"http port {spec.http_port}"):
            TritonServer(spec).start()


def _child(place: Place, on_death: OnParentDeath) -> tuple[subprocess.Popen[str], TritonServer]:
    spec = place.spec(on_parent_death=on_death)
    ports = [str(port) for port in (spec.grpc_port, spec.http_port, spec.metrics_port)]
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(spec.folder), str(spec.repository), *ports, on_death.value],
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


def test_a_server_whose_control_process_was_killed_before_it_could_note_it_is_adopted_or_ended(place):
    child, successor = _child(place, OnParentDeath.KEEP)
    noted = place.root / "var" / "triton" / "server.json"
    record = json.loads(noted.read_text())
    _kill(child)
    noted.unlink()
    try:
        assert successor.start() is True
        assert successor.pid == record["pid"]
        assert json.loads(noted.read_text()) == record
        successor.release()
        noted.unlink()
    finally:
        TritonServer(successor.spec).stop()
    assert group_members(record["pid"]) == ()


def test_a_process_that_died_while_nobody_watched_is_missed_after_the_adoption(place):
    """Control process and engine are killed together; the server goes on saying that all is READY."""
    child, successor = _child(place, OnParentDeath.KEEP)
    pid = json.loads((place.root / "var" / "triton" / "server.json").read_text())["pid"]
    engine = next(stub for stub, name in stubs_of(pid).items() if name.rsplit("_", 2)[0] == ENGINE)
    _kill(child)
    os.kill(engine, signal.SIGKILL)

    def ask() -> None:
        probe(successor, timeout_s=5.0)

    supervisor = Supervisor(
        successor, models=lambda: (ENGINE, MODEL), probe=ask, on_started=ask, interval_s=0.2, failures=5
    )
    supervisor.start()
    try:
        _eventually(lambda: supervisor.restarts == 1 and supervisor.healthy)
        assert successor.pid != pid
        assert _answers(successor)
    finally:
        supervisor.stop()


@pytest.mark.parametrize("after_s", [0.0, 0.2])
@pytest.mark.parametrize("model", [ENGINE, MODEL])
def test_a_process_killed_while_the_server_starts_does_not_keep_it_from_coming_up(place, monkeypatch, model, after_s):
    """Triton 2.51 may wait for a killed process for ever, and lives meanwhile."""
    monkeypatch.setattr("perennial.ops.serving.server.server._AFTER_LOSS_S", 2.0)
    server = TritonServer(place.spec())

    def ask() -> None:
        probe(server, timeout_s=5.0)

    supervisor = Supervisor(
        server, models=lambda: (ENGINE, MODEL), probe=ask, on_started=lambda: None, interval_s=0.2, failures=3
    )
    killed: list[int] = []

    def kill_the_first() -> None:
        end = time.monotonic() + 20
        while not killed and time.monotonic() < end:
            if found := _stubs(server, model):
                time.sleep(after_s)  # at once, before anybody sees it, or in its imports
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])
            time.sleep(0.002)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    try:
        supervisor.start()  # also where the first start is lost: the supervisor goes on trying
        killer.join()
        assert killed
        _eventually(lambda: supervisor.healthy and _answers(server))
    finally:
        supervisor.stop()


_SLOW_S = 4.0


def _slow_to_load(place: Place, version: int) -> None:
    """A sound version whose golden answer takes an engine seconds."""
    folder = place.stage(version, hang=trips_for(_SLOW_S))
    engine, rows = OnnxEngine(folder / "model.onnx", threads=1), [padded([[WORDS.index("transfer")]])]
    Golden.of(engine, TEXT_ENGINE, rows, tolerance=1e-3).write(folder)
    write_manifest(folder, read_manifest(folder))
    place.repository.publish(folder, ENGINE, version)


def _start_past_crashes(server: TritonServer) -> float:
    """Start it, again where Triton 2.51 itself crashed on the broken version; returns when the last start began."""
    for _ in range(3):
        began = time.monotonic()
        try:
            server.start()
        except StartLost as exc:
            if "ended at once" not in str(exc):
                raise
        else:
            return began
    raise AssertionError("it crashes each time")


def test_a_broken_version_does_not_keep_one_that_loads_slowly_from_being_waited_for(place, monkeypatch):
    """The broken one's process ends after its check; the other one's is at work for longer than a loss may last."""
    monkeypatch.setattr("perennial.ops.serving.server.server._AFTER_LOSS_S", 1.0)
    _slow_to_load(place, 2)
    place.publish(3, golden_error=1.0)
    place.repository.set_versions(ENGINE, (1, 2, 3))
    server = TritonServer(place.spec())
    try:
        began = _start_past_crashes(server)
        assert time.monotonic() - began > _SLOW_S / 2, "the slow version was not slow enough to show anything"
        assert server.alive()
    finally:
        server.stop()


def test_a_server_that_shall_stop_ends_with_its_control_process(place):
    child, successor = _child(place, OnParentDeath.STOP)
    pid = json.loads((place.root / "var" / "triton" / "server.json").read_text())["pid"]
    try:
        _kill(child)
        _eventually(lambda: group_members(pid) == ())
    finally:
        end_group(pid, grace_s=0.0)
    assert successor.start() is False
    assert _answers(successor)
    successor.stop()
