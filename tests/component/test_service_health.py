"""What a running service tells of its parts, on the real Triton and databases that go away."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from perennial.continual.records import Route
from perennial.ops.app.service import Service
from perennial.ops.ledger import Ledger
from tests.component.databases import PostgresServer
from tests.component.test_service_starts import Town
from tests.component.triton_fixtures import MODEL

pytestmark = pytest.mark.component


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

        def told() -> dict[str, Any]:
            answer: dict[str, Any] = httpx.get(url, timeout=20).json()
            return answer

        _until(lambda: httpx.get(url, timeout=20).status_code == 200, told)
        parts = told()["parts"]
        names = {"ledger", "disk", "clock", f"traffic:{MODEL}", f"job:watch:{MODEL}", f"job:reconcile:{MODEL}"}
        assert names <= set(parts)
        assert all(part["healthy"] for part in parts.values())
        assert httpx.get(f"{url}/ready", timeout=20).json()["control"]["ready"]
        aside = town.place.root / "var" / "traffic" / MODEL / "quarantine"
        aside.mkdir(parents=True)
        (aside / "some.parquet").write_text("?")
        _until(lambda: "1 damaged file" in told()["parts"][f"traffic:{MODEL}"].get("note", ""), told)
        town.config.write_text(text)  # for the questions below, which open the workspace
        database.stop()
        _until(lambda: told()["unhealthy"] != [], told)
        _until(lambda: "ledger" in told()["unhealthy"], told)
        began = time.monotonic()
        assert httpx.get(url, timeout=20).status_code == 503
        assert time.monotonic() - began < 4.0, "health waits for the database"
        assert httpx.get(f"{url}/live", timeout=20).status_code == 200
        ready = httpx.get(f"{url}/ready", timeout=20)
        assert (ready.status_code, ready.json()["serving"]) == (200, {MODEL: "ok"})
        assert not ready.json()["control"]["ready"]
        assert town.answering() == 2
    finally:
        if service is not None:
            service.stop()
        town.config.write_text(text)
        database.stop()
