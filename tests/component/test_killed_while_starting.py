"""Processes of the real Triton that are killed while `serve` starts: it starts them again until it is told to stop."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from perennial.ops.app.service import Service
from perennial.ops.serving.processes import group_members
from perennial.ops.serving.server.stubs import stubs_of
from tests.component.test_service_starts import Town
from tests.component.triton_fixtures import ENGINE, MODEL

pytestmark = [pytest.mark.component, pytest.mark.paired]


class _Killer(threading.Thread):
    """Kills a process of each server that starts, as soon as it is there, so many times; each process once."""

    def __init__(self, town: Town, what: str, times: int, after_s: float) -> None:
        super().__init__(daemon=True)
        self._town, self._what, self._times, self._after_s = town, what, times, after_s
        self.killed: set[int] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set() and len(self.killed) < self._times:
            if (pid := self._seen()) is not None and pid not in self.killed:
                time.sleep(self._after_s)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self.killed.add(pid)
            time.sleep(0.002)

    def _seen(self) -> int | None:
        try:
            server, _ = self._town.triton()
        except (OSError, ValueError, KeyError):
            return None
        if self._what == "server":
            return server if server in group_members(server) else None
        wanted = {"router": f"{MODEL}_0", "engine": f"{ENGINE}_0"}[self._what]
        return next((pid for pid, name in stubs_of(server).items() if name.startswith(wanted)), None)


@pytest.fixture(name="town")
def _town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    try:
        yield town
    finally:
        town.server.stop()


@pytest.fixture
def serving(town: Town) -> Iterator[Service]:
    service = Service(town.opened())
    yield service
    service.stop()


@pytest.mark.parametrize(
    ("what", "after_s"),
    [
        ("server", 0.0),
        ("router", 0.0),
        ("router", 0.005),
        ("engine", 0.0),
    ],  # Triton waits for ever for what dies at 5 ms
    ids=["server", "router", "router-5-ms", "engine"],
)
def test_what_is_killed_during_a_start_is_started_again(
    town: Town, serving: Service, what: str, after_s: float
) -> None:
    killer = _Killer(town, what, times=2, after_s=after_s)
    killer.start()
    serving.start()
    end = time.monotonic() + 120
    while len(killer.killed) < 2 or town.answering() != 2:
        assert time.monotonic() < end, f"killed {len(killer.killed)}, answering: {town.answering()}"
        time.sleep(0.2)
    killer.over.set()
    assert len(killer.killed) == 2
    while not serving.control.health().healthy:
        assert time.monotonic() < end, serving.control.health()
        time.sleep(0.2)
