"""How long the supervisor lets a server lie that dies again and again."""

import os
import time
from collections.abc import Sequence
from typing import Any

import pytest

from perennial.continual.errors import DependencyUnreachable
from perennial.ops.serving.server import supervisor as module
from perennial.ops.serving.server.server import ServerSpec
from perennial.ops.serving.server.supervisor import Supervisor
from perennial.ops.serving.server_record import FILE, KeptSecret

pytestmark = [pytest.mark.component, pytest.mark.alone]


def _away() -> None:
    raise DependencyUnreachable("this server is only a process id")


class Frail:
    """A server whose starts succeed or fail as told, and that dies right after a start."""

    def __init__(self, spec: ServerSpec, fails: Sequence[bool]) -> None:
        self.spec, self._fails = spec, iter(fails)
        self.kept_secret = KeptSecret(spec.folder / FILE)
        self.pid: int | None = None
        self.started: list[float] = []
        self.killed: list[float] = []

    def start(self, cancel: Any) -> bool:
        del cancel
        self.started.append(time.monotonic())
        if (fails := next(self._fails, None)) is None:
            self.pid = os.getpid()  # it lives from now on
        elif fails:
            raise DependencyUnreachable("it ended at once")
        return False

    def kill(self) -> None:
        self.killed.append(time.monotonic())

    def alive(self) -> bool:
        return self.pid is not None

    def stop(self) -> None:
        self.pid = None

    @property
    def pauses(self) -> list[float]:
        return [start - kill for kill, start in zip(self.killed, self.started[1:], strict=False)]


@pytest.fixture
def watch(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PROVEN_PAUSE_S", 0.15)

    def run(fails: Sequence[bool]) -> Frail:
        server = Frail(ServerSpec(folder=tmp_path, repository=tmp_path), fails)
        supervisor = Supervisor(server, models=list, probe=_away, on_started=lambda: None)  # type: ignore[arg-type]
        supervisor.start()
        end = time.monotonic() + 20
        while server.pid is None and time.monotonic() < end:
            time.sleep(0.01)
        assert supervisor.restarts == len(fails)
        supervisor.stop()
        return server

    return run


def test_a_server_that_comes_up_and_dies_is_missed_only_shortly(watch):
    pauses = watch([False] * 6).pauses
    assert len(pauses) == 6
    assert max(pauses) < 0.5, "its starts work: a longer pause would only be a longer outage"
    assert pauses[-1] >= 0.15


def test_starts_that_fail_are_tried_more_and_more_rarely(watch):
    pauses = watch([False, *[True] * 4]).pauses
    assert pauses[-1] >= 0.6
    assert pauses == sorted(pauses)
