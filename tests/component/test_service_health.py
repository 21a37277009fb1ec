"""What a running service tells of its parts, on the real Triton and databases that go away."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from perennial.continual.records import Route
from perennial.ops.app.service import Service
from perennial.ops.app.service_health import ServiceHealth
from perennial.ops.ledger import Ledger
from perennial.ops.safety.tokens import hashed, new_token
from perennial.ops.scheduling.scheduler import LoopScheduler
from perennial.ops.serving.router.progress import Progress
from perennial.ops.serving.router_losses import RouterLosses
from perennial.ops.store.steady_clock import SteadyClock
from perennial.ops.traffic import TrafficLog
from tests.component.databases import PostgresServer
from tests.component.test_service_starts import Town
from tests.component.triton_fixtures import MODEL

pytestmark = [pytest.mark.component, pytest.mark.paired]
_OWN_PARTS = ("triton", "scheduler", f"model:{MODEL}")  # which /healthz tells of beside its `parts`


@pytest.fixture(name="town")
def _town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    try:
        yield town
    finally:
        town.server.stop()


def _until(true: Callable[[], bool], what: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, what()
        time.sleep(0.2)


def test_health_tells_each_part_and_a_lost_database(town: Town) -> None:
    database = PostgresServer.start()
    service, text = None, town.config.read_text()
    try:
        with Ledger.open(database.url()) as ledger:
            ledger.register_model(MODEL, {})
            route = Route(model=MODEL, epoch=1, champion=2, previous=1, resident=(1, 2))
            ledger.set_route(route, expected_epoch=0, actor="test", reason="first")
        town.config.write_text(f'ledger_url = "{database.url()}"\n{text}')
        service = Service(town.opened())
        service.start()
        url = f"http://127.0.0.1:{town.api}/healthz"

        def health() -> dict[str, Any]:
            answer: dict[str, Any] = httpx.get(url, timeout=20).json()
            return answer

        _until(lambda: httpx.get(url, timeout=20).status_code == 200, health)
        parts = health()["parts"]
        names = {
            "ledger",
            "disk",
            "clock",
            f"traffic:{MODEL}",
            f"router:{MODEL}",
            f"job:watch:{MODEL}",
            f"job:reconcile:{MODEL}",
        }
        assert names <= set(parts)
        assert all(part["healthy"] for part in parts.values())
        assert httpx.get(f"{url}/ready", timeout=20).json()["control"]["ready"]
        succeeded = f'perennial_job_last_success_timestamp_seconds{{job="notify",model="{MODEL}"}}'
        _until(lambda: abs(time.time() - _metrics(town).get(succeeded, 0.0)) < 30, lambda: _metrics(town))
        well = {name: value for name, value in _metrics(town).items() if name.startswith("perennial_part_healthy")}
        assert well == {
            f'perennial_part_healthy{{part="{part}"}}': 1.0
            for part in ("triton", "scheduler", f"model:{MODEL}", *parts)
        }
        aside = town.place.root / "var" / "traffic" / MODEL / "quarantine"
        aside.mkdir(parents=True)
        (aside / "some.parquet").write_text("?")
        _until(lambda: "1 damaged file" in health()["parts"][f"traffic:{MODEL}"].get("note", ""), health)
        town.config.write_text(text)  # for the questions below, which open the workspace
        database.stop()
        _until(lambda: health()["unhealthy"] != [], health)
        _until(lambda: "ledger" in health()["unhealthy"], health)
        began = time.monotonic()
        assert httpx.get(url, timeout=20).status_code == 503
        assert time.monotonic() - began < 4.0, "health waits for the database"
        assert httpx.get(f"{url}/live", timeout=20).status_code == 200
        ready = httpx.get(f"{url}/ready", timeout=20)
        assert (ready.status_code, ready.json()["serving"]) == (200, {MODEL: "ok"})
        assert not ready.json()["control"]["ready"]
        assert town.answering() == 2
        assert _metrics(town)['perennial_part_healthy{part="ledger"}'] == 0
        listed = httpx.get(f"http://127.0.0.1:{town.api}/v1/status", timeout=20).json()
        assert not listed["healthy"]
        assert "ledger" in [part["part"] for part in listed["parts"][: len(health()["unhealthy"])]]
        seen = _status(town, "--json")
        assert json.loads(seen.stdout)["serve"]["health"]["unhealthy"] == health()["unhealthy"]
        table = [line for line in _status(town).stdout.splitlines() if " yes " in line or " NO " in line]
        wrong = [" NO " in line for line in table]
        assert wrong == sorted(wrong, reverse=True), "the unhealthy parts come first"
        assert any("ledger" in line for line in table[: sum(wrong)])
    finally:
        if service is not None:
            service.stop()
        town.config.write_text(text)
        database.stop()
    ended = _status(town)
    assert "`perennial serve` does not run here" in ended.stderr
    assert json.loads(_status(town, "--json").stdout)["serve"] == {"running": False, "pid": None, "health": None}


def _metrics(town: Town) -> dict[str, float]:
    exposition = httpx.get(f"http://127.0.0.1:{town.api}/metrics", timeout=20).text
    lines = [line.rpartition(" ") for line in exposition.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def _status(town: Town, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "perennial.ops.cli", "status", "--config", str(town.config), *more]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "COLUMNS": "200"}
    )


def test_status_tells_the_parts_where_the_api_asks_for_tokens(town: Town) -> None:
    token = new_token()
    town.config.write_text(f'{town.config.read_text()}[api.tokens]\n"{hashed(token)}" = "viewer"\n')
    service = Service(town.opened())
    log = town.place.root / "var" / "traffic" / MODEL
    log.mkdir(parents=True)
    (log / "live").write_text("no folder, so that no row can be written")
    try:
        service.start()
        assert town.answering() == 2
        _until(lambda: "1 rows wait in memory" in _status(town).stdout, lambda: _status(town).stdout)
        url = f"http://127.0.0.1:{town.api}/v1/status"
        assert httpx.get(url, timeout=20).status_code == 401
        listed = httpx.get(url, timeout=20, headers={"Authorization": f"Bearer {token}"}).json()
        serve = json.loads(_status(town, "--json").stdout)["serve"]
        assert (serve["running"], serve["pid"]) == (True, os.getpid())
        assert {part["part"] for part in listed["parts"]} == {
            *serve["health"]["parts"],
            "triton",
            "scheduler",
            f"model:{MODEL}",
        }
        assert "disk" in _status(town).stdout
        kept = town.place.root / "var" / "serve.json"
        assert kept.stat().st_mode & 0o077 == 0
    finally:
        service.stop()
    assert not kept.exists()


def test_rows_that_routers_drop_make_their_part_unhealthy(tmp_path: Path) -> None:
    parts = Town(tmp_path).opened()
    losses = RouterLosses()
    log = TrafficLog(parts.workspace.traffic(MODEL))
    clock = SteadyClock(parts.workspace.state / "clock.json", stands_s=60.0)
    health = ServiceHealth(parts, LoopScheduler(parts.ledger, []), losses, clock)
    health.add(MODEL, log)
    try:
        losses.saw(MODEL, "a", Progress(process=1, rows_lost=70))
        health.start()
        _until(lambda: health.parts()[f"router:{MODEL}"].note != "", health.parts)
        assert health.parts()[f"router:{MODEL}"].healthy, "those 70 may be long ago"
        losses.saw(MODEL, "a", Progress(process=1, rows_lost=75, rows_waiting=50_000))
        _until(lambda: not health.parts()[f"router:{MODEL}"].healthy, health.parts)
        error = health.parts()[f"router:{MODEL}"].error
        assert "dropped 5 rows" in error
        assert "75 since they started, and 50000 wait in memory" in error
        assert str(parts.workspace.traffic(MODEL)) in error
    finally:
        health.stop()
        parts.close()
