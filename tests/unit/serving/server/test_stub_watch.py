"""Which stubs are missed, whatever the moment at which they died."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from perennial.ops.serving.control import IndexEntry
from perennial.ops.serving.processes import ended_members
from perennial.ops.serving.server import stubs
from perennial.ops.serving.server.stubs import StubWatch


@dataclass
class Server:
    """Stub processes by id, and what Triton says; each may change between two questions."""

    living: dict[int, str]
    ready: list[tuple[str, int]]
    between: list[Callable[[], None]] = field(default_factory=list)

    def index(self) -> tuple[IndexEntry, ...]:
        if self.between:
            self.between.pop(0)()
        return tuple(IndexEntry(model=m, version=v, state="READY", reason="") for m, v in self.ready)

    def instances(self, model: str) -> int:
        return 1


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server({10: "intent_0_0", 11: "intent_engine_0_0"}, [("intent", 1), ("intent_engine", 1)])
    monkeypatch.setattr(stubs, "stubs_of", lambda _: dict(server.living))
    monkeypatch.setattr(stubs, "start_ticks", lambda pid: pid * 7 if pid in server.living else None)
    return server


@pytest.fixture
def watch(server: Server) -> StubWatch:
    made = StubWatch("127.0.0.1:1", str)
    made.close()
    made._control = server  # type: ignore[assignment]
    made.learn(1)
    return made


def test_nothing_is_lost_while_all_live(watch: StubWatch) -> None:
    assert watch.lost(1) == watch.missing(1) == ()


def test_a_death_is_seen_even_when_the_stubs_were_looked_at_right_after_it(watch: StubWatch, server: Server) -> None:
    del server.living[11]
    watch.learn(1)
    assert watch.lost(1) == ("intent_engine",)


def test_an_unloaded_version_is_no_loss(watch: StubWatch, server: Server) -> None:
    del server.living[11]
    server.ready.pop()
    assert watch.lost(1) == ()
    server.ready.append(("intent_engine", 1))
    server.living[12] = "intent_engine_0_0"
    assert watch.lost(1) == watch.missing(1) == ()


def test_a_death_that_nobody_saw_is_found_missing(watch: StubWatch, server: Server) -> None:
    watch.forget()
    del server.living[11]
    watch.learn(1)
    assert watch.lost(1) == ()
    assert watch.missing(1) == ("intent_engine",)


def test_a_version_that_comes_up_between_two_questions_is_not_missing(watch: StubWatch, server: Server) -> None:
    def arrives() -> None:
        server.living[12] = "intent_engine_0_0"
        server.ready.append(("intent_engine", 2))

    server.between.append(arrives)
    assert watch.missing(1) == ()
    assert len(server.ready) == 3


def test_losses_of_several_models_are_all_named(watch: StubWatch, server: Server) -> None:
    del server.living[10], server.living[11]
    assert watch.lost(1) == watch.missing(1) == ("intent", "intent_engine")


@pytest.mark.parametrize(
    ("ended", "loading", "begun", "stuck"),
    [
        ([20], ["intent"], [], True),
        ([20], ["intent"], ["intent_0_0"], False),  # another process of it lives: it may take its time
        ([], ["intent"], [], False),  # a backend that needs no process of ours
        ([20], [], [], False),
        ([9], ["intent"], [], False),  # it had ended before
        ([10], ["intent"], [], False),  # one that was counted on is the supervisor's own matter
        ([20], ["intent", "intent_engine"], ["intent_0_0"], True),
    ],
)
def test_a_load_is_stuck_that_waits_for_a_dead_process(
    watch: StubWatch,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    ended: list[int],
    loading: list[str],
    begun: list[str],
    stuck: bool,
) -> None:
    monkeypatch.setattr(stubs, "ended_members", lambda _: tuple(ended))
    monkeypatch.setattr(
        server, "index", lambda: tuple(IndexEntry(model=m, version=2, state="LOADING", reason="") for m in loading)
    )
    server.living.update(enumerate(begun, start=30))
    assert watch.load_is_stuck(1, [9]) == stuck


def test_ended_processes_of_a_group_are_those_that_nobody_asked_about() -> None:
    leaves = "import subprocess, time; ended = subprocess.Popen(['true']); print(flush=True); time.sleep(60)"
    command = [sys.executable, "-c", leaves]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as leader:
        try:
            leader.stdout.readline()  # type: ignore[union-attr]
            end = time.monotonic() + 20
            while not ended_members(leader.pid):
                assert time.monotonic() < end
                time.sleep(0.01)
            assert leader.pid not in ended_members(leader.pid)
        finally:
            leader.kill()
