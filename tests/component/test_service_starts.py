"""What a start of `serve`, and a restart of its Triton, makes of a workspace that is not as it should be."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perennial.continual.errors import DependencyUnreachable, PerennialError
from perennial.continual.records import Route
from perennial.ops.app.service import Service
from perennial.ops.app.wiring import open_parts, server_spec
from perennial.ops.ledger import Ledger
from perennial.ops.parts import Parts
from perennial.ops.serving.client import PerennialClient
from perennial.ops.serving.processes import free_port, is_running
from perennial.ops.serving.server.server import TritonServer
from tests.component.triton_fixtures import ENGINE, MODEL, Place

pytestmark = [pytest.mark.component, pytest.mark.paired]
_TOML = """
state = "var"
repository = "model_repository"
[triton]
grpc_port = {grpc}
http_port = {http}
metrics_port = {metrics}
router_instances = 1
engine_threads = 1
[api]
port = {api}
[schedule]
watch_s = 600
retrain_check_s = 600
reconcile_s = 600
"""
_KILLED = """
import os, signal, sys
from pathlib import Path
from perennial.ops.ledger import Ledger
from perennial.ops.app.service import Service
from perennial.ops.app.wiring import open_parts

Service(open_parts(Path(sys.argv[1]))).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


class Town:
    """A workspace with two versions, of which 2 is champion, and the parts of one `serve` after another."""

    def __init__(self, root: Path) -> None:
        self.config = root / "perennial.toml"
        self.api = free_port()
        ports = {name: free_port() for name in ("grpc", "http", "metrics")}
        self.config.write_text(_TOML.format(**ports, api=self.api))
        self.place = Place(root)
        with self.opened().ledger as ledger:
            ledger.register_model(MODEL, {})
            route = Route(model=MODEL, epoch=1, champion=2, previous=1, resident=(1, 2))
            ledger.set_route(route, expected_epoch=0, actor="test", reason="first")
        for version in (1, 2):
            self.place.publish(version)

    def opened(self) -> Parts:
        return open_parts(self.config)

    @property
    def server(self) -> TritonServer:
        return TritonServer(server_spec(self.opened().settings))

    def lose(self, version: int) -> None:
        (self.place.repository.root / ENGINE / str(version)).rename(self.place.root / f"lost-{version}")

    def answering(self) -> int | None:
        with PerennialClient(self.server.spec.url, MODEL, timeout_s=2.0) as client:
            try:
                return client.predict(["card lost"])[0].version
            except PerennialError:
                return None

    def left_behind(self) -> tuple[int, int]:
        """The server of a control process that was killed."""
        command = [sys.executable, "-c", _KILLED, str(self.config)]
        ended = subprocess.run(command, timeout=120, check=False, cwd=Path(__file__).parents[2])
        assert ended.returncode == -signal.SIGKILL
        assert self.answering() == 2
        return self.triton()

    def triton(self) -> tuple[int, int]:
        """Process id and start of the server that `server.json` names."""
        record = json.loads((self.place.root / "var" / "triton" / "server.json").read_text())
        return record["pid"], record["ticks"]


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    try:
        yield town
    finally:
        town.server.stop()


@pytest.fixture
def signals() -> Iterator[None]:
    """`Service.run` takes two signals for itself."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _eventually(what: Callable[[], bool], within_s: float) -> None:
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, f"not so within {within_s} s"
        time.sleep(0.1)


def test_a_start_with_a_missing_version_serves_the_others_and_names_it(town):
    town.lose(1)
    parts = town.opened()
    service = Service(parts)
    try:
        service.start()
        assert town.answering() == 2
        assert "versions [1] of intent are in the route but not in" in parts.reconciler.wrong[MODEL, ""]
        assert not service.control.health().healthy
    finally:
        service.stop()


def test_a_restart_with_a_missing_version_serves_the_others(town):
    service = Service(town.opened())
    try:
        service.start()
        assert town.answering() == 2
        before, _ = town.triton()
        town.lose(1)
        os.kill(before, signal.SIGKILL)
        _eventually(lambda: town.answering() == 2, 40)
        assert town.triton()[0] != before
    finally:
        service.stop()


def test_a_start_without_any_version_on_disk_says_what_is_missing(town):
    town.lose(1)
    town.lose(2)
    parts = town.opened()
    service = Service(parts)
    try:
        service.start()
        assert "versions [1, 2] of intent are in the route but not in" in parts.reconciler.wrong[MODEL, ""]
        assert not service.control.health().healthy
    finally:
        service.stop()


@pytest.mark.usefixtures("signals")
def test_a_failed_start_leaves_the_server_that_it_found(town):
    pid, ticks = town.left_behind()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", town.api))
        taken.listen()
        with pytest.raises(DependencyUnreachable, match="control API could not listen"):
            Service(town.opened()).run()
    assert is_running(pid, ticks)
    assert town.answering() == 2


@pytest.mark.usefixtures("signals")
def test_a_start_that_fails_before_it_looks_at_the_server_leaves_it(town, monkeypatch):
    pid, ticks = town.left_behind()
    locked = DependencyUnreachable("database is locked")

    def fail(*_: object) -> None:
        raise locked

    monkeypatch.setattr("perennial.ops.app.service.register", fail)
    with pytest.raises(DependencyUnreachable, match="locked"):
        Service(town.opened()).run()
    assert is_running(pid, ticks)
    assert town.answering() == 2


@pytest.mark.usefixtures("signals")
def test_a_failed_start_ends_the_server_that_it_started(town):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", town.api))
        taken.listen()
        with pytest.raises(DependencyUnreachable, match="control API could not listen"):
            Service(town.opened()).run()
    assert not (town.place.root / "var" / "triton" / "server.json").exists()
    assert town.answering() is None


def test_a_server_is_neither_restarted_nor_kept_down_while_the_ledger_is_away(town, monkeypatch):
    """What to load and whom to probe is in the routers' file too."""
    parts = town.opened()
    service = Service(parts)
    away = threading.Event()
    route = type(parts.ledger).route

    def maybe(ledger: Ledger, model: str) -> Route | None:
        if away.is_set():
            raise DependencyUnreachable("the database is gone")
        return route(ledger, model)

    monkeypatch.setattr(type(parts.ledger), "route", maybe)
    try:
        service.start()
        before, _ = town.triton()
        away.set()
        time.sleep(8)  # more looks than a failing server is given
        assert town.triton()[0] == before
        os.kill(before, signal.SIGKILL)
        _eventually(lambda: town.answering() == 2, 40)
        assert town.triton()[0] != before
    finally:
        away.clear()
        service.stop()


def test_a_model_whose_policy_cannot_be_read_takes_no_other_with_it(town):
    models = f'[models.{MODEL}]\n[models.odd.policy]\nkind = "nonsense"\n'
    town.config.write_text(town.config.read_text() + models)
    parts = town.opened()
    try:
        service = Service(parts)
        assert set(service.roster.loops) == {MODEL}
        assert "nonsense" in service.roster.broken["odd"]
        health = service.control.health()
        assert "model:odd" in health.unhealthy
        assert health.models[MODEL].healthy
    finally:
        parts.close()
