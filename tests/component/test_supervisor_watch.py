"""What the supervisor makes of errors: its own, the disk's and the probes'."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perennial.continual.errors import DependencyUnreachable, PublishFailed
from perennial.ops.serving.probe import ChampionSilent
from perennial.ops.serving.processes import free_port, is_listening
from perennial.ops.serving.server import front_door
from perennial.ops.serving.server import server as server_module
from perennial.ops.serving.server.server import ServerSpec, TritonServer
from perennial.ops.serving.server.supervisor import Supervisor
from perennial.ops.serving.server_record import FILE, KeptSecret

pytestmark = [pytest.mark.component, pytest.mark.alone]
_DISK_FULL = OSError(28, "No space left on device")


class Steady:
    """A server that lives as long as nobody says otherwise; `refusal` is what its next starts raise."""

    launched = True

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self.kept_secret = KeptSecret(spec.folder / FILE)
        self.pid: int | None = None
        self.refusal: Exception | None = None
        self.starts = 0

    def start(self, cancel: Any) -> bool:
        del cancel
        self.starts += 1
        if self.refusal is not None:
            raise self.refusal
        self.pid = os.getpid()
        return False

    def kill(self) -> None:
        self.pid = None

    def alive(self) -> bool:
        return self.pid is not None

    def stop(self) -> None:
        self.pid = None


class Watched:
    """A supervisor of a steady server, and the errors that its parts raise from now on."""

    def __init__(self, server: Steady) -> None:
        self.server = server
        self.models_error: Exception | None = None
        self.probe_error: Exception | None = None
        self.turns: Iterator[Exception | None] = iter(lambda: self.probe_error, ...)
        self.settle_error: Exception | None = None
        self.worth_restart = True
        self.hold: threading.Event | None = None
        self.held = False
        self.probes = 0
        self.supervisor = Supervisor(
            server,  # type: ignore[arg-type]
            models=self._models,
            probe=self._probe,
            on_started=self._settle,
            worth_restart=lambda _: self.worth_restart,
            interval_s=0.02,
            failures=3,
        )

    def _models(self) -> list[str]:
        if self.models_error is not None:
            raise self.models_error
        return []

    def _probe(self) -> None:
        self.probes += 1
        if (error := next(self.turns)) is not None:
            raise error

    def _settle(self) -> None:
        if self.hold is not None:
            self.held = True
            self.hold.wait()
        if self.settle_error is not None:
            raise self.settle_error

    def see_probes(self, count: int) -> None:
        seen = self.probes
        eventually(lambda: self.probes >= seen + count)


def eventually(what: Callable[[], bool], within_s: float = 120.0) -> None:
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, f"not so within {within_s} s"
        time.sleep(0.01)


@pytest.fixture
def watched(tmp_path, monkeypatch) -> Iterator[Watched]:
    monkeypatch.setattr("perennial.ops.serving.server.supervisor._SILENT_S", 0.2)
    watched = Watched(Steady(ServerSpec(folder=tmp_path, repository=tmp_path, grpc_port=free_port())))
    yield watched
    watched.supervisor.stop()


@pytest.mark.parametrize("how", ["lost", "missing"])
def test_a_lost_process_restarts_the_server_when_that_is_worth_it_and_not_before(watched, monkeypatch, how):
    supervisor = watched.supervisor
    gone = threading.Event()

    def short(_: int) -> tuple[str, ...]:
        return ("intent_engine",) if gone.is_set() and not supervisor.restarts else ()  # a new server has all of them

    monkeypatch.setattr(supervisor._stubs, how, short)
    supervisor.start()
    watched.worth_restart = False
    gone.set()
    watched.see_probes(5)
    assert supervisor.restarts == 0
    watched.worth_restart = True
    eventually(lambda: supervisor.restarts == 1)
    watched.see_probes(5)
    assert supervisor.restarts == 1


@pytest.mark.parametrize("hangs", ["the probe", "what follows a start"])
def test_a_stop_waits_for_nothing_that_hangs(watched, hangs):
    let_go = threading.Event()
    watched.supervisor.start()
    if hangs == "the probe":
        watched.turns = iter(let_go.wait, ...)
        watched.see_probes(1)
    else:
        watched.settle_error = _DISK_FULL
        watched.hold = let_go
        watched.server.pid = None
        eventually(lambda: watched.held)
    stopping = threading.Thread(target=watched.supervisor.stop, kwargs={"within_s": 0.2}, daemon=True)
    stopping.start()
    stopping.join(120)
    ended, pid = not stopping.is_alive(), watched.server.pid
    let_go.set()
    assert ended, "it waits for what hangs"
    assert pid is None, "the server ends all the same"


@pytest.mark.parametrize("where", ["models", "start"])
def test_a_start_that_meets_a_full_disk_is_tried_again_until_there_is_room(watched, where):
    watched.supervisor.start()
    watched.models_error = _DISK_FULL if where == "models" else None
    watched.server.refusal = _DISK_FULL if where == "start" else None
    watched.server.pid = None
    eventually(lambda: watched.supervisor.restarts >= 3)
    assert not watched.supervisor.healthy
    watched.models_error = watched.server.refusal = None
    eventually(lambda: watched.supervisor.healthy)


@pytest.mark.parametrize("error", [_DISK_FULL, ValueError("a fault of our own")])
def test_a_first_start_never_returns_as_if_all_were_well(watched, error):
    watched.server.refusal = error
    with pytest.raises(type(error), match=str(error).rpartition("]")[2].strip()):
        watched.supervisor.start()


def test_what_cannot_be_settled_for_lack_of_room_is_tried_again(watched):
    watched.settle_error = _DISK_FULL
    watched.supervisor.start()
    assert "No space left" in watched.supervisor.unsettled
    watched.settle_error = None
    eventually(lambda: watched.supervisor.healthy)
    assert watched.supervisor.restarts == 0


def test_a_probe_that_breaks_by_our_own_fault_is_no_good_one_and_no_reason_for_a_restart(watched):
    watched.supervisor.start()
    watched.probe_error = ValueError("a fault of our own")
    eventually(lambda: not watched.supervisor.healthy)
    watched.see_probes(8)
    assert watched.supervisor.restarts == 0
    watched.probe_error = None
    eventually(lambda: watched.supervisor.healthy)


def test_a_look_that_breaks_does_not_end_the_watch(watched, monkeypatch):
    watched.supervisor.start()
    broken = threading.Event()

    def lost(pid: int) -> str:
        del pid
        broken.set()
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(watched.supervisor._stubs, "lost", lost)
        assert broken.wait(120)
        eventually(lambda: not watched.supervisor.healthy)
    eventually(lambda: watched.supervisor.healthy)


def test_a_server_that_refuses_is_restarted_after_so_many_looks(watched):
    watched.supervisor.start()
    watched.probe_error = PublishFailed("nobody answers")
    eventually(lambda: watched.supervisor.restarts >= 1)
    watched.probe_error = None
    eventually(lambda: watched.supervisor.healthy)


def test_a_champion_that_stays_silent_costs_one_restart_and_one_line_and_is_seen(watched, caplog):
    watched.supervisor.start()
    watched.probe_error = ChampionSilent("version 2 fails on every text")
    eventually(lambda: watched.supervisor.restarts == 1)
    for _ in range(3):
        watched.see_probes(4)
        assert not watched.supervisor.healthy
    assert watched.supervisor.restarts == 1
    assert [r.message for r in caplog.records].count("triton.champion_silent") == 1
    assert "triton.probe_failed" not in caplog.text
    watched.probe_error = None
    eventually(lambda: watched.supervisor.healthy)


def test_a_silence_that_a_rollback_ends_in_time_costs_no_restart(watched, monkeypatch):
    monkeypatch.setattr("perennial.ops.serving.server.supervisor._SILENT_S", 60.0)
    watched.supervisor.start()
    watched.probe_error = ChampionSilent("version 2 fails on every text")
    watched.see_probes(20)
    assert not watched.supervisor.healthy
    watched.probe_error = None
    watched.see_probes(6)
    assert (watched.supervisor.restarts, watched.supervisor.healthy) == (0, True)


def test_a_champion_that_speaks_now_and_then_is_the_same_silence(watched):
    watched.turns = itertools.cycle([*[ChampionSilent("version 2 fails")] * 4, None, None])
    watched.supervisor.start()
    watched.see_probes(30)
    assert watched.supervisor.restarts == 1


def test_a_champion_that_was_good_again_is_worth_a_restart_the_next_time(watched):
    watched.supervisor.start()
    for restarts in (1, 2):
        watched.probe_error = ChampionSilent("version 2 fails on every text")
        eventually(lambda n=restarts: watched.supervisor.restarts == n)
        watched.probe_error = None
        watched.see_probes(6)
        assert watched.supervisor.healthy


def test_a_silent_champion_whose_substitute_fails_too_is_restarted(watched):
    watched.supervisor.start()
    watched.probe_error = ChampionSilent("version 2 fails on every text")
    eventually(lambda: watched.supervisor.restarts == 1)
    watched.probe_error = DependencyUnreachable("nobody answers")
    eventually(lambda: watched.supervisor.restarts >= 2)


@pytest.mark.parametrize("where", ["assemble", "server.json", "door.json"])
def test_a_server_that_cannot_be_started_for_lack_of_room_says_so_and_leaves_no_process(tmp_path, monkeypatch, where):
    spec = ServerSpec(
        folder=tmp_path / "triton",
        repository=tmp_path,
        grpc_port=free_port(),
        http_port=free_port(),
        metrics_port=free_port(),
    )
    server = TritonServer(spec)

    def fail(*_: object, **__: object) -> None:
        raise _DISK_FULL

    if where == "assemble":
        monkeypatch.setattr(server_module, "assemble", fail)
    elif where == "server.json":
        monkeypatch.setattr(server_module.ServerRecord, "keep", fail)
    else:
        monkeypatch.setattr(front_door, "write_atomically", fail)
    with pytest.raises(DependencyUnreachable, match="No space left on device; make room there"):
        server.start()
    assert not server.launched
    assert not server.alive()
    assert server.door.pid is None
    assert not is_listening(f"127.0.0.1:{spec.http_port}")
