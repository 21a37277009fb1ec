"""A model that is removed or broken: its rows grow old all the same, and no command brings it back."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perennial.continual.errors import NotFound
from perennial.ops.app.service import Service
from perennial.ops.app.wiring import open_parts
from perennial.ops.serving.processes import free_port
from perennial.ops.settings import load_settings
from perennial.ops.store.state import REMOVED, Removal
from perennial.ops.traffic import TrafficLog, TrafficWriter
from tests.component.traffic_rows import columns

_KEEP = {"compact", "retention"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    config = tmp_path / "perennial.toml"
    broken = "[models.broken.learning]\nholdout_share = 0.9\n"
    config.write_text(f"[triton]\ngrpc_port = {free_port()}\n[models.card]\n[models.loan]\n{broken}")
    parts = open_parts(config)
    for model in ("broken", "card", "gone"):
        parts.ledger.register_model(model, {})
    yield Service(parts)
    parts.close()


def _jobs(service: Service, model: str) -> set[str]:
    return {job.partition(":")[0] for job in service._scheduler.facts() if job.endswith(f":{model}")}


def test_the_rows_of_every_model_that_the_ledger_knows_are_kept_for_so_long_and_no_longer(service: Service) -> None:
    assert _jobs(service, "gone") == _KEEP
    assert _jobs(service, "broken") == _KEEP | {"reconcile", "notify"}
    assert _jobs(service, "card") > _KEEP | {"watch", "retrain"}
    service._follower._let_go("loan")
    assert _jobs(service, "loan") == _KEEP


def test_each_model_is_watched_in_a_thread_of_its_own(service: Service) -> None:
    lanes = {name: spec.lane for name, spec in service._scheduler._specs.items() if name.startswith("watch:")}
    assert len(lanes) == len(set(lanes.values())) == 2


def test_models_divide_the_share_of_the_processors_that_watching_may_take(service: Service) -> None:
    most = service.roster.parts.settings.schedule.watch_share
    assert [loop.watch_share for loop in service.roster.loops.values()] == [most / 2] * 2


def test_a_model_whose_section_breaks_later_keeps_its_task(service: Service, tmp_path: Path) -> None:
    config = tmp_path / "perennial.toml"
    broken = '[models.shelf]\ntask = "ranking"\n[models.shelf.learning]\nholdout_share = 0.9\n'
    config.write_text(config.read_text() + broken)
    service.roster.follow(load_settings(config))
    assert "models.shelf.learning.holdout_share" in service.roster.broken["shelf"]
    assert service.roster.parts.settings.task_of("shelf") == "ranking"


def test_a_model_of_rewrites_that_comes_later_is_let_go_with_its_streams(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, unloaded = tmp_path / "perennial.toml", list[str]()
    config.write_text(config.read_text() + '[models.desk]\ntask = "generation"\n')
    service.roster.follow(load_settings(config))
    held = SimpleNamespace(url="here", unload=unloaded.append)
    monkeypatch.setattr(service.roster.parts.reconciler, "_controls", (held,))
    service.roster.drop("desk")
    service.servers.let_go("desk")
    assert unloaded == ["desk", "desk_stream", "desk_engine"]


def test_old_rows_and_reports_of_a_removed_model_go_and_new_ones_stay(service: Service) -> None:
    workspace, now = service.roster.parts.workspace, datetime.now(UTC)
    days = workspace.settings.traffic.retention_days
    writer = TrafficWriter(workspace.traffic("gone"), "router")
    writer.append({**columns([0, 1], dimension=None), "at": [now - timedelta(days=days + 1), now]})
    writer.close()
    reports = workspace.reports("gone") / "evidently"
    reports.mkdir(parents=True)
    for name in ("old.html", "new.html"):
        (reports / name).write_text("what somebody wrote")
    long_ago = now.timestamp() - (days + 1) * 86_400
    (reports / "last").symlink_to("gone.html")  # what it leads to went before
    (reports / "folder").symlink_to(workspace.reports("card"), target_is_directory=True)
    workspace.reports("card").mkdir(parents=True)
    for name in ("old.html", "last", "folder"):
        os.utime(reports / name, (long_ago, long_ago), follow_symlinks=False)
    kept = service.roster.rows_of("gone")
    summary = kept.retain_unserved()
    assert summary.startswith("1 traffic rows, 0 rows of history")
    assert TrafficLog(workspace.traffic("gone")).count() == 1
    assert [path.name for path in reports.iterdir()] == ["new.html"]
    assert workspace.reports("card").is_dir(), "only the link to it goes"
    kept.compact()
    assert TrafficLog(workspace.traffic("gone")).count() == 1


@pytest.mark.parametrize("command", ["promote", "roll back", "roll back to"])
def test_no_command_puts_a_version_of_a_removed_model_into_its_place(service: Service, command: str) -> None:
    gone = Removal(by="ann", at="2026-03-01T12:00:00+00:00")
    REMOVED.keep(service.roster.parts.ledger, "card", gone)
    control, audit = service.control, {"actor": "ann", "reason": "a test"}
    commands: dict[str, Callable[[], Any]] = {
        "promote": lambda: control.promote("card", 1, **audit),
        "roll back": lambda: control.roll_back("card", to=None, **audit),
        "roll back to": lambda: control.roll_back("card", to=1, **audit),
    }
    with pytest.raises(NotFound, match="card was removed"):
        commands[command]()
