"""A service that is told to stop tells everybody before it waits for anybody, and waits for nothing for ever."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.ops.app.service import Service
from perennial.ops.app.wiring import open_parts
from perennial.ops.serving.processes import free_port
from perennial.ops.settings import Settings, load_settings


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    config = tmp_path / "perennial.toml"
    config.write_text(f"[triton]\ngrpc_port = {free_port()}\n[models.card]\n[models.loan]\n")
    parts = open_parts(config)
    yield Service(parts)
    parts.close()


def test_everybody_is_told_before_anybody_is_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[dict[str, bool]]()
    supervisor, follower, scheduler = service.servers.supervisor, service._follower, service._scheduler

    def look(*, within_s: float) -> bool:
        assert within_s > 0
        runners = {name: loop.runner._stop.is_set() for name, loop in service.roster.loops.items()}
        assert supervisor is not None
        stopping = {"supervisor": supervisor._stop.is_set(), "scheduler": scheduler._stopping.is_set()}
        seen.append({**runners, **stopping})
        return True

    monkeypatch.setattr(follower, "stop", look)
    service.stop()
    assert seen == [{"card": True, "loan": True, "supervisor": True, "scheduler": True}]


def test_a_look_at_the_settings_that_hangs_is_named_and_holds_up_no_stop(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, let_go = threading.Event(), threading.Event()

    def read(path: Path | None) -> Settings:
        reading.set()
        let_go.wait()
        return load_settings(path)

    monkeypatch.setattr("perennial.ops.app.following._LOOK_S", 0.01)
    monkeypatch.setattr("perennial.ops.app.service._STOP_S", 0.2)
    monkeypatch.setattr(service._follower, "_read", read)
    service._follower.start()
    assert reading.wait(60)
    began = time.monotonic()
    service.stop()
    assert time.monotonic() - began < 30.0
    assert service.hung == ("the look at the settings file",)
    let_go.set()
